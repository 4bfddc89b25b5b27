"""Metrics, and the trackers beside them."""

from __future__ import annotations

import pytest
from accelerate.tracking import GeneralTracker

from ipad_train.launch import make_accelerator
from ipad_train.tracking import Tracker, check_trackers, read_metrics, start_trackers


class Board(GeneralTracker):
    """Keeps what it is given."""

    name, requires_logging_directory, main_process_only = "board", False, True

    def __init__(self):
        self.logged, self.finished = [], False

    tracker = None

    def log(self, values, step=None):
        self.logged.append((step, values))

    def finish(self):
        self.finished = True


def test_every_board_gets_what_the_metrics_hold(tmp_path):
    board = Board()
    tracker = Tracker(tmp_path, boards=[board])
    tracker.log(1, "stage1", {"loss": 0.5})
    tracker.event(2, "stage1", "something happened")
    tracker.close()
    assert board.logged == [(1, {"loss": 0.5}), (2, {"event": "something happened"})]
    assert board.finished
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2]


def test_a_resumed_run_forgets_what_was_lost(tmp_path):
    tracker = Tracker(tmp_path)
    for step in (1, 2, 3):
        tracker.log(step, "stage1", {"loss": 1.0})
    tracker.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "sta')  # killed while it wrote
    Tracker(tmp_path, resume_step=2).close()
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2]


def test_trackers_are_known_and_installed_or_named():
    check_trackers(["tensorboard"])
    check_trackers([])
    with pytest.raises(ValueError, match=r"loop\.log_with must name trackers of aim, .*, got 'tensorbord'"):
        check_trackers(["tensorbord"])
    with pytest.raises(ImportError, match=r"loop\.log_with=dvclive needs its package: pip install dvclive"):
        check_trackers(["dvclive"])


def test_tensorboard_lies_in_the_run_and_none_means_none(small_config, tmp_path):
    accelerator = make_accelerator(small_config(), tmp_path)
    boards = start_trackers(accelerator, 0)
    Tracker(tmp_path, boards=boards).close()
    assert [path.name for path in (tmp_path / "tensorboard").iterdir()] == ["ipad-train"]
    assert start_trackers(make_accelerator(small_config("loop.log_with=[]"), tmp_path), 0) == []
