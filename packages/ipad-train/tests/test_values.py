from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from ipad_core import AttributeEmbedder
from ipad_train.config_files import load_run_config
from ipad_train.data import load_data
from ipad_train.embed import EntryEmbeddings, embed_split
from ipad_train.evaluate import evaluate_split, mean_precision
from ipad_train.run_context import RunContext
from ipad_train.training import Training
from ipad_train.values import SHARES, fit_values, with_values


def entries(noise, seed, roles):
    """Forty-eight images with two attributes; values show in dimensions 0 and 1, among ``noise`` in the others."""
    draw = np.random.default_rng(seed)
    value = draw.integers(0, 3, 96)
    attribute = np.tile([0, 1], 48)
    vectors = noise * draw.standard_normal((96, 12)).astype(np.float32)
    vectors[np.arange(96), attribute] += value - 1
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return EntryEmbeddings(
        fused=vectors,
        spatial=None,
        semantic=None,
        peak=None,
        image_ids=np.repeat(np.arange(48), 2),
        attribute_ids=attribute,
        value_ids=value + 3 * attribute,
        roles=np.full(96, 0) if roles == "train" else np.tile([1, 1, 2, 2, 2, 2], 16),
    )


@pytest.fixture
def model():
    from ipad_core import create_model

    return create_model("csn_tiny", num_attributes=2, embed_dim=12, image_size=32)


def test_values_are_kept_with_the_best_share_where_validation_rises(model):
    train, validation = entries(0.3, 0, "train"), entries(0.3, 1, "validation")
    before = 100 * mean_precision(validation)
    values, outcome = fit_values(model, train, validation, 10_000, 0, before)
    assert outcome["used"]
    assert outcome["after"] > before + 5
    assert outcome["share"] == values.share in SHARES
    joined = with_values(values, validation)
    assert 100 * mean_precision(joined) == pytest.approx(outcome["after"])
    assert joined.plain is validation.fused
    for share in SHARES:  # none is better
        values.share = share
        assert 100 * mean_precision(with_values(values, validation)) <= outcome["after"] + 1e-9


def test_values_that_do_not_help_are_left_out(model):
    """Validation is perfect as it is, and the labels of the training entries say nothing about it."""
    train, validation = entries(0.3, 0, "train"), entries(0.3, 1, "validation")
    perfect = np.eye(12, dtype=np.float32)[validation.value_ids]
    validation = EntryEmbeddings(**{**vars(validation), "fused": perfect})
    wrong = EntryEmbeddings(**{**vars(train), "value_ids": np.arange(96) // 2 % 3 + 3 * train.attribute_ids})
    values, outcome = fit_values(model, wrong, validation, 10_000, 0, 100 * mean_precision(validation))
    assert values is None
    assert not outcome["used"]
    assert outcome["after"] <= outcome["before"]


def test_of_many_training_entries_only_so_many_are_used_the_same_every_time(model):
    train, validation = entries(0.3, 0, "train"), entries(0.3, 1, "validation")
    few = [fit_values(model, train, validation, 60, seed, 0.0)[0] for seed in (0, 0, 1)]
    projections = [values.discriminants[0].projection for values in few]
    assert torch.equal(projections[0], projections[1])
    assert not torch.equal(projections[0], projections[2])


def test_a_run_delivers_them_and_evaluating_its_folder_gives_the_same_table(small_config):
    config = small_config("values.enabled=true", "stage1.steps=0", "stage2.steps=0")
    Training(config, None, lambda line: None).run()
    folder = Path(config.output_dir)
    results = json.loads((folder / "validation.json").read_text())
    assert results["values"]["used"]
    assert results["final"].endswith(" + values")
    config, accelerator = load_run_config(folder), Accelerator(cpu=True)
    data = load_data(config.data)
    model = AttributeEmbedder.from_pretrained(folder / "best")
    assert model.values.share == results["values"]["share"]
    again = evaluate_split(model, RunContext(config, data, accelerator), "validation")
    assert again["rows"][-1]["overall"] == pytest.approx(results["values"]["after"], abs=1e-3)
    assert again["rows"][-2]["overall"] == pytest.approx(results["values"]["before"], abs=1e-3)
    embedded = embed_split(model, data.splits["validation"], config.data, accelerator)
    known = model.values
    model.set_values(None)
    plain = embed_split(model, data.splits["validation"], config.data, accelerator)
    np.testing.assert_allclose(embedded.plain, plain.fused, atol=1e-6)
    np.testing.assert_allclose(with_values(known, plain).fused, embedded.fused, atol=1e-5)
