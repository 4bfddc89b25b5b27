"""Runs that die of SIGKILL, wherever it strikes, and go on as if nothing had happened."""

from __future__ import annotations

import multiprocessing
import random
import signal
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from ipad_train.checkpoint import find_checkpoint
from ipad_train.config_files import load_config

pytestmark = pytest.mark.multiprocess

SHORT = [
    "stage0.steps=1",
    "stage1.steps=2",
    "stage2.steps=6",
    "clusters.refresh_every=2",
    "clusters.queue_length=1",
    "clusters.start=0.1",
    "loop.save_every=2",
    "loop.threads=1",
]


@pytest.fixture(scope="module")
def start(processes):
    """``start(config, resume=None, die=None) -> exit code`` of a process that has torch loaded already."""
    return starter(processes("killed").train)


def starter(train):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ipad_train.training"])

    def run(config, resume=None, die=None):
        process = context.Process(target=train, args=(config, resume, die))
        process.start()
        process.join(300)
        assert not process.is_alive(), process.kill()
        return process.exitcode

    return run


@pytest.fixture(scope="module")
def straight(start, small_settings, tmp_path_factory):
    """A run that nobody kills, and ``make(name)``: the same configuration in another folder."""
    folder = tmp_path_factory.mktemp("kills")
    (folder / "small.yaml").write_text(yaml.safe_dump(small_settings), encoding="utf-8")

    def make(name):
        return load_config(folder / "small.yaml", [*SHORT, f"output_dir={folder / name}"])

    assert start(make("straight")) == 0
    return folder / "straight", make


def equal_runs(one, other) -> None:
    assert (one / "metrics.jsonl").read_text() == (other / "metrics.jsonl").read_text()
    for stage in ("stage0", "stage1", "stage2"):
        expected, actual = (load_file(run / "stages" / stage / "model.safetensors") for run in (one, other))
        assert expected.keys() == actual.keys()
        assert all(expected[key].equal(actual[key]) for key in expected), stage
    last = [load_file(find_checkpoint(run) / "objective.safetensors") for run in (one, other)]
    assert all(last[0][key].equal(last[1][key]) for key in last[0])


DRAW = random.Random(12)
# Nine steps of three moments each: one of stage 0, one of stage 1, two of stage 2 once the cluster loss has started.
MOMENTS = [DRAW.randint(1, 3), DRAW.randint(4, 9), *(DRAW.randint(16, 27) for _ in range(2))]


def test_a_kill_at_a_random_moment_of_every_stage_changes_nothing(start, straight):
    """One run that dies again and again: each life ends in a later stage."""
    run, make = straight
    events = (run / "metrics.jsonl").read_text()
    assert "cluster loss starts" in events
    config = make("killed")
    left, resume = sorted(MOMENTS), None
    for moment in left:
        done = 3 * saved_step(config)  # a resumed life counts from the step that was saved
        assert start(config, resume, ("step", max(1, moment - done))) == -signal.SIGKILL
        resume = "auto"
    assert start(config, "auto") == 0
    equal_runs(run, make_path(config))


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(start, straight):
    """At file operations drawn over all saves of the run; every life makes some progress, or none."""
    run, make = straight
    config, resume = make("torn"), None
    for count in (3, 40, 9, 25, 70):
        code = start(config, resume, ("file", count))
        assert code in (-signal.SIGKILL, 0)
        resume = "auto"
        if code == 0:
            break
    assert start(config, "auto") == 0
    equal_runs(run, make_path(config))


def saved_step(config) -> int:
    folder = make_path(config)
    found = find_checkpoint(folder) if folder.exists() else None
    return 0 if found is None else int(found.name.removeprefix("step-"))


def make_path(config):
    return Path(config.output_dir)
