from __future__ import annotations

import numpy as np
import pytest

from ipad_data.roles import GALLERY, QUERY, TRAIN
from ipad_data.splits import random_splits, stratified_parts


def shares(parts, value_ids, value, number):
    mine = [part for part, values in zip(parts, value_ids, strict=True) if value in values]
    return np.bincount(mine, minlength=number)


def test_single_label_parts_hold_every_value_in_proportion():
    rng = np.random.default_rng(0)
    value_ids = [(int(v),) for v in rng.choice(6, 3000, p=[0.5, 0.2, 0.15, 0.1, 0.04, 0.01])]
    parts = stratified_parts(value_ids, (8, 1, 1))
    for value in range(6):
        counts = shares(parts, value_ids, value, 3)
        np.testing.assert_allclose(counts, counts.sum() * np.array([0.8, 0.1, 0.1]), atol=1.0)


def test_multi_label_parts_hold_every_value_nearly_in_proportion():
    rng = np.random.default_rng(0)
    value_ids = [tuple(set(rng.integers(0, 40, 4).tolist())) for _ in range(4000)]
    parts = stratified_parts(value_ids, (8, 1, 1))
    assert np.abs(np.bincount(parts) - [3200, 400, 400]).max() <= 20
    for value in range(40):
        counts = shares(parts, value_ids, value, 3)
        np.testing.assert_allclose(counts, counts.sum() * np.array([0.8, 0.1, 0.1]), atol=3.0)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5])
def test_tiny_data(count):
    parts = stratified_parts([(0,)] * count, (8, 1, 1))
    assert len(parts) == count
    assert set(parts[:1]) <= {0}
    assert (parts == 0).sum() >= count / 2


def test_a_value_with_one_image_goes_to_the_largest_part():
    value_ids = [(0,)] * 50 + [(1,)]
    assert stratified_parts(value_ids, (8, 1, 1))[-1] == 0
    assert stratified_parts(value_ids, (1, 4))[-1] == 1


def test_images_without_labels_fill_up():
    assert np.bincount(stratified_parts([()] * 10, (8, 1, 1))).tolist() == [8, 1, 1]


def test_seeded():
    value_ids = [(i % 7,) for i in range(200)]
    first, again, other = (stratified_parts(value_ids, (8, 1, 1), seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize("fractions", [(), (1, 0), (1, -1), (1, float("nan"))])
def test_bad_fractions(fractions):
    with pytest.raises(ValueError, match="fractions must be positive"):
        stratified_parts([(0,)], fractions)


def test_random_splits_roles_ids_and_disjointness():
    names = [f"{i}.jpg" for i in range(500)]
    values = [(i % 5, 5 + i % 3) for i in range(500)]
    splits = random_splits(names, [(0, 1)] * 500, values, seed=3)
    assert {split: len(images) for split, images in splits.items()} == {"train": 400, "validation": 50, "test": 50}
    assert sorted(image.name for images in splits.values() for image in images) == sorted(names)
    assert {role for image in splits["train"] for role in image.roles} == {TRAIN}
    for split in ("validation", "test"):
        assert [image.image_id for image in splits[split]] == list(range(50))
        assert all(len(set(image.roles)) == 1 for image in splits[split])
        roles = [image.roles[0] for image in splits[split]]
        assert (roles.count(QUERY), roles.count(GALLERY)) == (10, 40)


def test_random_splits_rejects_unequal_lengths():
    with pytest.raises(ValueError, match="differ in length"):
        random_splits(["a"], [], [])
    with pytest.raises(ValueError, match="expected 3 fractions"):
        random_splits([], [], [], fractions=(1, 1))
