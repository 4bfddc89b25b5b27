"""The numbers between two lines of metrics.jsonl."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ipad_train.objectives import MetricLearning
from ipad_train.tracking import read_metrics
from ipad_train.training import Training


def quiet(line):
    pass


def test_shares_of_active_triplets_are_logged_by_name_and_none_does_not_spoil_the_mean(small_config, monkeypatch):
    original = MetricLearning.forward
    shares = iter([0.5, float("nan"), 1.0])

    def forward(self, batch):
        return {
            **original(self, batch),
            "active/0": torch.tensor(next(shares)),
            "active/1": torch.tensor(float("nan")),
        }

    monkeypatch.setattr(MetricLearning, "forward", forward)
    config = small_config("stage0.steps=0", "stage2.steps=0", "loop.log_every=3", "loop.save_every=10")
    run = Training(config, None, quiet)
    names = run.data.schema.attributes
    run.run()
    (row,) = [row for row in read_metrics(Path(config.output_dir)) if "loss" in row]
    assert row[f"active/{names[0]}"] == pytest.approx(0.75)
    assert f"active/{names[1]}" not in row
    assert row["loss"] > 0
