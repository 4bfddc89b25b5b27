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


def naive_covariance(away, freedom):
    found = sum(np.outer(v, v) for v in away) / freedom
    return 0.7 * found + 0.3 * np.trace(found) / len(found) * np.eye(len(found))


def naive_features(query, gallery, labels, gallery_size, depth=50):
    """Plain loops over log densities of normal distributions."""
    query, gallery, names = unit(query), unit(gallery), sorted(set(labels.tolist()))
    means = [np.mean([gallery[i] for i in range(len(labels)) if labels[i] == name], axis=0) for name in names]
    sizes = [sum(label == name for label in labels) / len(labels) * gallery_size for name in names]
    away = [vector - means[names.index(label)] for vector, label in zip(gallery, labels, strict=True)]
    within = naive_covariance(away, len(labels) - len(names))
    middle = np.mean(means, axis=0)
    both = within + naive_covariance([mean - middle for mean in means], len(names) - 1)

    def log_density(away, covariance):
        return -away @ np.linalg.inv(covariance) @ away / 2 - np.linalg.slogdet(covariance)[1] / 2

    def logits(vector):
        return np.array([log_density(vector - mean, within) for mean in means])

    rows = []
    for vector in query:
        row = [softmax(np.append(logits(vector), log_density(vector - middle, both)))[-1]]
        for temperature in (1, 3):
            shares = softmax(logits(vector) / temperature)
            for known in (lambda size: np.log(max(size, 1)), lambda size: size < 10, lambda size: size < 50):
                told = [known(size) for size in sizes]
                value = sum(share * number for share, number in zip(shares, told, strict=True))
                if len(row) % 3 != 1:
                    value = min(max(value, 0.001), 0.999)
                    value = np.log(value / (1 - value))
                row.append(value)
        order = np.argsort(-gallery @ vector, kind="stable")[:depth]
        alike = [softmax(logits(gallery[i]) / 2) @ softmax(logits(vector) / 2) for i in order]
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
    assert bool((found[asked >= 2, 2] > 0).all())
    assert bool((found[asked == 0, 2] < 0).all())
    assert bool((found[asked == 0, 8] > np.log(1 + 40)).all()), "the first fifty candidates are of the large class"
    assert bool((found[asked == 3, 8] < np.log(1 + 10)).all())


def test_classes_count_within_groups(parts):
    query, gallery, asked, labels = parts
    groups = np.arange(148) % 2
    census = Census.of(list(labelled_searches(query, gallery, asked, labels, np.arange(20) % 2, groups)))
    sizes = [
        np.mean(labels[groups == group] == label) for group in (0, 1) for label in np.unique(labels[groups == group])
    ]
    np.testing.assert_allclose(census.shares, sizes, atol=1e-6)
    assert (census.weights.shape, census.bias.shape) == ((len(sizes), 8), (len(sizes) + 1,))


def test_a_few_vectors_of_a_class_are_enough(parts, monkeypatch):
    monkeypatch.setattr(module, "MOST", 4 * 12)
    query, gallery, asked, labels = parts
    found = Census.of(list(labelled_searches(*parts)))
    rows = np.concatenate([np.flatnonzero(labels == name)[:12] for name in range(4)])
    few = Census.of(list(labelled_searches(query, gallery[rows], asked, labels[rows])))
    for name in ("mean", "weights", "bias"):
        torch.testing.assert_close(getattr(found, name), getattr(few, name))
    np.testing.assert_allclose(found.shares, [size / 148 for size in SIZES], atol=1e-6)


def test_a_candidate_is_divided_among_the_likeliest_classes_of_the_query():
    rng = np.random.default_rng(0)
    centers, labels = 4 * rng.normal(size=(60, 16)), np.repeat(np.arange(60), 5)
    gallery, query = centers[labels] + rng.normal(size=(300, 16)), centers[:30] + rng.normal(size=(30, 16))
    asked = (query, gallery, np.arange(30), labels)
    found = Census.of(list(labelled_searches(*asked))).features(Retrieval(query, gallery))
    np.testing.assert_allclose(found[:, :7], naive_features(query, gallery, labels, 300)[:, :7], atol=2e-3)
    assert float(found[:, 8].exp().median() - 1) == pytest.approx(5, abs=1), "its own five"


def test_it_is_known_when_a_class_is_not_known(parts):
    rng = np.random.default_rng(1)
    centers, labels = 3 * rng.normal(size=(60, 16)), np.repeat(np.arange(40), 6)
    gallery, query = centers[labels] + rng.normal(size=(240, 16)), centers + rng.normal(size=(60, 16))
    doubt = Census.of(list(labelled_searches(query[:40], gallery, np.arange(40), labels))).features(
        Retrieval(query, gallery)
    )[:, 0]
    assert float(doubt[:40].median()) < 0.1
    assert float(doubt[40:].median()) > 0.9


def test_classes_of_one_item_and_what_has_no_label(parts):
    query, gallery, asked, labels = parts
    some = [None if label == 1 else int(label) for label in labels]
    assert len(Census.of(list(labelled_searches(query, gallery, asked.tolist(), some))).shares) == 3
    single = Census.of(list(labelled_searches(query, gallery[:20], asked, np.arange(20))))
    assert bool(single.features(Retrieval(query, gallery)).isfinite().all())
