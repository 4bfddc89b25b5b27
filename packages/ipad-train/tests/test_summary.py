"""What a run came to."""

from __future__ import annotations

import pytest

from ipad_train.report.times import time_table
from ipad_train.summary import run_summary, skipped_steps, stage_times

TIMINGS = [
    {
        "step": 10,
        "stage": "stage1",
        "steps": 10,
        "elapsed": 10.0,
        "seconds": {"data": 1.0, "forward": 6.0},
        "images_per_second": 50.0,
    },
    {
        "step": 20,
        "stage": "stage1",
        "steps": 10,
        "elapsed": 30.0,
        "seconds": {"forward": 8.0, "evaluation": 20.0},
        "images_per_second": 50.0,
    },
    {"step": 20, "stage": "stage1", "steps": 0, "elapsed": 2.0, "seconds": {"checkpoints": 2.0}},
]


def test_times_of_a_stage_by_hand():
    (time,) = stage_times(TIMINGS)
    assert (time.name, time.steps, time.elapsed) == ("stage1", 20, 42.0)
    assert time.seconds == {"data": 1.0, "forward": 14.0, "evaluation": 20.0, "checkpoints": 2.0, "other": 5.0}
    assert time.images_per_second == pytest.approx(50.0)


def test_the_summary_says_stages_time_skipped_steps_and_chance():
    results = {"stages": {"stage1": {"map": 41.234, "step": 20}}, "stuck": ["neck", "sleeve"]}
    assert run_summary(results, TIMINGS, {"stage1": 3}, 18.0) == [
        "summary:",
        "  stage1: best validation MAP 41.23 %, at step 20 of the run; 20 steps in 42 seconds, 50 images/s; 3 steps skipped",
        "  time: 60 seconds, of which data 2 %, forward 23 %, evaluation 33 %, checkpoints 3 %, other 8 %, "
        "end of the run 30 %",
        "  at chance: neck, sleeve",
    ]
    assert run_summary({**results, "stuck": []}, TIMINGS, {}, 0.0)[-1] == "  at chance: no attribute"


def test_the_summary_says_the_most_memory_of_a_gpu():
    rows = [{**TIMINGS[0], "gpu_memory": 3.0}, {**TIMINGS[1], "gpu_memory": 7.26}, TIMINGS[2]]
    results = {"stages": {"stage1": {"map": 41.234, "step": 20}}, "stuck": []}
    assert run_summary(results, rows, {}, 0.0)[1].endswith("50 images/s, 7.3 GiB of the GPU")


def test_skipped_steps_are_counted_by_stage():
    rows = [{"stage": "stage1", "skipped_steps": 2}, {"stage": "stage1", "skipped_steps": 1}, {"stage": "stage2"}]
    assert skipped_steps(rows) == {"stage1": 3}


def test_the_table_of_the_page():
    table = time_table(TIMINGS)
    assert table["parts"] == ["data", "forward", "evaluation", "checkpoints", "other"]
    (row,) = table["rows"]
    assert (row["name"], row["total"], row["speed"]) == ("stage1", "42.0 s", "50")
    assert sum(cell["share"] for cell in row["cells"]) == pytest.approx(100)
    assert time_table([]) is None
