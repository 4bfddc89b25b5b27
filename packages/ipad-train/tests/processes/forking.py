"""Starts commands of ipad-train as real processes without importing everything anew: a process that has, and forks.

Reads a JSON object a line. One with ``arguments``, ``output`` (a file), ``file_limit`` (bytes or null) and ``environment``
starts a command and answers its process id; ``{"wait": PID}`` answers its exit code, negative for a signal.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import resource
import signal
import sys

import torch

from ipad_train.cli import main

for module in ("pymilvus", "uvicorn", "ipad_train.catalogue.making", "ipad_train.catalogue.service.app"):
    with contextlib.suppress(ImportError):  # the extra ipad-train[catalogue]
        importlib.import_module(module)


def run(asked: dict) -> None:
    gc.freeze()  # a collection would look through all that was imported, and copy its memory
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in the background
    out = os.open(asked["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.environ.update(asked.get("environment", {}))
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
sys.stdout.flush()
os._exit(0)  # without taking down what was imported
