"""What is held at a time: never something that grows with the gallery's square, nor with queries times gallery."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ipad_rerank import (
    AlphaQueryExpansion,
    Chain,
    DatabaseAugmentation,
    FeatureReasoning,
    GraphDiffusion,
    KReciprocal,
    rank,
)
from ipad_rerank.search.memory import batches, work_budget
from ipad_rerank.search.progress import progress_over

CPU = torch.device("cpu")


def some_reasoner():
    reasoner = FeatureReasoning(n_r=50)
    generator = torch.Generator().manual_seed(0)
    torch.nn.init.normal_(reasoner.network.last.weight, std=0.01, generator=generator)
    return reasoner.eval()


@pytest.mark.parametrize(
    "reranker",
    [
        some_reasoner(),
        Chain(AlphaQueryExpansion(k=10, restrict_to=50), some_reasoner()),
        AlphaQueryExpansion(k=10, restrict_to=50),
        DatabaseAugmentation(k=10, restrict_to=50),
        KReciprocal(restrict_to=50),
        GraphDiffusion(k=20, restrict_to=50),
    ],
    ids=lambda reranker: type(reranker).__name__,
)
def test_reranking_a_shortlist_costs_the_same_in_a_gallery_of_a_hundred_thousand(largest_storage, reranker):
    rng = np.random.default_rng(0)
    query = rng.standard_normal((20, 8), dtype=np.float32)

    def largest(size):
        gallery = rng.standard_normal((size, 8), dtype=np.float32)
        ranking = rank(query, gallery, k=60)
        return largest_storage(lambda: reranker.rerank(query, gallery, ranking))

    assert largest(100_000) <= 1.1 * largest(2000)


def test_search_holds_its_budget_and_not_queries_times_gallery(largest_storage, monkeypatch):
    rng = np.random.default_rng(0)
    query, gallery = (
        rng.standard_normal((500, 8), dtype=np.float32),
        rng.standard_normal((50_000, 8), dtype=np.float32),
    )
    monkeypatch.setattr("ipad_rerank.search.memory._CPU_CAP", 8 << 20)
    assert largest_storage(lambda: rank(query, gallery, k=20)) <= 8 << 20  # all scores would be 100 MB


def test_work_is_sized_from_free_memory(monkeypatch):
    monkeypatch.setattr("ipad_rerank.search.memory.free_memory", lambda device: 400 << 20)
    assert work_budget(CPU) == 100 << 20
    assert batches(250, 1 << 20, CPU) == [slice(0, 100), slice(100, 200), slice(200, 250)]
    assert batches(250, 1 << 20, CPU, most=200) == batches(250, 1 << 20, CPU)
    assert batches(250, 1 << 20, CPU, most=90)[0] == slice(0, 90)
    assert batches(250, 1 << 20, CPU, size=240) == [slice(0, 240), slice(240, 250)]
    monkeypatch.setattr("ipad_rerank.search.memory.free_memory", lambda device: 0)
    assert work_budget(CPU) == 16 << 20
    assert batches(2, 1 << 40, CPU) == [slice(0, 1), slice(1, 2)]


def test_a_ranking_that_does_not_fit_is_refused_before_the_search(monkeypatch):
    monkeypatch.setattr("ipad_rerank.search.cosine.free_memory", lambda device: 10_000)
    assert rank(np.eye(30), np.eye(30), k=9).k == 9
    with pytest.raises(MemoryError, match=r"a ranking of 30 for each of 30 queries takes .* ask for a smaller k"):
        rank(np.eye(30), np.eye(30))


@pytest.mark.parametrize("available", [16 << 20, 64 << 20, 1 << 40])
def test_results_do_not_depend_on_free_memory(monkeypatch, available):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(5, 6))[rng.integers(5, size=420)] + rng.normal(size=(420, 6))
    query, gallery = vectors[:20].astype(np.float32), vectors[20:].astype(np.float32)
    rerankers = [some_reasoner(), KReciprocal(k1=10), GraphDiffusion(k=10), DatabaseAugmentation(k=5)]
    expected = [reranker.rerank(query, gallery, rank(query, gallery)) for reranker in rerankers]
    monkeypatch.setattr("ipad_rerank.search.memory.free_memory", lambda device: available)
    monkeypatch.setattr("ipad_rerank.search.memory._CPU_CAP", available // 1000)
    for reranker, wanted in zip(rerankers, expected, strict=True):
        found = reranker.rerank(query, gallery, rank(query, gallery))
        by_row = [np.take_along_axis(r.scores, np.argsort(r.indices, axis=1), axis=1) for r in (found, wanted)]
        np.testing.assert_allclose(*by_row, atol=1e-4)


def test_progress_is_shown_on_standard_error_when_asked_for(capsys):
    assert list(progress_over(range(3), "Searching", None)) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")  # no terminal
    rank(np.eye(3), np.eye(3), progress=True)
    captured = capsys.readouterr()
    assert "Searching" in captured.err
    assert captured.out == ""
