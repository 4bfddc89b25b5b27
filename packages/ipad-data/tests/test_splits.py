from __future__ import annotations

import numpy as np
import pytest

from ipad_data import AttributeSchema
from ipad_data.label_files import LabelledImage
from ipad_data.roles import GALLERY, QUERY, TRAIN
from ipad_data.splits import held_out_roles, random_splits, unanswered_note
from ipad_data.stratification import stratified_parts


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


def answered(images):
    """Attributes with a query whose value a gallery image has, by looking at every pair."""
    pairs = [(query, other) for query in images for other in images]
    return {
        attribute
        for query, other in pairs
        if query.roles[0] == QUERY and other.roles[0] == GALLERY
        for attribute, value in zip(query.attribute_ids, query.value_ids, strict=True)
        if value in other.value_ids
    }


@pytest.mark.parametrize("images_per_value", [5, 6, 8, 10, 15, 20, 30])
@pytest.mark.parametrize("num_values", [2, 3, 4, 6, 10])
def test_held_out_images_of_small_data_can_be_queries_and_matches(num_values, images_per_value):
    count = num_values * images_per_value
    value_ids = [(i % num_values,) for i in range(count)]
    splits = random_splits([str(i) for i in range(count)], [(0,)] * count, value_ids, seed=1)
    assert sorted(int(image.name) for images in splits.values() for image in images) == list(range(count))
    kept = np.bincount([image.value_ids[0] for image in splits["train"]], minlength=num_values)
    assert kept.min() >= 2
    for split in ("validation", "test"):
        images = splits[split]
        assert abs(len(images) - count / 10) <= 1 + num_values / 2
        values = [image.value_ids[0] for image in images]
        assert sum(values.count(value) == 1 for value in values) <= 1  # an image without any of its value is useless
        roles = [image.roles[0] for image in images]
        assert max(1, round(len(images) / 5)) <= roles.count(QUERY) <= len(images) / 2
        gallery = [image.value_ids[0] for image in images if image.roles[0] == GALLERY]
        assert all(image.value_ids[0] in gallery for image in images if image.roles[0] == QUERY)


@pytest.mark.parametrize("seed", range(5))
def test_each_attribute_of_small_data_is_answered(seed):
    rng = np.random.default_rng(seed)
    labels = [[(0, int(rng.integers(3))), *([(1, 3 + int(rng.integers(2)))] if i % 4 == 0 else [])] for i in range(60)]
    attribute_ids, value_ids = ([[pair[k] for pair in pairs] for pairs in labels] for k in (0, 1))
    splits = random_splits([str(i) for i in range(60)], attribute_ids, value_ids, seed)
    schema = AttributeSchema({"color": ["a", "b", "c"], "shape": ["d", "e"]})
    for split in ("validation", "test"):
        labelled = {attribute for image in splits[split] for attribute in image.attribute_ids}
        assert answered(splits[split]) == labelled
    assert unanswered_note(splits, schema) == ""


def test_what_cannot_be_answered_is_said():
    schema = AttributeSchema({"color": ["a", "b", "c"], "shape": ["d", "e"]})
    roles = held_out_roles([(0,), (0, 1), (0, 1)], [(0,), (0, 3), (1, 4)])
    images = [
        LabelledImage(str(i), i, attributes, values, (role,) * len(values))
        for i, (attributes, values, role) in enumerate(
            zip([(0,), (0, 1), (0, 1)], [(0,), (0, 3), (1, 4)], roles, strict=True)
        )
    ]
    note = unanswered_note({"train": images, "validation": images}, schema)
    assert note == "in validation no query of shape has a gallery image of its value"
    assert answered(images) == {0}


def test_roles_of_plenty_are_those_of_the_stratification():
    value_ids = [(i % 5,) for i in range(500)]
    parts = stratified_parts(value_ids, (1, 4), 7)
    assert held_out_roles([(0,)] * 500, value_ids, 7) == (parts + QUERY).tolist()


def test_random_splits_rejects_unequal_lengths():
    with pytest.raises(ValueError, match="differ in length"):
        random_splits(["a"], [], [])
    with pytest.raises(ValueError, match="expected 3 fractions"):
        random_splits([], [], [], fractions=(1, 1))
