"""A guard acts where it is likely to help, and says when the gallery is larger than what it knows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ipad_rerank import (
    AlphaQueryExpansion,
    AverageQueryExpansion,
    Chain,
    Guard,
    LargerGalleryWarning,
    evaluate,
    load,
    rank,
)
from ipad_rerank.rerankers.guard import Gate
from ipad_rerank.rerankers.guard.calibration import features_of
from ipad_rerank.rerankers.guard.gate import Regression, bin_of
from ipad_rerank.rerankers.retrieval import Retrieval


def long_tail(count: int, seed: int, classes: int = 99):
    """Ten large classes and many of about three; ``classes`` is the seed of where they are."""
    rng = np.random.default_rng(seed)
    large = rng.random(count) < 0.5
    labels = np.where(large, rng.integers(10, size=count), 10 + rng.integers(count // 6, size=count))
    centers = np.random.default_rng(classes).normal(size=(10 + count // 6, 24))
    return (centers[labels] + 0.9 * rng.normal(size=(count, 24))).astype(np.float32), labels


@pytest.fixture(scope="module")
def parts():
    vectors, labels = long_tail(3000, 0)
    rows = np.split(np.arange(3000), [500, 1000])
    return [(vectors[part], labels[part]) for part in rows]


@pytest.fixture(scope="module")
def guard(parts):
    (asked, asked_labels), _, (gallery, gallery_labels) = parts
    return Guard.calibrate(AverageQueryExpansion(k=30), asked, gallery, asked_labels, gallery_labels)


def test_tails_are_left_alone_and_most_of_the_gain_is_kept(parts, guard):
    _, (query, labels), (gallery, gallery_labels) = parts
    ranking = rank(query, gallery)
    relevant = torch.from_numpy((labels[:, None] == gallery_labels).sum(1))
    before, plain, guarded = (
        torch.as_tensor(evaluate(found, labels, gallery_labels).average_precision)
        for found in (ranking, guard.reranker.rerank(query, gallery, ranking), guard.rerank(query, gallery, ranking))
    )
    tail = bin_of(relevant) == 0
    assert int(tail.sum()) > 100
    assert float((plain - before)[tail].mean()) < -0.05, "query expansion harms the tail here"
    assert float((guarded - before)[tail].mean()) > -0.01
    assert float((guarded - before).mean()) > 0.9 * float((plain - before).mean())


def test_classes_that_the_calibration_did_not_know(parts, guard):
    vectors, labels = long_tail(3000, 1, classes=7)
    query, gallery, labels, gallery_labels = vectors[:500], vectors[500:], labels[:500], labels[500:]
    ranking = rank(query, gallery)
    before, plain, guarded = (
        torch.as_tensor(evaluate(found, labels, gallery_labels).average_precision)
        for found in (ranking, guard.reranker.rerank(query, gallery, ranking), guard.rerank(query, gallery, ranking))
    )
    doubts = [float(guard.census.features(Retrieval(asked, gallery))[:, 0].mean()) for asked in (query, parts[1][0])]
    assert doubts[0] > 1.5 * doubts[1], f"{doubts}: that its classes are not known is noticed"
    tail = bin_of(torch.from_numpy((labels[:, None] == gallery_labels).sum(1))) == 0
    assert float((plain - before)[tail].mean()) < -0.05
    assert float((guarded - before)[tail].mean()) > 0.3 * float((plain - before)[tail].mean())
    assert float((guarded - before).mean()) > 0.5 * float((plain - before).mean()) > 0


def test_rows_are_those_of_the_one_or_the_other(parts, guard):
    _, (query, _), (gallery, _) = parts
    ranking = rank(query, gallery, k=100)
    moved = Guard(guard.reranker, first=guard.first).rerank(query, gallery, ranking)
    found = guard.rerank(query, gallery, ranking)
    answer = guard.reranker.rerank(query, gallery, ranking)
    opens = guard.gate.opens(features_of(Retrieval(query, gallery, ranking), answer, guard.census)).numpy()
    assert 0.2 < opens.mean() < 0.95
    np.testing.assert_array_equal(found.indices, np.where(opens[:, None], moved.indices, ranking.indices))
    candidates = gallery[ranking.indices]
    columns = guard.rerank_candidates(query, candidates, gallery_size=len(gallery))
    unmoved = (columns.indices == np.arange(100)).all(1)
    assert unmoved[~opens].mean() > 0.9, "on candidates the answer differs, so the gate may too, for a few"


def test_a_calibration_depends_on_the_seed_alone(parts, guard):
    (asked, asked_labels), _, (gallery, gallery_labels) = parts
    known = (asked[:200], gallery[:400], asked_labels[:200], gallery_labels[:400])
    one, same, other = (Guard.calibrate(guard.reranker, *known, seed=seed) for seed in (0, 0, 1))
    assert (one.gate, one.first) == (same.gate, same.first)
    assert one.gate != other.gate


def test_classes_too_small_to_be_thinned_are_calibrated_with_as_they_are():
    rng = np.random.default_rng(0)
    labels, centers = np.repeat(np.arange(60), 3), rng.normal(size=(60, 24))
    gallery, query = (centers[labels] + 0.6 * rng.normal(size=(180, 24)) for _ in range(2))
    guard = Guard.calibrate(AverageQueryExpansion(k=30), query, gallery, labels, labels)
    ranking = rank(query, gallery)
    before, plain, guarded = (
        evaluate(found, labels, labels).average_precision.mean()
        for found in (ranking, guard.reranker.rerank(query, gallery, ranking), guard.rerank(query, gallery, ranking))
    )
    assert plain < before - 0.05
    assert guarded > before - 0.005


def test_one_class_alone_is_no_error():
    vectors = np.random.default_rng(0).normal(size=(60, 8))
    guard = Guard.calibrate(AverageQueryExpansion(k=5), vectors[:20], vectors[20:], np.zeros(20), np.zeros(40))
    ranking = rank(vectors[:20], vectors[20:])
    np.testing.assert_array_equal(guard.rerank(vectors[:20], vectors[20:], ranking).indices, ranking.indices)


def test_saved_and_loaded(guard, tmp_path):
    guard.save_pretrained(tmp_path)
    loaded = load(tmp_path)
    assert loaded.gate == guard.gate
    for name, tensor in guard.census.tensors().items():
        torch.testing.assert_close(loaded.census.tensors()[name], tensor)
    assert (loaded.reranker, loaded.largest_gallery) == (guard.reranker, 2000)
    never = Guard(AlphaQueryExpansion(), replace(guard.gate, threshold=float("inf")), census=guard.census)
    never.save_pretrained(tmp_path)
    assert Guard.from_pretrained(tmp_path).gate.threshold == float("inf")


def test_a_guard_of_a_guard_is_saved_with_both_censuses(guard, parts, tmp_path):
    twice = Guard(guard, guard.gate, census=replace(guard.census, weights=-guard.census.weights))
    twice.save_pretrained(tmp_path)
    loaded = load(tmp_path)
    torch.testing.assert_close(loaded.census.weights, twice.census.weights, rtol=0, atol=0)
    torch.testing.assert_close(loaded.reranker.census.weights, guard.census.weights, rtol=0, atol=0)
    (query, _), (gallery, _) = parts[1:]
    ranking = rank(query, gallery, k=60)
    expected = twice.rerank(query, gallery, ranking)
    np.testing.assert_array_equal(loaded.rerank(query, gallery, ranking).indices, expected.indices)


def test_a_guard_of_an_earlier_snapshot_is_told_apart(guard):
    config, tensors = guard.to_config(), guard.tensors()
    tensors["census.vectors"] = tensors.pop("census.weights")
    with pytest.raises(ValueError, match="saved by an earlier snapshot of ipad-rerank; calibrate it again"):
        Guard.from_config(config, tensors)


def test_larger_galleries_are_warned_of(search):
    query, gallery, ranking = search
    guard = Guard(AverageQueryExpansion(k=3), largest_gallery=100)
    with pytest.warns(LargerGalleryWarning, match="the gallery has 150 rows; this re-ranker was tried on 100 at most"):
        found = guard.rerank(query, gallery, ranking)
    np.testing.assert_array_equal(found.indices, Chain(guard.reranker).rerank(query, gallery, ranking).indices)
    with pytest.warns(LargerGalleryWarning):
        guard.rerank_candidates(query, gallery[ranking.indices], gallery_size=150)
    with pytest.warns(LargerGalleryWarning):
        left = guard.rerank(query, gallery, ranking, on_unfamiliar="fallback")
    np.testing.assert_array_equal(left.indices, ranking.indices)
    guard.rerank(query, gallery, ranking, on_unfamiliar="ignore")  # warnings are errors here
    Guard(AverageQueryExpansion(k=3), largest_gallery=120).rerank(query, gallery, ranking)


def test_bad_input():
    with pytest.raises(TypeError, match="a Guard takes a re-ranker"):
        Guard(AverageQueryExpansion)
    with pytest.raises(ValueError, match="largest_gallery must be at least 1"):
        Guard(AverageQueryExpansion(), largest_gallery=0)
    with pytest.raises(ValueError, match="a gate and the census that it reads"):
        Guard(AverageQueryExpansion(), Gate(*[Regression((0.0,), (1.0,), (1.0, 1.0), 0.0)] * 2, 0.0))
    vectors, labels = long_tail(60, 0)
    for weights in ([1.0], [-1.0] * 30, [float("nan")] * 30):
        with pytest.raises(ValueError, match="weights must be 30 positive numbers, one for each query, got"):
            Guard.calibrate(AverageQueryExpansion(), vectors[:30], vectors, labels[:30], labels, weights=weights)


def test_the_first_results_stay_and_the_rest_follows_in_the_new_order(search):
    query, gallery, ranking = search
    plain = AverageQueryExpansion(k=20)
    after = plain.rerank(query, gallery, ranking)
    for first in (3, 12):
        found = Guard(plain, first=first).rerank(query, gallery, ranking)
        np.testing.assert_array_equal(found.indices[:, :first], ranking.indices[:, :first])
        for row, kept in enumerate(found.indices[:, :first]):
            rest = [i for i in after.indices[row] if i not in kept]
            np.testing.assert_array_equal(found.indices[row, first:], rest[: ranking.k - first])
    whole = Guard(plain, first=1000).rerank(query, gallery, ranking)
    np.testing.assert_array_equal(whole.indices, ranking.indices)
