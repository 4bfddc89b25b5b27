"""What labelled vectors tell of the size of the class that a query asks for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ipad_rerank.rerankers.guard.census import MEMBERS, Census
from ipad_rerank.rerankers.labelled import labelled_searches
from ipad_rerank.rerankers.retrieval import Retrieval

SIZES = (130, 12, 4, 2)


@pytest.fixture
def parts():
    rng = np.random.default_rng(0)
    centers = 3 * rng.normal(size=(4, 8))
    labels = rng.permutation(np.repeat(np.arange(4), SIZES))
    asked = np.arange(20) % 4
    return centers[asked] + rng.normal(size=(20, 8)), centers[labels] + rng.normal(size=(148, 8)), asked, labels


def naive_features(query, gallery, labels, gallery_size):
    """Plain loops; classes of at most MEMBERS items are kept whole."""
    rows = []
    for vector in query:
        similarity, sizes = [], []
        for label in sorted(set(labels)):
            members = [i for i in range(len(labels)) if labels[i] == label]
            cosine = [
                vector @ gallery[i] / np.linalg.norm(vector) / np.linalg.norm(gallery[i]) for i in members[:MEMBERS]
            ]
            nearest = sorted(cosine)[-3:]
            similarity.append(sum(nearest) / len(nearest))
            sizes.append(len(members) / len(labels) * gallery_size)
        row = []
        for temperature in (0.05, 0.2):
            shares = np.exp((np.array(similarity) - max(similarity)) / temperature)
            shares /= shares.sum()
            for known in (np.log, lambda size: float(size < 10), lambda size: float(size < 50)):
                row.append(sum(share * known(size) for share, size in zip(shares, sizes, strict=True)))
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("gallery_size", [None, 1480])
def test_matches_plain_loops(parts, gallery_size):
    query, gallery, _, labels = parts
    census = Census.of(list(labelled_searches(*parts)))
    asked = Retrieval(query, gallery[None].repeat(20, 0), own_galleries=True, collection_size=gallery_size)
    expected = naive_features(query, gallery, labels, gallery_size or 148)
    np.testing.assert_allclose(census.features(asked), expected, atol=1e-4)


def test_small_classes_are_noticed(parts):
    query, gallery, asked, _ = parts
    found = Census.of(list(labelled_searches(*parts))).features(Retrieval(query, gallery))
    assert bool((found[asked >= 2, 1] > 0.5).all())
    assert bool((found[asked == 0, 1] < 0.5).all())


def test_classes_count_within_groups(parts):
    query, gallery, asked, labels = parts
    groups = np.arange(148) % 2
    census = Census.of(list(labelled_searches(query, gallery, asked, labels, np.arange(20) % 2, groups)))
    sizes = [
        np.mean(labels[groups == group] == label) for group in (0, 1) for label in np.unique(labels[groups == group])
    ]
    np.testing.assert_allclose(census.shares, sizes, atol=1e-6)
    unit = torch.nn.functional.normalize(torch.from_numpy(gallery), dim=1).float()
    assert census.counts.tolist() == [min(MEMBERS, round(size * 74)) for size in sizes]
    assert float((unit @ census.vectors.T).max(0).values.min()) == pytest.approx(1, abs=1e-5)


def test_what_has_no_label_is_of_no_class(parts):
    query, gallery, asked, labels = parts
    some = [None if label == 1 else int(label) for label in labels]
    assert len(Census.of(list(labelled_searches(query, gallery, asked.tolist(), some))).shares) == 3
