"""Commands of ipad-train as real processes that can be waited for and killed, see forking.py."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil


class Commands:
    """Starts commands from a process that has imported everything.

    Args:
        folder: For what they print.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, 0
        self._parent = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("forking.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert self._parent.stdout.readline() == "ready\n"

    def ask(self, **asked: object) -> int:
        self._parent.stdin.write(json.dumps(asked) + "\n")
        self._parent.stdin.flush()
        return int(self._parent.stdout.readline())

    def start(self, *arguments: object, file_limit: int | None = None, **environment: str) -> Running:
        self.number += 1
        output = self.folder / f"command-{self.number}.txt"
        words = [str(each) for each in arguments]
        asked = {"arguments": words, "output": str(output), "file_limit": file_limit, "environment": environment}
        return Running(self, self.ask(**asked), output)

    def start_ranks(self, count: int, *arguments: object) -> list[Running]:
        """The same command in several processes that find each other by the variables that torchrun sets."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
        shared = {**meeting, "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "ACCELERATE_USE_CPU": "true"}
        return [self.start(*arguments, **shared, RANK=str(rank), LOCAL_RANK=str(rank)) for rank in range(count)]

    def run(self, *arguments: object, code: int = 0, file_limit: int | None = None, **environment: str) -> str:
        """The output of a command that ends with the given code."""
        running = self.start(*arguments, file_limit=file_limit, **environment)
        assert running.wait() == code, running.text()
        return running.text()

    def close(self) -> None:
        self._parent.stdin.close()
        self._parent.wait()
        self._parent.stdout.close()


@dataclass
class Running:
    """A command that was started."""

    commands: Commands
    pid: int
    output: Path

    def is_alive(self) -> bool:
        """Whether it still runs; one that has ended is there until it is waited for."""
        return psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE

    def wait(self) -> int:
        """Its exit code, negative for a signal."""
        return self.commands.ask(wait=self.pid)

    def kill(self, number: int = signal.SIGKILL) -> int:
        """Send a signal, and wait for the end."""
        os.kill(self.pid, number)
        return self.wait()

    def text(self) -> str:
        """What it has printed so far."""
        return self.output.read_text(encoding="utf-8") if self.output.exists() else ""
