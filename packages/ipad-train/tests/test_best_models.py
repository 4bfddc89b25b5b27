from __future__ import annotations

import json

import pytest
from torch import nn

from ipad_train.best_models import BestModels
from ipad_train.run_folder import RunFolder


class Model:
    """Stands for a network: what is saved says which one it was."""

    def __init__(self, name):
        self.name = name

    def save_pretrained(self, folder):
        (folder / "config.json").write_text(json.dumps(self.name))


def kept(folder):
    return json.loads((folder / "config.json").read_text())


def test_the_best_of_every_stage_and_of_all_is_kept(tmp_path):
    best = BestModels(tmp_path, {}, is_main=True)
    for stage, step, score, name in [
        ("stage0", 10, 40.0, "a"),
        ("stage0", 20, 48.0, "b"),
        ("stage0", 30, 45.0, "c"),
        ("stage1", 40, 20.0, "d"),
        ("stage1", 50, 25.0, "e"),
    ]:
        best.offer(stage, step, score, Model(name))
    assert (kept(tmp_path / "stages" / "stage0"), kept(tmp_path / "stages" / "stage1")) == ("b", "e")
    assert kept(tmp_path / "best") == "b"
    assert (best.stage, RunFolder(tmp_path).delivered_stage()) == ("stage0", "stage0")
    assert json.loads((tmp_path / "best" / "score.json").read_text()) == {
        "stage": "stage0",
        "step": 20,
        "validation_map": 48.0,
    }
    assert list(RunFolder(tmp_path).trained_stages()) == ["stage0", "stage1"]
    best.offer("stage2", 60, 48.0, Model("f"))
    assert kept(tmp_path / "best") == "b"  # of equals the earlier, simpler one
    best.offer("stage2", 70, 48.5, Model("g"))
    assert kept(tmp_path / "best") == "g"


def test_patience_counts_evaluations_since_the_best_and_survives_a_resume(tmp_path):
    best = BestModels(tmp_path, {}, is_main=True)
    for score in (10.0, 12.0, 12.0, 11.0):
        best.offer("stage1", 1, score, Model("x"))
    assert best.is_exhausted("stage1", 2)
    assert not best.is_exhausted("stage1", 3)
    assert not best.is_exhausted("stage1", 0)
    assert not best.is_exhausted("stage2", 1)
    again = BestModels(tmp_path, json.loads(json.dumps(best.scores)), is_main=True)
    assert again.scores["stage1"] == {"map": 12.0, "step": 1, "stale": 2}
    again.offer("stage1", 5, 13.0, Model("x"))
    assert not again.is_exhausted("stage1", 1)


def test_a_setback_names_both_stages_and_what_to_try(tmp_path):
    scores = {name: {"map": value, "step": 1, "stale": 0} for name, value in (("stage0", 48.7), ("stage1", 24.7))}
    best = BestModels(tmp_path, scores, is_main=False)
    text = best.setback("stage1")
    assert "stage1 ends BELOW stage0: 24.70 after 48.70 % validation MAP" in text
    assert "stage1.learning_rate" in text
    assert best.setback("stage0") is None
    scores["stage1"]["map"] = 48.7
    assert BestModels(tmp_path, scores, is_main=False).setback("stage1") is None


def test_a_kill_between_two_renames_is_undone(tmp_path):
    best = BestModels(tmp_path, {}, is_main=True)
    best.offer("stage1", 1, 10.0, Model("a"))
    (tmp_path / "stages" / "stage1").rename(tmp_path / "stages" / ".old-stage1")
    (tmp_path / "best").rename(tmp_path / ".old-best")
    BestModels(tmp_path, best.scores, is_main=True)
    assert kept(tmp_path / "stages" / "stage1") == kept(tmp_path / "best") == "a"


def test_only_the_main_process_writes(tmp_path):
    best = BestModels(tmp_path, {}, is_main=False)
    assert best.offer("stage1", 1, 10.0, nn.Identity())
    assert not list(tmp_path.iterdir())


def test_a_folder_without_a_score_says_nothing_of_stages(tmp_path):
    (tmp_path / "best").mkdir()
    assert RunFolder(tmp_path).delivered_stage() is None
    assert RunFolder(tmp_path).trained_stages() == {}
    assert BestModels(tmp_path, {}, is_main=True).stage is None
    with pytest.raises(FileNotFoundError):
        BestModels(tmp_path, {}, is_main=True).deliver("stage0")
