"""``ipad-rerank rerank``."""

from __future__ import annotations

import numpy as np

from ipad_rerank import FeatureReasoning, rank, read_embeddings


def test_rerank_writes_indices_scores_and_ids(run, files, reasoner):
    options = ("--reasoner", reasoner, "--k", 60, "--output", files / "best.npz", "--on-unfamiliar", "ignore")
    result = run("rerank", "--query", files / "q.npy", "--gallery", files / "g.npz", *options)
    assert result.exit_code == 0, result.output
    query, gallery = (read_embeddings(files / name).embeddings for name in ("q.npy", "g.npz"))
    expected = FeatureReasoning.from_pretrained(reasoner).rerank(
        query, gallery, rank(query, gallery, k=60), on_unfamiliar="ignore"
    )
    with np.load(files / "best.npz") as best:
        np.testing.assert_array_equal(best["indices"], expected.indices)
        np.testing.assert_array_equal(best["scores"], expected.scores)
        np.testing.assert_array_equal(best["ids"], best["indices"] + 1000)
    assert not list(files.glob("*.part"))


def test_rerank_searches_by_role_and_within_groups(run, files, reasoner):
    options = ("--reasoner", reasoner, "--k", 200, "--output", files / "own.npz", "--on-unfamiliar", "ignore")
    result = run("rerank", "--query", files / "all.safetensors", "--gallery", files / "all.safetensors", *options)
    assert result.exit_code == 0, result.output
    data = read_embeddings(files / "all.safetensors")
    with np.load(files / "own.npz") as own:
        np.testing.assert_array_equal(own["queries"], np.arange(500, 580))
        for row, indices, scores in zip(own["queries"], own["indices"], own["scores"], strict=True):
            met = 580 + np.flatnonzero(data.group_ids[580:] == data.group_ids[row])
            found = indices[indices >= 0]
            assert np.isneginf(scores[len(found) :]).all()
            assert len(found) == min(200, len(met))
            assert set(found) <= set(met)


def test_rerank_falls_back_when_told_to(run, files, reasoner):
    options = ("--reasoner", reasoner, "--output", files / "few.npz", "--on-unfamiliar", "fallback")
    result = run("rerank", "--query", files / "q.npy", "--gallery", files / "q.npy", *options)
    assert result.exit_code == 0, result.output
    assert "Warning: " in result.output
    query = np.load(files / "q.npy")
    with np.load(files / "few.npz") as few:
        np.testing.assert_array_equal(few["indices"], rank(query, query).indices)
