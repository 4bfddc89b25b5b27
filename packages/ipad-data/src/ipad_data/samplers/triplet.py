"""Triplet batches: (anchor, positive, negative) images of one attribute each."""

from __future__ import annotations

import warnings

import numpy as np

from ipad_data.samplers.entry_table import EntryTable
from ipad_data.samplers.plan import BatchPlan, check_positive, check_step, plan_from_rows, share_of_rank


class TripletSampler:
    """Attribute uniform, then an ordered pair of its values uniform, then images of these values uniform.

    Anchor and positive are two different images of the first value, the negative is an image of the second value that
    does not have the first one (an image may have several values of an attribute). Values of a single image are never
    anchors. Attributes in which no triplet can be formed are left out with a warning.

    Args:
        labels: Entries to train on.
        batch_size: Triplets of the global batch.
        triplets_per_epoch: An epoch has ``triplets_per_epoch // batch_size`` steps, at least one.
        seed: Seed of all draws.

    Raises:
        ValueError: no attribute allows a triplet.

    References:
        Wan et al. 2025, section 4.1: 100,000 triplets an epoch.
    """

    def __init__(self, labels: EntryTable, batch_size: int, triplets_per_epoch: int = 100_000, seed: int = 0) -> None:
        check_positive(batch_size=batch_size, triplets_per_epoch=triplets_per_epoch)
        self.batch_size, self.triplets_per_epoch, self.seed = batch_size, triplets_per_epoch, seed
        self._total_values = labels.schema.total_values
        # Distinct (value, row) pairs sorted by value: the images of value v are _rows[_starts[v] : _starts[v + 1]].
        self._stride = int(labels.rows.max(initial=0)) + 1
        self._keys = np.unique(labels.value_ids * self._stride + labels.rows)
        self._rows = self._keys % self._stride
        self._counts = np.bincount(self._keys // self._stride, minlength=self._total_values)
        self._starts = np.concatenate([[0], np.cumsum(self._counts)])
        self._pairs = [self._pairs_of(labels, attribute_id) for attribute_id in range(len(labels.schema.attributes))]
        self._attributes = np.flatnonzero([pairs.total > 0 for pairs in self._pairs])
        left_out = [name for name, pairs in zip(labels.schema.attributes, self._pairs, strict=True) if not pairs.total]
        if not len(self._attributes):
            raise ValueError(
                "no attribute allows a triplet: one needs two values, and two images of one of them; "
                f"attributes: {', '.join(left_out)}"
            )
        if left_out:
            warnings.warn(
                f"left out of triplets, having too few values or images: {', '.join(left_out)}", stacklevel=2
            )

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch."""
        return max(1, self.triplets_per_epoch // self.batch_size)

    def plan(self, epoch: int, step: int, rank: int = 0, world_size: int = 1) -> BatchPlan:
        """Plan of a step on a rank; anchors, positives and negatives are stacked in that order."""
        check_step(epoch, step, self.steps_per_epoch)
        share = share_of_rank(self.batch_size, rank, world_size)
        rng = np.random.default_rng([self.seed, epoch, step])
        attribute_ids, values, others = self._draw_values(rng)
        anchors, positives = self._draw_two(rng, values)
        negatives = self._draw_negatives(rng, values, others)
        rows = np.concatenate([anchors[share], positives[share], negatives[share]])
        value_ids = np.concatenate([values[share], values[share], others[share]])
        return plan_from_rows(rows, np.tile(attribute_ids[share], 3), value_ids, parts=3)

    def _pairs_of(self, labels: EntryTable, attribute_id: int) -> _ValuePairs:
        first = labels.schema.offsets[attribute_id]
        values = np.arange(first, first + labels.schema.num_values[attribute_id])
        values = values[self._counts[values] > 0]
        return _ValuePairs(values, self._counts[values] >= 2, self._covered(labels, attribute_id, values))

    def _covered(self, labels: EntryTable, attribute_id: int, values: np.ndarray) -> list[tuple[int, int]]:
        """Positions ``(first, second)`` in values where every image of the second value has the first one, too."""
        of_attribute = labels.attribute_ids == attribute_id
        keys = np.unique(labels.rows[of_attribute] * self._total_values + labels.value_ids[of_attribute])
        rows, position = keys // self._total_values, np.searchsorted(values, keys % self._total_values)
        together: dict[tuple[int, int], int] = {}
        starts, sizes = np.unique(rows, return_index=True, return_counts=True)[1:]
        for start, size in zip(starts[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
            found = position[start : start + size].tolist()
            for one in found:
                for other in found:
                    if one != other:
                        together[one, other] = together.get((one, other), 0) + 1
        return [pair for pair, count in together.items() if count == self._counts[values[pair[1]]]]

    def _draw_values(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        attribute_ids = self._attributes[rng.integers(len(self._attributes), size=self.batch_size)]
        uniform = rng.random(self.batch_size)
        values, others = np.empty_like(attribute_ids), np.empty_like(attribute_ids)
        for attribute_id in np.unique(attribute_ids):
            chosen = attribute_ids == attribute_id
            values[chosen], others[chosen] = self._pairs[attribute_id].draw(uniform[chosen])
        return attribute_ids, values, others

    def _draw_two(self, rng: np.random.Generator, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        counts = self._counts[values]
        first = rng.integers(counts)
        second = rng.integers(counts - 1)
        second += second >= first
        return self._rows[self._starts[values] + first], self._rows[self._starts[values] + second]

    def _draw_negatives(self, rng: np.random.Generator, values: np.ndarray, others: np.ndarray) -> np.ndarray:
        negatives = self._rows[self._starts[others] + rng.integers(self._counts[others])]
        again = rng.random(self.batch_size)
        keys = values * self._stride + negatives
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        for i in np.flatnonzero(self._keys[at] == keys):  # has the anchor's value as well: draw among those without
            allowed = np.setdiff1d(self._images(others[i]), self._images(values[i]), assume_unique=True)
            negatives[i] = allowed[int(again[i] * len(allowed))]
        return negatives

    def _images(self, value_id: int) -> np.ndarray:
        return self._rows[self._starts[value_id] : self._starts[value_id + 1]]


class _ValuePairs:
    """Ordered pairs of an attribute's values that allow a triplet, drawn uniformly without listing all of them.

    Args:
        values: ``(V,)`` flat ids of the values that have images.
        anchors: ``(V,)`` whether a value has two images.
        covered: Positions (first, second) that allow none although both have images.
    """

    def __init__(self, values: np.ndarray, anchors: np.ndarray, covered: list[tuple[int, int]]) -> None:
        self.values = values
        barred = [[position] for position in range(len(values))]
        for first, second in covered:
            barred[first].append(second)
        partners = np.asarray([len(values) - len(positions) for positions in barred], dtype=np.int64)
        self._cumulated = np.cumsum(np.where(anchors, partners, 0))
        self._before = self._cumulated - np.where(anchors, partners, 0)
        self._barred = np.full((len(values), max(map(len, barred), default=0)), len(values))
        for position, positions in enumerate(barred):
            self._barred[position, : len(positions)] = sorted(positions)
        self.total = int(self._cumulated[-1]) if len(values) else 0

    def draw(self, uniform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Flat ids of the first and of the second value of a pair for each number in [0, 1)."""
        pair = (uniform * self.total).astype(np.int64)
        first = np.searchsorted(self._cumulated, pair, side="right")
        second = pair - self._before[first]
        for column in range(self._barred.shape[1]):  # the k-th value that is not barred
            second += second >= self._barred[first, column]
        return self.values[first], self.values[second]
