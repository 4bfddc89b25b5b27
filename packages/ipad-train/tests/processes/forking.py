"""Starts commands of ipad-train as real processes without importing everything anew: a process that has, and forks.

Reads a JSON object a line: ``{"arguments": [...], "output": FILE, "file_limit": BYTES or null}`` starts one and answers its
process id; ``{"wait": PID}`` answers its exit code, negative for a signal.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys

import pymilvus
import torch
import uvicorn

from ipad_train.cli import main

del pymilvus, uvicorn


def run(asked: dict) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in the background
    out = os.open(asked["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    if asked.get("file_limit"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (asked["file_limit"],) * 2)
    code = 1
    try:
        main(asked["arguments"], standalone_mode=True)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


torch.set_num_threads(1)
print("ready", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if "wait" in asked:
        print(os.waitstatus_to_exitcode(os.waitpid(asked["wait"], 0)[1]), flush=True)
    elif child := os.fork():
        print(child, flush=True)
    else:
        run(asked)
