"""What labelled vectors tell of the class that a query asks for, and of its size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ipad_rerank import rank
from ipad_rerank.rerankers.guard import census as module
from ipad_rerank.rerankers.guard.census import Census
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


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def softmax(values):
    found = np.exp(values - max(values))
    return found / found.sum()


def naive_features(query, gallery, labels, gallery_size, depth=50):
    """Plain loops over distances, with an inverse."""
    query, gallery, names = unit(query), unit(gallery), sorted(set(labels.tolist()))
    means = [np.mean([gallery[i] for i in range(len(labels)) if labels[i] == name], axis=0) for name in names]
    sizes = [sum(label == name for label in labels) / len(labels) * gallery_size for name in names]
    within = np.zeros((query.shape[1], query.shape[1]))
    for vector, label in zip(gallery, labels, strict=True):
        away = vector - means[names.index(label)]
        within += np.outer(away, away) / (len(labels) - len(names))
    shrunk = 0.7 * within + 0.3 * np.trace(within) / len(within) * np.eye(len(within))
    inverse = np.linalg.inv(shrunk)

    def nearness(vector):
        return np.array([-(vector - mean) @ inverse @ (vector - mean) / 2 for mean in means])

    rows = []
    for vector in query:
        row = []
        for temperature in (1, 3):
            shares = softmax(nearness(vector) / temperature)
            row.append(sum(share * np.log(max(size, 1)) for share, size in zip(shares, sizes, strict=True)))
            for few in (10, 50):
                small = sum(share for share, size in zip(shares, sizes, strict=True) if size < few)
                small = min(max(small, 0.001), 0.999)
                row.append(np.log(small / (1 - small)))
        order = np.argsort(-gallery @ vector, kind="stable")[:depth]
        alike = [softmax(nearness(gallery[i]) / 2) @ softmax(nearness(vector) / 2) for i in order]
        row += [np.log(1 + sum(alike[:10])), np.log(1 + sum(alike))]
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("gallery_size", [None, 1480])
def test_matches_plain_loops(parts, gallery_size):
    query, gallery, _, labels = parts
    census = Census.of(list(labelled_searches(*parts)))
    asked = Retrieval(query, gallery[None].repeat(20, 0), own_galleries=True, collection_size=gallery_size)
    expected = naive_features(query, gallery, labels, gallery_size or 148)
    np.testing.assert_allclose(census.features(asked), expected, atol=1e-3)
    whole = Retrieval(query, gallery, rank(query, gallery))
    np.testing.assert_allclose(census.features(whole), naive_features(query, gallery, labels, 148), atol=1e-3)
    short = census.features(Retrieval(query, gallery, rank(query, gallery, k=3)))
    np.testing.assert_allclose(short, naive_features(query, gallery, labels, 148, depth=3), atol=1e-3)


def test_small_classes_are_noticed(parts):
    query, gallery, asked, _ = parts
    found = Census.of(list(labelled_searches(*parts))).features(Retrieval(query, gallery))
    assert bool((found[asked >= 2, 1] > 0).all())
    assert bool((found[asked == 0, 1] < 0).all())
    assert bool((found[asked == 0, 7] > np.log(1 + 40)).all()), "the first fifty candidates are of the large class"
    assert bool((found[asked == 3, 7] < np.log(1 + 10)).all())


def test_classes_count_within_groups(parts):
    query, gallery, asked, labels = parts
    groups = np.arange(148) % 2
    census = Census.of(list(labelled_searches(query, gallery, asked, labels, np.arange(20) % 2, groups)))
    sizes = [
        np.mean(labels[groups == group] == label) for group in (0, 1) for label in np.unique(labels[groups == group])
    ]
    np.testing.assert_allclose(census.shares, sizes, atol=1e-6)
    assert (census.weights.shape, census.bias.shape) == ((len(sizes), 8), (len(sizes),))


def test_a_few_vectors_of_a_class_are_enough(parts, monkeypatch):
    monkeypatch.setattr(module, "MOST", 4 * 12)
    query, gallery, asked, labels = parts
    found = Census.of(list(labelled_searches(*parts)))
    rows = np.concatenate([np.flatnonzero(labels == name)[:12] for name in range(4)])
    few = Census.of(list(labelled_searches(query, gallery[rows], asked, labels[rows])))
    torch.testing.assert_close(found.weights, few.weights)
    torch.testing.assert_close(found.bias, few.bias)
    np.testing.assert_allclose(found.shares, [size / 148 for size in SIZES], atol=1e-6)


def test_a_candidate_is_divided_among_the_likeliest_classes_of_the_query():
    rng = np.random.default_rng(0)
    centers, labels = 4 * rng.normal(size=(60, 16)), np.repeat(np.arange(60), 5)
    gallery, query = centers[labels] + rng.normal(size=(300, 16)), centers[:30] + rng.normal(size=(30, 16))
    asked = (query, gallery, np.arange(30), labels)
    found = Census.of(list(labelled_searches(*asked))).features(Retrieval(query, gallery))
    np.testing.assert_allclose(found[:, :6], naive_features(query, gallery, labels, 300)[:, :6], atol=2e-3)
    assert float(found[:, 7].exp().median() - 1) == pytest.approx(5, abs=1), "its own five"


def test_classes_of_one_item_and_what_has_no_label(parts):
    query, gallery, asked, labels = parts
    some = [None if label == 1 else int(label) for label in labels]
    assert len(Census.of(list(labelled_searches(query, gallery, asked.tolist(), some))).shares) == 3
    single = Census.of(list(labelled_searches(query, gallery[:20], asked, np.arange(20))))
    assert bool(single.features(Retrieval(query, gallery)).isfinite().all())
