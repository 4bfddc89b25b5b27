from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from torch.utils.data import DataLoader, Dataset

from ipad_data import AttributeSchema, DenseSampler, EndlessPlans, EntryTable, plans

SCHEMA = AttributeSchema({f"a{i}": [f"v{j}" for j in range(count)] for i, count in enumerate((3, 5, 2))})


class Plans(Dataset):
    """Items are the rows of a plan."""

    def __getitem__(self, plan):
        return plan.rows


@pytest.fixture
def sampler(make_dataset, random_labels):
    return DenseSampler(EntryTable.from_dataset(make_dataset(SCHEMA, random_labels(53, (3, 5, 2)))), 10, seed=1)


def rows_of(plans) -> list[list[int]]:
    return [plan.rows.tolist() for plan in plans]


def test_endless_plans_are_those_of_the_epochs_one_after_the_other(sampler):
    expected = [row for epoch in range(4) for row in rows_of(plans(sampler, epoch))]
    assert rows_of(islice(EndlessPlans(sampler), 20)) == expected


@pytest.mark.parametrize("rank", [0, 1])
def test_endless_plans_start_anywhere_on_any_rank(sampler, rank):
    expected = rows_of(islice(EndlessPlans(sampler, 0, rank, 2), 12))[7:]
    assert rows_of(islice(EndlessPlans(sampler, 7, rank, 2), 5)) == expected
    assert expected[0] == sampler.plan(1, 2, rank, 2).rows.tolist()


def test_endless_plans_feed_a_loader(sampler):
    loader = DataLoader(Plans(), sampler=EndlessPlans(sampler, 3), batch_size=None)
    for found, plan in zip(islice(loader, 6), EndlessPlans(sampler, 3), strict=False):
        np.testing.assert_array_equal(found, plan.rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1,), "start_step must be at least 0, got -1"),
        ((0, 2, 2), r"rank must be within \[0, world_size = 2\), got 2"),
    ],
)
def test_endless_plans_refuse(sampler, arguments, message):
    with pytest.raises(ValueError, match=message):
        EndlessPlans(sampler, *arguments)
