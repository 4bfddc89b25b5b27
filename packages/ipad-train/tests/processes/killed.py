"""What a process of test_kills.py runs: a training that dies of SIGKILL at a given moment."""

from __future__ import annotations

import gc
import os
import signal
import sys


def train(config, resume, die) -> None:
    """In a process of its own: train, and die by SIGKILL where ``die`` says."""
    gc.freeze()  # a collection would look through all that was imported, and copy its memory
    if die is not None:
        place, count = die
        {"step": die_in_a_step, "file": die_at_a_file}[place](count)
    from ipad_train.training import Training

    Training(config, resume, lambda line: None).run()


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_a_step(moment: int) -> None:
    """Each step has three moments: before its backward pass, between optimizer and queues, and after its log line."""
    from accelerate import Accelerator

    from ipad_train.objectives import Objective
    from ipad_train.objectives.attribute_diverging import AttributeDiverging
    from ipad_train.tracking import Tracker

    passed = []

    def counted(function):
        def call(*arguments, **options):
            passed.append(1)
            if len(passed) == moment:
                kill()
            return function(*arguments, **options)

        return call

    Accelerator.backward = counted(Accelerator.backward)
    Objective.after_step = counted(Objective.after_step)
    AttributeDiverging.after_step = counted(AttributeDiverging.after_step)
    original = Tracker.log

    def log(self, step, stage, values):
        original(self, step, stage, values)
        if "loss" in values:
            counted(lambda: None)()

    Tracker.log = log


def die_at_a_file(count: int) -> None:
    """At the n-th time that a file or folder of checkpoints is opened, made, renamed or removed."""
    seen = []

    def hook(event, arguments):
        if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"):
            path = arguments[0]
            if isinstance(path, (str, os.PathLike)) and "checkpoints" in str(path):
                seen.append(event)
                if len(seen) == count:
                    kill()

    sys.addaudithook(hook)
