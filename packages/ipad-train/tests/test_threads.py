from __future__ import annotations

import psutil
import pytest
import torch

from ipad_train import threads
from ipad_train.threads import available_cores, shared_threads, use_threads, user_threads


class Parent:
    """A launcher: its environment and its command line."""

    def __init__(self, environment=(), command=("accelerate", "launch", "-m", "ipad_train")):
        self._environment, self._command = dict(environment), list(command)

    def environ(self):
        return self._environment

    def cmdline(self):
        return self._command


class GoneParent:
    def environ(self):
        raise psutil.NoSuchProcess(1)


ACCELERATE = {"OMP_NUM_THREADS": "1", "ACCELERATE_MIXED_PRECISION": "no"}
TORCHRUN = {"OMP_NUM_THREADS": "1", "TORCHELASTIC_RUN_ID": "none"}


@pytest.mark.parametrize("environment", [ACCELERATE, TORCHRUN])
def test_a_launchers_own_default_is_not_the_users(environment):
    assert user_threads(environment, Parent()) is None
    assert user_threads(environment, Parent({"OMP_NUM_THREADS": "1"})) == 1
    assert user_threads({**environment, "OMP_NUM_THREADS": "3"}, Parent({"OMP_NUM_THREADS": "3"})) == 3
    assert user_threads(environment, GoneParent()) is None


def test_accelerates_option_is_the_users():
    command = ("accelerate", "launch", "--num_cpu_threads_per_process=1", "-m", "ipad_train")
    assert user_threads(ACCELERATE, Parent(command=command)) == 1


@pytest.mark.parametrize(("value", "threads"), [("4", 4), ("", None), ("0", None), ("many", None)])
def test_without_a_launcher_the_variable_is_the_users(value, threads):
    assert user_threads({"OMP_NUM_THREADS": value}, Parent()) == threads
    assert user_threads({}, Parent()) is None


@pytest.mark.parametrize(
    ("cores", "processes", "workers", "threads"),
    [
        (1, 1, 0, 1),
        (2, 1, 1, 2),
        (2, 2, 1, 1),
        (4, 1, 2, 3),
        (8, 1, 2, 6),
        (16, 1, 2, 14),
        (16, 4, 8, 3),
        (2, 4, 0, 1),
    ],
)
def test_shares_by_hand(cores, processes, workers, threads):
    assert shared_threads(cores, processes, workers) == threads


def test_a_containers_limit_is_respected(monkeypatch, tmp_path):
    limit = tmp_path / "cpu.max"
    monkeypatch.setattr(threads, "_CGROUP_LIMIT", limit)
    unlimited = available_cores()
    for text, cores in (
        ("max 100000", unlimited),
        ("100000 100000", 1),
        ("50000 100000", 1),
        ("9900000 100000", unlimited),
    ):
        limit.write_text(text)
        assert available_cores() == cores


def test_the_setting_goes_before_the_variable(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    try:
        assert use_threads(2, 0) == (2, "loop.threads")
        assert torch.get_num_threads() == 2
        assert use_threads(None, 0) == (1, "OMP_NUM_THREADS")
        assert torch.get_num_threads() == 1
        monkeypatch.delenv("OMP_NUM_THREADS")
        cores = available_cores()
        assert use_threads(None, 0) == (cores, f"of {cores} cores")
    finally:
        torch.set_num_threads(before)


@pytest.mark.multiprocess
@pytest.mark.parametrize("own", [None, "1"])
def test_accelerate_launch_really_leaves_the_cores_to_the_run(run_process, tmp_path, own):
    script = tmp_path / "count.py"
    script.write_text("from ipad_train.threads import use_threads; print('threads', use_threads(None, 0))")
    command = "import os, sys; sys.argv = ['accelerate', 'launch', '--cpu', sys.argv[1]]; "
    command += "from accelerate.commands.accelerate_cli import main; main()"
    cores = available_cores()
    result = run_process(["-c", command, str(script)], timeout=600, OMP_NUM_THREADS=own)
    assert ("threads (1, 'OMP_NUM_THREADS')" if own else f"threads ({cores}, 'of {cores} cores')") in result.stdout
