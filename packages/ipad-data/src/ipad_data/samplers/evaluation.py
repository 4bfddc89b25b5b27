"""Plans that go once through a dataset, in row order: for evaluation and for embedding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from datasets import Dataset
from torch.utils.data import Sampler

from ipad_data.roles import ROLES
from ipad_data.samplers.entry_table import EntryTable
from ipad_data.samplers.plan import BatchPlan, check_positive, check_rank, plan_from_rows


class EvaluationPlans(Sampler[BatchPlan]):
    """Every entry of the given roles once, in row order; each row is decoded once.

    Args:
        dataset: Dataset of this package.
        batch_size: Images a batch.
        roles: Roles to keep; entries of other roles, and images without any left, are left out.
        rank, world_size: Rank r takes batches r, r + world_size, ...; ranks may differ by one batch, nothing is
            repeated.

    Raises:
        ValueError: unknown role, or no entry has one of the roles.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        roles: Sequence[str] = ("query", "gallery"),
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        check_positive(batch_size=batch_size)
        check_rank(rank, world_size)
        if isinstance(roles, str) or not set(roles) <= set(ROLES):
            raise ValueError(f"roles must be a sequence of {', '.join(ROLES)}; got {roles!r}")
        table = EntryTable.from_dataset(dataset)
        kept = np.isin(table.roles, [ROLES.index(role) for role in roles])
        if not kept.any():
            raise ValueError(f"dataset has no entries of roles {', '.join(roles)}")
        self._rows, self._attribute_ids, self._value_ids, self.roles = (
            array[kept] for array in (table.rows, table.attribute_ids, table.value_ids, table.roles)
        )
        starts = np.unique(self._rows, return_index=True)[1]
        self._bounds = [*starts[::batch_size].tolist(), len(self._rows)]
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        return len(range(self.rank, len(self._bounds) - 1, self.world_size))

    def __iter__(self) -> Iterator[BatchPlan]:
        for batch in range(self.rank, len(self._bounds) - 1, self.world_size):
            part = slice(self._bounds[batch], self._bounds[batch + 1])
            yield plan_from_rows(self._rows[part], self._attribute_ids[part], self._value_ids[part])
