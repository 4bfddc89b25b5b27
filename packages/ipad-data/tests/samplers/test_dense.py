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


@pytest.fixture
def long_tail(make_dataset):
    """512, 256, ..., 1 images of ten values of one attribute."""
    schema = AttributeSchema({"a": [f"v{j}" for j in range(10)]})
    labels = [[(0, value)] for value in range(10) for _ in range(2 ** (9 - value))]
    return EntryTable.from_dataset(make_dataset(schema, labels))


def values_drawn(sampler, epochs: int) -> np.ndarray:
    plans = [sampler.plan(epoch, step) for epoch in range(epochs) for step in range(sampler.steps_per_epoch)]
    return np.bincount(np.concatenate([plan.value_ids for plan in plans]), minlength=10)


def test_balance_one_draws_every_value_equally_often(long_tail):
    sampler = DenseSampler(long_tail, 8, balance=1.0)  # 127 steps of 8 images: each value 101.6 times
    assert sampler.steps_per_epoch == DenseSampler(long_tail, 8).steps_per_epoch == 127
    drawn = values_drawn(sampler, 5) / 5
    assert drawn.sum() == 127 * 8
    np.testing.assert_allclose(drawn, 101.6, rtol=0.05)


@pytest.mark.parametrize("balance", [0.25, 0.5])
def test_balance_draws_by_powers_of_the_counts(long_tail, balance):
    sampler = DenseSampler(long_tail, 8, balance=balance)
    counts = 2.0 ** np.arange(9, -1, -1)
    expected = counts ** (1 - balance) / (counts ** (1 - balance)).sum() * 127 * 8
    np.testing.assert_allclose(values_drawn(sampler, 40) / 40, expected, rtol=0.05, atol=0.2)


def test_the_rarest_entry_of_an_image_decides(make_dataset):
    schema = AttributeSchema({"a": ["x", "y"], "b": ["x", "y"]})
    # a: 9 x and 3 y, b: 2 x and 1 y; only image 0 has both a rare a and a rare b. Weights 3, 3, 3, 1 (nine times).
    labels = [[(0, 1), (1, 1)], [(0, 1), (1, 0)], [(0, 1)], [(0, 0), (1, 0)], *[[(0, 0)]] * 8]
    sampler = DenseSampler(EntryTable.from_dataset(make_dataset(schema, labels)), 3, balance=1.0)
    rows = np.concatenate([sampler.plan(epoch, step).rows for epoch in range(600) for step in range(4)])
    drawn = np.bincount(rows, minlength=12) / 600
    np.testing.assert_allclose(drawn, 12 / 18 * np.array([3, 3, 3] + [1] * 9), atol=0.08)


@pytest.mark.parametrize(
    ("batch_size", "drop_last"), [(8, True), (10, False), (300, True), (1023, True), (2000, False)]
)
def test_balanced_batches_are_whole_and_hold_no_image_twice(long_tail, batch_size, drop_last):
    sampler = DenseSampler(long_tail, batch_size, drop_last=drop_last, balance=1.0)
    assert sampler.steps_per_epoch == DenseSampler(long_tail, batch_size, drop_last=drop_last).steps_per_epoch
    for step in range(sampler.steps_per_epoch):
        plan = sampler.plan(1, step)
        assert len(plan.rows) == len(plan.image_index) == min(batch_size, 1023)


def test_a_balanced_image_comes_as_often_as_its_quota_rounded(long_tail):
    sampler = DenseSampler(long_tail, 8, balance=1.0)
    rows = np.concatenate([sampler.plan(0, step).rows for step in range(127)])
    quotas = np.repeat(101.6 / 2.0 ** np.arange(9, -1, -1), 2 ** np.arange(9, -1, -1))
    drawn = np.bincount(rows, minlength=1023)
    assert ((drawn == np.floor(quotas)) | (drawn == np.ceil(quotas))).all()


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_balanced_plans_are_a_function_of_seed_epoch_step_and_rank(labels, world_size):
    sampler, fresh = (DenseSampler(labels, 12, seed=4, balance=0.7) for _ in range(2))
    sampler.plan(0, 0)
    for epoch, step in [(5, 3), (0, 2)]:
        parts = [fresh.plan(epoch, step, rank, world_size) for rank in range(world_size)]
        union = [entry for part in parts for entry in entries_of(part)]
        assert sorted(union) == sorted(entries_of(sampler.plan(epoch, step)))
    orders = {tuple(DenseSampler(labels, 12, s, balance=0.7).plan(e, 1).rows) for s in (0, 1) for e in (0, 1)}
    assert len(orders) == 4


def test_balance_zero_keeps_the_order_of_a_permutation(labels):
    sampler = DenseSampler(labels, 10, seed=3, balance=0.0)
    order = np.random.default_rng([3, 2]).permutation(53)
    for step in range(5):
        assert sampler.plan(2, step).rows.tolist() == sorted(order[step * 10 : step * 10 + 10])


@pytest.mark.parametrize("balance", [-0.1, 1.5, float("nan")])
def test_balance_outside_its_range(labels, balance):
    with pytest.raises(ValueError, match=r"balance must be within \[0, 1\], got"):
        DenseSampler(labels, 10, balance=balance)
