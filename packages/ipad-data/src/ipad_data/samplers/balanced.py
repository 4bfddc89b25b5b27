"""Balanced batches: some attributes, some values of each, some images of each value."""

from __future__ import annotations

import warnings
from itertools import pairwise

import numpy as np

from ipad_data.samplers.entry_table import EntryTable
from ipad_data.samplers.plan import BatchPlan, check_positive, check_rank, check_step, plan_from_rows


class BalancedSampler:
    """``attributes_per_batch`` x ``values_per_attribute`` x ``images_per_value`` entries, drawn without repetition.

    Values with fewer images and attributes with fewer such values are left out, attributes with a warning. Every rank
    gets the same values, and its share of their images.

    Args:
        labels: Entries to train on.
        attributes_per_batch: Attributes of the global batch.
        values_per_attribute: Values of each.
        images_per_value: Images of each value; a rank's share must be at least 2 for a positive pair to exist.
        steps_per_epoch: Batches of an epoch.
        seed: Seed of all draws.

    Raises:
        ValueError: fewer attributes than ``attributes_per_batch`` have enough values and images.
    """

    def __init__(
        self,
        labels: EntryTable,
        attributes_per_batch: int,
        values_per_attribute: int,
        images_per_value: int,
        steps_per_epoch: int,
        seed: int = 0,
    ) -> None:
        check_positive(
            attributes_per_batch=attributes_per_batch,
            values_per_attribute=values_per_attribute,
            images_per_value=images_per_value,
            steps_per_epoch=steps_per_epoch,
        )
        self.attributes_per_batch, self.values_per_attribute = attributes_per_batch, values_per_attribute
        self.images_per_value, self.steps_per_epoch, self.seed = images_per_value, steps_per_epoch, seed
        stride = int(labels.rows.max(initial=0)) + 1
        keys = np.unique(labels.value_ids * stride + labels.rows)
        bounds = np.searchsorted(keys, np.arange(labels.schema.total_values + 1) * stride)
        self._rows = [keys[start:stop] % stride for start, stop in pairwise(bounds)]
        self._values: dict[int, list[int]] = {}
        for attribute_id, (first, count) in enumerate(
            zip(labels.schema.offsets, labels.schema.num_values, strict=True)
        ):
            values = [value for value in range(first, first + count) if len(self._rows[value]) >= images_per_value]
            if len(values) >= values_per_attribute:
                self._values[attribute_id] = values
        self._report_left_out(labels.schema.attributes)

    @property
    def batch_size(self) -> int:
        """Entries of the global batch."""
        return self.attributes_per_batch * self.values_per_attribute * self.images_per_value

    def plan(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> BatchPlan:
        """Plan of a step on a rank.

        Raises:
            ValueError: ``world_size`` does not divide ``images_per_value``, or a rank would get less than two of them.
        """
        check_step(epoch, step, self.steps_per_epoch)
        check_rank(rank, world_size)
        share, rest = divmod(self.images_per_value, world_size)
        if rest or (world_size > 1 and share < 2):
            raise ValueError(
                f"world_size must divide images_per_value = {self.images_per_value} into shares of two or more, "
                f"got {world_size}"
            )
        rng = np.random.default_rng([self.seed, epoch, step])
        rows, attribute_ids, value_ids = [], [], []
        for attribute_id in rng.choice(list(self._values), self.attributes_per_batch, replace=False):
            for value_id in rng.choice(self._values[attribute_id], self.values_per_attribute, replace=False):
                images = rng.choice(self._rows[value_id], self.images_per_value, replace=False)
                rows.append(images[rank * share : (rank + 1) * share])
                attribute_ids.append(np.full(share, attribute_id))
                value_ids.append(np.full(share, value_id))
        return plan_from_rows(*map(np.concatenate, (rows, attribute_ids, value_ids)))

    def _report_left_out(self, names: tuple[str, ...]) -> None:
        needs = f"{self.values_per_attribute} values of {self.images_per_value} images"
        if len(self._values) < self.attributes_per_batch:
            raise ValueError(
                f"attributes_per_batch must be at most the number of attributes with {needs}, {len(self._values)}; "
                f"got {self.attributes_per_batch}"
            )
        left_out = [name for attribute_id, name in enumerate(names) if attribute_id not in self._values]
        if left_out:
            warnings.warn(f"left out of batches, not having {needs}: {', '.join(left_out)}", stacklevel=3)
