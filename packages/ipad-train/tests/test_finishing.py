"""The end of a run: what it delivers."""

from __future__ import annotations

import dataclasses
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from ipad_core import AttributeEmbedder
from ipad_data.render import SCHEMA
from ipad_rerank import FeatureReasoning
from ipad_train import reranking, training
from ipad_train.commands import evaluate_run
from ipad_train.training import Training


def quiet(line):
    pass


def test_a_reasoner_is_kept_only_where_validation_rises(small_config, monkeypatch):
    config = small_config("stage1.steps=0", "stage2.steps=0", "rerank.enabled=true", "rerank.steps=2")
    for after, used in ((0.99, True), (0.005, False)):

        def precisions(reranker, embedded, after=after):
            asked = np.zeros(len(embedded.with_role("query").value_ids))
            return (asked + (0.2 if reranker is None else after)), asked

        monkeypatch.setattr(reranking, "fit_reasoner", lambda *arguments: random_reasoner())
        monkeypatch.setattr(reranking, "reranked_precisions", precisions)
        folder = Path(config.output_dir) / str(used)
        changed = dataclasses.replace(config, output_dir=str(folder))
        results = Training(changed, None, quiet).run()
        assert results["rerank"] == {
            "used": used,
            "chosen": "FR",
            "before": pytest.approx(20),
            "after": pytest.approx(100 * after),
            "name": "FR",
            "tried": {"FR": {"map": pytest.approx(100 * after), "precision@1": 0.0}},
        }
        assert (folder / "reasoner").is_dir() == used
        rows = evaluate_run(folder, "test", [], quiet)["rows"]
        assert rows[-1]["name"] == "stage 0 alone + FR" + (" (not used)" if not used else "")
        if not used:
            assert rows[-1]["attributes"] == rows[-2]["attributes"]


def random_reasoner():
    reasoner = FeatureReasoning(n_r=5, step_size=50.0)
    torch.nn.init.normal_(reasoner.network.last.weight, generator=torch.Generator().manual_seed(0))
    return reasoner


def test_a_signal_ends_a_run_that_is_being_finished(small_config, monkeypatch):
    def interrupted(*arguments):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(training, "finish_run", interrupted)
    config = small_config("stage1.steps=0", "stage2.steps=0")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in the background
    try:
        with pytest.raises(KeyboardInterrupt):
            Training(config, None, quiet).run()
    finally:
        signal.signal(signal.SIGINT, before)
    monkeypatch.undo()
    assert Training(config, "auto", quiet).run()["delivered"] == "stage 0 alone"


def test_the_delivered_model_knows_its_words(finished):
    """Names of attributes and values travel with every stage's model, so that it can be asked by name."""
    run, _ = finished
    for folder in ("best", "stages/stage0", "stages/stage2"):
        assert AttributeEmbedder.from_pretrained(run / folder).schema == {
            name: list(values) for name, values in SCHEMA.values.items()
        }
    photo = np.random.default_rng(0).integers(0, 256, (48, 40, 3), dtype=np.uint8)
    model = AttributeEmbedder.from_pretrained(run / "best")
    by_name = model.encode(photo, attribute="collar_design").embedding
    torch.testing.assert_close(by_name, model.encode(photo, attribute=2).embedding)
