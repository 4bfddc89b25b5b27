"""``ipad-rerank fit``."""

from __future__ import annotations

import pytest

from ipad_rerank import AlphaQueryExpansion, AverageQueryExpansion, Chain, FeatureReasoning, load


@pytest.mark.parametrize(("given", "kept"), [("auto", "auto"), ("3", 3)])
def test_fit_keeps_the_number_of_sequences(run, files, tmp_path, given, kept):
    options = ("--n-r", 40, "--steps", 2, "--keep-without-gain", "--sequences", given)
    result = run("fit", files / "plain.npz", "--output", tmp_path / "r", *options)
    assert result.exit_code == 0, result.output
    reasoner = FeatureReasoning.from_pretrained(tmp_path / "r")
    assert reasoner.sequences == kept
    assert reasoner.density.best_gallery_size in [row["size"] for row in reasoner.report["gallery_sizes"]]


def test_fit_behind_expansion_and_from_a_fitted_one(run, files, reasoner):
    options = ["--steps", 3, "--keep-without-gain"]
    result = run(
        "fit", files / "plain.npz", "--output", files / "chain", "--n-r", 30, "--expand", 7, "--alpha", 0.5, *options
    )
    assert result.exit_code == 0, result.output
    chain = Chain.from_pretrained(files / "chain")
    assert chain.rerankers[0] == AlphaQueryExpansion(k=7, alpha=0.5)
    assert chain.rerankers[1].n_r == 30
    assert run("evaluate", files / "plain.npz", "--reasoner", files / "chain").exit_code == 0
    result = run("fit", files / "plain.npz", "--output", files / "twice", "--n-r", 30, "--again", 9, *options)
    assert result.exit_code == 0, result.output
    first, expansion, last = Chain.from_pretrained(files / "twice").rerankers
    assert (first.n_r, expansion, last) == (30, AverageQueryExpansion(k=9), first)
    assert run("evaluate", files / "plain.npz", "--reasoner", files / "twice").exit_code == 0
    result = run("fit", files / "plain.npz", "--output", files / "more", "--init", reasoner, *options)
    assert result.exit_code == 0, result.output
    assert FeatureReasoning.from_pretrained(files / "more").n_r == 40
    result = run("fit", files / "plain.npz", "--output", files / "twice", "--n-r", 20, *options)
    assert result.exit_code == 0, result.output
    assert load(files / "twice").n_r == 20, "not the chain that was there"
    assert (
        "init keeps its own settings"
        in run("fit", files / "plain.npz", "--output", files / "more", "--init", reasoner, "--n-r", 10).output
    )


def test_fit_says_when_it_brings_nothing(run, files):
    result = run("fit", files / "noise.npz", "--output", files / "none", "--n-r", 20, "--steps", 3)
    assert result.exit_code == 0, result.output
    assert "Held out: MAP" in result.stderr
    assert "Warning: held-out MAP did not rise" in result.stderr
    assert FeatureReasoning.from_pretrained(files / "none").is_identity


def test_a_device_that_is_not_there(run, files):
    result = run("fit", files / "plain.npz", "--output", files / "x", "--device", "cud")
    assert result.exit_code == 2
    assert "'cud' is not at hand" in result.output
