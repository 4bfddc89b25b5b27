from __future__ import annotations

import subprocess
import sys
import warnings
from collections import Counter

import numpy as np
import pytest

from ipad_data import AttributeSchema, EntryTable, TripletSampler


def schema_of(*num_values: int) -> AttributeSchema:
    return AttributeSchema({f"a{i}": [f"v{j}" for j in range(count)] for i, count in enumerate(num_values)})


def triplets_of(plan) -> list[tuple[int, ...]]:
    """(attribute, anchor row, positive row, negative row, value, other value) of each triplet."""
    rows, values = (array.reshape(3, -1) for array in (plan.rows[plan.image_index], plan.value_ids))
    attributes = plan.attribute_ids.reshape(3, -1)
    assert (attributes == attributes[0]).all()
    assert (values[0] == values[1]).all()
    return list(zip(*(a.tolist() for a in (attributes[0], *rows, values[0], values[2])), strict=True))


@pytest.fixture
def table(make_dataset, random_labels):
    def make(num_images=400, num_values=(3, 5, 2), multi=False, seed=0):
        dataset = make_dataset(schema_of(*num_values), random_labels(num_images, num_values, multi, seed))
        return EntryTable.from_dataset(dataset)

    return make


@pytest.mark.parametrize("multi", [False, True])
def test_triplets_are_valid(table, multi):
    labels = table(multi=multi, num_values=(4, 5, 3))
    values_of = {}
    for row, value in zip(labels.rows.tolist(), labels.value_ids.tolist(), strict=True):
        values_of.setdefault(row, set()).add(value)
    sampler = TripletSampler(labels, 64, seed=3)
    for step in range(30):
        plan = sampler.plan(0, step)
        assert len(set(plan.rows.tolist())) == len(plan.rows)
        for attribute, anchor, positive, negative, value, other in triplets_of(plan):
            assert anchor != positive
            assert value in values_of[anchor] & values_of[positive]
            assert other in values_of[negative]
            assert value not in values_of[negative]
            assert labels.schema.locate(value)[0] == labels.schema.locate(other)[0] == attribute


def chi_square(counts: dict, num_cells: int) -> float:
    """Standardised chi-square statistic of observed counts against equal ones: about N(0, 1) for many cells."""
    expected = sum(counts.values()) / num_cells
    statistic = sum((count - expected) ** 2 for count in counts.values()) / expected
    statistic += (num_cells - len(counts)) * expected
    return (statistic - (num_cells - 1)) / (2 * (num_cells - 1)) ** 0.5


def test_attributes_pairs_and_images_are_uniform(table):
    labels = table(num_images=60, num_values=(3, 6))
    sampler = TripletSampler(labels, 200, seed=1)
    found = [triplet for step in range(200) for triplet in triplets_of(sampler.plan(0, step))]
    assert abs(chi_square(Counter(t[0] for t in found), 2)) < 4.5
    for attribute, pairs in ((0, 3 * 2), (1, 6 * 5)):
        of_attribute = [t for t in found if t[0] == attribute]
        assert abs(chi_square(Counter(t[4:] for t in of_attribute), pairs)) < 4.5
    value = 4
    images = set(labels.rows[labels.value_ids == value].tolist())
    for role in (1, 2):
        counts = Counter(t[role] for t in found if t[4] == value)
        assert set(counts) == images
        assert abs(chi_square(counts, len(images))) < 4.5
    pairs = Counter((t[1], t[2]) for t in found if t[4] == value)
    assert abs(chi_square(pairs, len(images) * (len(images) - 1))) < 4.5
    negatives = Counter(t[3] for t in found if t[5] == value)
    assert abs(chi_square(negatives, len(images))) < 4.5


def test_negatives_are_uniform_over_images_without_the_anchors_value(make_dataset):
    both, first, second = [(0, 0), (0, 1)], [(0, 0)], [(0, 1)]
    labels = EntryTable.from_dataset(make_dataset(schema_of(2), [both] * 30 + [first] * 3 + [second] * 4))
    sampler = TripletSampler(labels, 500)
    found = [t for step in range(20) for t in triplets_of(sampler.plan(0, step))]
    counts = Counter(t[3] for t in found if t[4] == 0)
    assert set(counts) == {33, 34, 35, 36}
    assert abs(chi_square(counts, 4)) < 4.5


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_union_over_ranks_is_the_single_process_batch(table, world_size):
    sampler = TripletSampler(table(), 64, seed=5)
    for epoch, step in [(0, 0), (0, 7), (3, 100)]:
        parts = [triplets_of(sampler.plan(epoch, step, rank, world_size)) for rank in range(world_size)]
        assert all(len(part) == 64 // world_size for part in parts)
        assert [t for part in parts for t in part] == triplets_of(sampler.plan(epoch, step))


def test_plans_do_not_depend_on_what_was_asked_before(table):
    labels = table()
    expected = [TripletSampler(labels, 16, seed=2).plan(1, step) for step in (5, 6)]
    sampler = TripletSampler(labels, 16, seed=2)
    for step in (6, 1, 5, 0):
        sampler.plan(1, step)
    for plan, step in zip(expected, (5, 6), strict=True):
        for a, b in zip(plan, sampler.plan(1, step), strict=True):
            np.testing.assert_array_equal(a, b)
    drawn = {
        triplets_of(TripletSampler(labels, 16, seed=s).plan(e, t))[0] for s in (2, 3) for e in (0, 1) for t in (0, 1)
    }
    assert len(drawn) == 8


SAME = """
from datasets import Dataset, Features
from ipad_data import AttributeSchema, EntryTable, TripletSampler
from ipad_data.builders._base import make_row, row_features
schema = AttributeSchema({"a": ["0", "1", "2"]})
rows = [make_row(b"", i, [(0, i % 3, 0)]) for i in range(30)]
labels = EntryTable.from_dataset(Dataset.from_list(rows, features=Features(row_features(schema))))
plan = TripletSampler(labels, 8, seed=4).plan(2, 9)
print(plan.rows[plan.image_index].tolist())
"""


@pytest.mark.multiprocess
def test_another_process_draws_the_same(make_dataset):
    schema = AttributeSchema({"a": ["0", "1", "2"]})
    labels = EntryTable.from_dataset(make_dataset(schema, [[(0, i % 3)] for i in range(30)]))
    plan = TripletSampler(labels, 8, seed=4).plan(2, 9)
    other = subprocess.run([sys.executable, "-c", SAME], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == str(plan.rows[plan.image_index].tolist())


def test_values_of_one_image_are_negatives_only(make_dataset):
    labels = EntryTable.from_dataset(make_dataset(schema_of(3), [[(0, 0)]] * 5 + [[(0, 1)]] * 5 + [[(0, 2)]]))
    sampler = TripletSampler(labels, 100)
    found = [t for step in range(5) for t in triplets_of(sampler.plan(0, step))]
    assert {t[4] for t in found} == {0, 1}
    assert {t[5] for t in found} == {0, 1, 2}


def test_attributes_without_triplets_are_left_out_with_a_warning(make_dataset):
    labels = [[(0, i % 2), (1, 0), (2, i)] for i in range(6)]
    table = EntryTable.from_dataset(make_dataset(schema_of(2, 3, 6), labels))
    with pytest.warns(UserWarning, match="too few values or images: a1, a2"):
        sampler = TripletSampler(table, 8)
    assert set(sampler.plan(0, 0).attribute_ids.tolist()) == {0}


@pytest.mark.parametrize("labels", [[[]], [[(0, 0)]], [[(0, 0)], [(0, 1)]], [[(0, 0)]] * 5, [[(0, 0), (0, 1)]] * 5])
def test_no_triplet_at_all_is_an_error_not_a_hang(make_dataset, labels):
    table = EntryTable.from_dataset(make_dataset(schema_of(2), labels))
    with pytest.raises(ValueError, match="no attribute allows a triplet"):
        TripletSampler(table, 8)


def test_pairs_whose_negatives_all_have_the_positives_value_are_not_drawn(make_dataset):
    """Every image of value 1 has value 0, too: (0, 1) allows no negative, (1, 0) does."""
    labels = [[(0, 0), (0, 1)]] * 4 + [[(0, 0)]] * 4 + [[(0, 2)]] * 2
    sampler = TripletSampler(EntryTable.from_dataset(make_dataset(schema_of(3), labels)), 300)
    found = Counter(t[4:] for t in triplets_of(sampler.plan(0, 0)))
    assert set(found) == {(0, 2), (1, 0), (1, 2), (2, 0), (2, 1)}


def test_arguments(table):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sampler = TripletSampler(table(), 6, triplets_per_epoch=100)
    assert sampler.steps_per_epoch == 16
    assert TripletSampler(table(), 64).steps_per_epoch == 100_000 // 64
    with pytest.raises(ValueError, match="world_size must divide the global batch size 6, got 4"):
        sampler.plan(0, 0, 0, 4)
    with pytest.raises(ValueError, match=r"rank must be within \[0, world_size = 2\), got 2"):
        sampler.plan(0, 0, 2, 2)
    with pytest.raises(ValueError, match=r"step within \[0, 16\), got epoch 0, step 16"):
        sampler.plan(0, 16)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        TripletSampler(table(), 0)


def test_many_values(table):
    """DeepFashion-like: hundreds of values, several an image; setting up and drawing stay quick."""
    sampler = TripletSampler(table(num_images=4000, num_values=(150, 300), multi=True), 256)
    assert len(triplets_of(sampler.plan(0, sampler.steps_per_epoch - 1))) == 256
