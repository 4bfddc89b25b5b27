from __future__ import annotations

import numpy as np
import pytest

from ipad_data import AttributeSchema, DenseSampler, EntryTable

SCHEMA = AttributeSchema({f"a{i}": [f"v{j}" for j in range(count)] for i, count in enumerate((3, 5, 2))})


@pytest.fixture
def labels(make_dataset, random_labels):
    return EntryTable.from_dataset(make_dataset(SCHEMA, random_labels(53, (3, 5, 2), multi=True)))


def entries_of(plan) -> list[tuple[int, int, int]]:
    arrays = (plan.rows[plan.image_index], plan.attribute_ids, plan.value_ids)
    return list(zip(*(array.tolist() for array in arrays), strict=True))


def all_entries(labels) -> list[tuple[int, int, int]]:
    return sorted(zip(labels.rows.tolist(), labels.attribute_ids.tolist(), labels.value_ids.tolist(), strict=True))


def test_an_epoch_lists_every_entry_once(labels):
    sampler = DenseSampler(labels, 10, drop_last=False)
    assert sampler.steps_per_epoch == 6
    found = [entry for step in range(6) for entry in entries_of(sampler.plan(0, step))]
    assert sorted(found) == all_entries(labels)


def test_drop_last_makes_whole_batches(labels):
    sampler = DenseSampler(labels, 10)
    rows = [row for step in range(sampler.steps_per_epoch) for row in sampler.plan(2, step).rows.tolist()]
    assert len(rows) == len(set(rows)) == 50


def test_epochs_and_seeds_differ(labels):
    first = {tuple(DenseSampler(labels, 10, seed=s).plan(e, 0).rows) for s in (0, 1) for e in (0, 1)}
    assert len(first) == 4


@pytest.mark.parametrize("entries_per_image", [None, 2])
@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_union_over_ranks(labels, world_size, entries_per_image):
    sampler = DenseSampler(labels, 12, seed=4, entries_per_image=entries_per_image)
    for epoch, step in [(0, 0), (5, 3)]:
        parts = [sampler.plan(epoch, step, rank, world_size) for rank in range(world_size)]
        assert all(len(part.rows) == 12 // world_size for part in parts)
        union = [entry for part in parts for entry in entries_of(part)]
        assert sorted(union) == sorted(entries_of(sampler.plan(epoch, step)))


def test_last_small_batch_over_ranks(labels):
    sampler = DenseSampler(labels, 50, drop_last=False)
    parts = [sampler.plan(0, 1, rank, 2) for rank in (0, 1)]
    assert [len(part.rows) for part in parts] == [1, 2]
    assert sorted(e for p in parts for e in entries_of(p)) == sorted(entries_of(sampler.plan(0, 1)))


def test_entries_per_image_are_drawn_uniformly(labels):
    sampler = DenseSampler(labels, 53, entries_per_image=2)
    counts = dict.fromkeys(all_entries(labels), 0)
    for epoch in range(300):
        plan = sampler.plan(epoch, 0)
        assert np.bincount(plan.image_index).max() == 2
        for entry in entries_of(plan):
            counts[entry] += 1
    of_image = {}
    for (row, *_), count in counts.items():
        of_image.setdefault(row, []).append(count)
    for found in of_image.values():
        expected = 300 * min(1, 2 / len(found))
        assert max(abs(count - expected) for count in found) <= 5 * (expected * (1 - expected / 300)) ** 0.5


def test_resuming_equals_going_on(labels):
    whole = DenseSampler(labels, 10, seed=1)
    expected = [entries_of(whole.plan(epoch, step)) for epoch in range(3) for step in range(5)]
    fresh = DenseSampler(labels, 10, seed=1)
    assert [entries_of(fresh.plan(*divmod(k, 5))) for k in range(7, 15)] == expected[7:]


def test_batch_larger_than_the_data(labels):
    with pytest.raises(ValueError, match="batch_size must be at most the number of labelled images, 53; got 54"):
        DenseSampler(labels, 54)


def test_world_size_must_divide(labels):
    with pytest.raises(ValueError, match="world_size must divide the global batch size 10, got 3"):
        DenseSampler(labels, 10).plan(0, 0, 0, 3)
