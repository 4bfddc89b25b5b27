from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from ipad_data import AttributeSchema, BalancedSampler, EntryTable

SCHEMA = AttributeSchema({f"a{i}": [f"v{j}" for j in range(count)] for i, count in enumerate((3, 5, 2))})


@pytest.fixture
def labels(make_dataset, random_labels):
    return EntryTable.from_dataset(make_dataset(SCHEMA, random_labels(200, (3, 5, 2))))


def test_composition(labels):
    plan = BalancedSampler(labels, 2, 2, 6, steps_per_epoch=10).plan(0, 3)
    assert Counter(Counter(plan.attribute_ids.tolist()).values()) == {12: 2}
    assert Counter(Counter(plan.value_ids.tolist()).values()) == {6: 4}
    pairs = set(zip(plan.value_ids.tolist(), plan.image_index.tolist(), strict=True))
    assert len(pairs) == 24
    true = set(zip(labels.rows.tolist(), labels.value_ids.tolist(), strict=True))
    assert {(int(plan.rows[i]), value) for value, i in pairs} <= true


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_union_over_ranks(labels, world_size):
    sampler = BalancedSampler(labels, 2, 2, 8, steps_per_epoch=10, seed=3)
    parts = [sampler.plan(1, 2, rank, world_size) for rank in range(world_size)]

    def entries(plan):
        return list(zip(plan.rows[plan.image_index].tolist(), plan.value_ids.tolist(), strict=True))

    assert sorted(e for part in parts for e in entries(part)) == sorted(entries(sampler.plan(1, 2)))
    for part in parts:
        assert Counter(Counter(part.value_ids.tolist()).values()) == {8 // world_size: 4}


def test_ranks_need_pairs(labels):
    sampler = BalancedSampler(labels, 2, 2, 4, steps_per_epoch=10)
    for world_size in (3, 4):
        with pytest.raises(ValueError, match="must divide images_per_value = 4 into shares of two or more"):
            sampler.plan(0, 0, 0, world_size)


def test_small_attributes_are_left_out_or_refused(labels):
    with pytest.warns(UserWarning, match="left out of batches, not having 3 values of 4 images: a2"):
        BalancedSampler(labels, 2, 3, 4, steps_per_epoch=1)
    with pytest.raises(ValueError, match=r"number of attributes with 3 values of 4 images, 2; got 3"):
        BalancedSampler(labels, 3, 3, 4, steps_per_epoch=1)


def test_plans_do_not_depend_on_what_was_asked_before(labels):
    sampler, fresh = (BalancedSampler(labels, 2, 2, 4, steps_per_epoch=10, seed=3) for _ in range(2))
    for step in (7, 0, 3):
        sampler.plan(1, step)
    for asked, expected in zip(sampler.plan(1, 5), fresh.plan(1, 5), strict=True):
        np.testing.assert_array_equal(asked, expected)
    drawn = {
        tuple(BalancedSampler(labels, 2, 2, 4, 10, seed).plan(epoch, step).value_ids.tolist())
        + tuple(BalancedSampler(labels, 2, 2, 4, 10, seed).plan(epoch, step).rows.tolist())
        for seed in (0, 1)
        for epoch in (0, 1)
        for step in (0, 1)
    }
    assert len(drawn) == 8


def test_attributes_and_values_are_uniform(labels):
    sampler = BalancedSampler(labels, 1, 2, 2, steps_per_epoch=3000, seed=1)
    plans = [sampler.plan(0, step) for step in range(3000)]
    attributes = Counter(int(plan.attribute_ids[0]) for plan in plans)
    assert all(abs(attributes[attribute] / 3000 - 1 / 3) < 0.04 for attribute in range(3))
    of_second = Counter(
        value for plan in plans if plan.attribute_ids[0] == 1 for value in set(plan.value_ids.tolist())
    )
    total = sum(of_second.values())
    assert all(abs(of_second[value] / total - 1 / 5) < 0.04 for value in range(3, 8))
