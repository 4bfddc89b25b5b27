"""A re-ranker of one's own: one class and one line in the registry, and everything that goes by name works with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from ipad_rerank import Chain, EmbeddingSet, PlainReranker, compare, load, rank, tune
from ipad_rerank.rerankers.registry import RERANKERS


@dataclass(frozen=True)
class TowardsTheMiddle(PlainReranker):
    """Similarity to the mean of the candidates, blended with that to the query."""

    share: float = 0.5

    def refine(self, query, candidates):
        middle = candidates.mean(1, keepdim=True)
        return ((1 - self.share) * query[:, None] + self.share * middle).mul(candidates).sum(-1)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    labels = rng.integers(5, size=420)
    vectors = rng.normal(size=(5, 12))[labels] + rng.normal(size=(420, 12))
    return EmbeddingSet(vectors.astype(np.float32), labels)


@pytest.mark.parametrize("grid", [{}, {"share": (0.25, 0.5)}])
def test_a_new_class_and_one_line(data, monkeypatch, tmp_path, grid):
    monkeypatch.setitem(RERANKERS, "middle", TowardsTheMiddle)
    monkeypatch.setattr(TowardsTheMiddle, "grid", grid)
    parts = [data.select(slice(*ends)) for ends in ((0, 220), (220, 260), (260, 420))]
    table = compare(*parts, n_r=20, steps=2, peers=("middle",))
    assert any(row.name.startswith("middle") for row in table.rows)
    query, gallery = parts[1], parts[2]
    found = tune("middle", query.embeddings, gallery.embeddings, query.labels, gallery.labels)
    assert len(found.table) == max(1, len(grid.get("share", ())))
    ranking = rank(query.embeddings, gallery.embeddings, k=30)
    better = TowardsTheMiddle(0.25).rerank(query.embeddings, gallery.embeddings, ranking)
    unit = torch.nn.functional.normalize(torch.from_numpy(gallery.embeddings), dim=1)[ranking.indices[0]]
    wanted = 0.75 * torch.nn.functional.normalize(torch.from_numpy(query.embeddings[0]), dim=0) + 0.25 * unit.mean(0)
    expected = ranking.indices[0][(-(unit @ wanted)).argsort(stable=True)]
    np.testing.assert_array_equal(better.indices[0], expected)
    Chain(TowardsTheMiddle(0.25)).save_pretrained(tmp_path)
    assert load(tmp_path).rerankers == (TowardsTheMiddle(0.25),)
