"""Dense batches: every labelled attribute of a batch of images, so that one pass of the trunk serves all of them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ipad_data.samplers.entry_table import EntryTable
from ipad_data.samplers.plan import BatchPlan, check_positive, check_rank, check_step, plan_from_rows, share_of_rank


class DenseSampler:
    """Each epoch goes once through all images in random order, ``batch_size`` images a step.

    With ``balance`` an epoch has as many steps, but images with rare values come more often. An image's weight is the
    largest, over its labelled entries, of::

        (images of the attribute's most common value / images of the entry's value) ** balance

    An image comes in an epoch as often as its share of the sum of all weights says, rounded up or down by a draw. It is
    never twice in a batch, so at most once a step. With ``balance=1`` and one attribute all values come equally often.
    With several attributes, all values of an attribute come at least so often, the same number for each; some come more
    often, because an image that is drawn for a rare value brings its other values along. Whether the attribute itself is
    labelled on many images or on few does not count.

    Args:
        labels: Entries to train on.
        batch_size: Images of the global batch.
        seed: Order of the images.
        drop_last: Leave out the last, smaller batch of an epoch. Where it is kept, ranks may get shares that differ by
            one image, and an empty one where it has fewer images than there are ranks.
        entries_per_image: At most so many entries of an image a step, drawn uniformly; all of them when None.
        balance: Within [0, 1]. 0: every image once an epoch. 1: rare values as often as common ones. With more than 0
            every batch is whole, also the last one of an epoch without ``drop_last``.

    Raises:
        ValueError: no entries, a batch larger than the number of labelled images with ``drop_last``, or ``balance``
            outside [0, 1].

    Example:
        >>> sampler = DenseSampler(EntryTable.from_dataset(train), batch_size=64)  # doctest: +SKIP
        >>> plan = sampler.plan(epoch=0, step=3)  # doctest: +SKIP
    """

    def __init__(
        self,
        labels: EntryTable,
        batch_size: int,
        seed: int = 0,
        drop_last: bool = True,
        entries_per_image: int | None = None,
        balance: float = 0.0,
    ) -> None:
        check_positive(batch_size=batch_size)
        if not 0 <= balance <= 1:
            raise ValueError(f"balance must be within [0, 1], got {balance}")
        if entries_per_image is not None:
            check_positive(entries_per_image=entries_per_image)
        self.batch_size, self.seed, self.drop_last = batch_size, seed, drop_last
        self.entries_per_image, self.balance = entries_per_image, balance
        order = np.argsort(labels.rows, kind="stable")
        self._attribute_ids, self._value_ids = labels.attribute_ids[order], labels.value_ids[order]
        self._rows, self._starts, self._counts = np.unique(labels.rows[order], return_index=True, return_counts=True)
        most = len(self._rows)
        if most == 0 or (drop_last and batch_size > most):
            raise ValueError(f"batch_size must be at most the number of labelled images, {most}; got {batch_size}")
        self._quotas = self._draws_per_epoch(labels, order) if balance else None
        self._order = lru_cache(maxsize=2)(self._draw_order)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch."""
        whole, rest = divmod(len(self._rows), self.batch_size)
        return whole + int(rest > 0 and not self.drop_last)

    def plan(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> BatchPlan:
        """Plan of a step on a rank. Jumping to an epoch costs one draw of its order, a step nothing."""
        check_step(epoch, step, self.steps_per_epoch)
        images = self._order(epoch)[step * self.batch_size : (step + 1) * self.batch_size]
        if len(images) == self.batch_size:
            share = share_of_rank(self.batch_size, rank, world_size)
        else:
            check_rank(rank, world_size)
            share = slice(len(images) * rank // world_size, len(images) * (rank + 1) // world_size)
        counts = self._counts[images]
        entries = np.repeat(self._starts[images] - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        owner = np.repeat(np.arange(len(images)), counts)
        if self.entries_per_image is not None:
            chosen = self._choose(owner, epoch, step)
            entries, owner = entries[chosen], owner[chosen]
        mine = (owner >= share.start) & (owner < share.stop)
        entries, owner = entries[mine], owner[mine]
        return plan_from_rows(self._rows[images[owner]], self._attribute_ids[entries], self._value_ids[entries])

    def _draw_order(self, epoch: int) -> np.ndarray:
        """Images of an epoch, one batch after the other, as positions in ``_rows``."""
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(self._rows))
        if self._quotas is None:
            return order
        size = min(self.batch_size, len(order))
        drawn = np.floor(np.cumsum(self._quotas[order]) + rng.random()).astype(np.int64)
        drawn[-1] = size * self.steps_per_epoch  # what it is but for rounding
        copies = np.repeat(order, np.diff(drawn, prepend=0))
        # Dealt out one by one, the copies of an image, at most one a step, go to different steps.
        return copies.reshape(size, self.steps_per_epoch).T[rng.permutation(self.steps_per_epoch)].reshape(-1)

    def _draws_per_epoch(self, labels: EntryTable, order: np.ndarray) -> np.ndarray:
        """``(N,)`` how often each image comes in an epoch on average; they sum to the images of all batches."""
        counts = labels.value_counts
        most_common = np.maximum.reduceat(counts, labels.schema.offsets)
        of_entry = most_common[labels.attribute_ids] / counts[labels.value_ids]
        weights = np.maximum.reduceat(of_entry[order], self._starts) ** self.balance
        quotas = np.zeros(len(weights))
        free = np.ones(len(weights), dtype=bool)  # images that come less often than once a step
        while True:
            left = min(self.batch_size, len(weights)) - np.count_nonzero(~free)
            quotas[free] = left * self.steps_per_epoch * weights[free] / weights[free].sum()
            above = free & (quotas > self.steps_per_epoch)
            if not above.any():
                return quotas
            quotas[above] = self.steps_per_epoch
            free &= ~above

    def _choose(self, owner: np.ndarray, epoch: int, step: int) -> np.ndarray:
        """Positions of the entries kept, ``entries_per_image`` of each image; ``owner`` is sorted."""
        rng = np.random.default_rng([self.seed, epoch, step])
        order = np.lexsort((rng.random(len(owner)), owner))
        first = np.searchsorted(owner, owner)
        return np.sort(order[np.arange(len(owner)) - first < self.entries_per_image])
