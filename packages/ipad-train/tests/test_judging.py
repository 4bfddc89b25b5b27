"""Evaluations while a run trains."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ipad_core import AttributeEmbedder
from ipad_train import finishing, judging
from ipad_train.tracking import read_metrics
from ipad_train.training import Training


def quiet(line):
    pass


def test_a_stage_that_loses_what_the_one_before_knew_says_so_and_does_not_overwrite_it(small_config, monkeypatch):
    original = judging.evaluate_split

    def worse(model, *arguments, **options):
        results = original(model, *arguments, **options)
        if model.architecture == "ipad":
            results["rows"][-1]["overall"] /= 2
        return results

    monkeypatch.setattr(judging, "evaluate_split", worse)
    monkeypatch.setattr(finishing, "evaluate_split", worse)
    said = []
    config = small_config("stage2.steps=0")
    results = Training(config, None, said.append).run()
    run = Path(config.output_dir)
    overall = {row["name"]: row["overall"] for row in results["rows"]}
    assert overall["stage 0 alone"] > overall["IP-SP"]
    assert results["delivered"] == results["final"] == "stage 0 alone"
    assert AttributeEmbedder.from_pretrained(run / "best").architecture == "attribute_classifier"
    (warning,) = results["warnings"]
    assert "stage1 ends BELOW stage0" in warning
    assert sum(warning in line for line in said) == 2  # when the stage ends, and at the end of the run
    events = [row["event"] for row in read_metrics(run) if "event" in row]
    assert any("stage1 ends BELOW stage0" in event for event in events)
    scores = json.loads((run / "stages" / "stage0" / "score.json").read_text())
    assert scores["validation_map"] == pytest.approx(overall["stage 0 alone"])


def test_patience_ends_a_stage_hands_on_its_best_weights_and_resumes_into_the_next(
    small_config, monkeypatch, interrupt
):
    maps = iter([30.0, 20.0, 10.0, 40.0, 50.0, 60.0, 70.0, 80.0])
    original = judging.evaluate_split

    def scripted(*arguments, **options):
        results = original(*arguments, **options)
        results["rows"][-1]["overall"] = next(maps)
        return results

    monkeypatch.setattr(judging, "evaluate_split", scripted)
    config = small_config(
        "stage0.steps=0",
        "stage1.steps=6",
        "stage2.steps=2",
        "loop.eval_every=1",
        "loop.patience=2",
        "loop.save_every=1",
    )
    undo = interrupt(7)  # the first step of stage 2
    with pytest.raises(interrupt.Error):
        Training(config, None, quiet).run()
    undo()
    run = Path(config.output_dir)
    assert [row["step"] for row in read_metrics(run) if "loss" in row] == [1, 2, 3, 7]
    assert any("stage1 ends early at step 3 of 6" in row.get("event", "") for row in read_metrics(run))
    score = json.loads((run / "stages" / "stage1" / "score.json").read_text())
    assert (score["step"], score["validation_map"]) == (1, 30.0)
    said = []
    Training(config, "auto", said.append).run()  # from the end of stage 1, which must not go on
    assert [row["step"] for row in read_metrics(run) if "loss" in row] == [1, 2, 3, 7, 8]
