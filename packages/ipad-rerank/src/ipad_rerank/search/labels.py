"""Labels of any kind as whole numbers (numbers, truth values, words; None is unlabelled and equals nothing), and groups.

Where labels count within groups, each group of queries searches the gallery rows of the same group.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from ipad_rerank.search.vectors import Array, ArrayLike

UNLABELLED = -(1 << 63)
"""Stands for None."""

Rows: TypeAlias = "np.ndarray | slice"
"""Rows to index an array with; ``slice(None)`` is all of them, without a copy."""

ALL = slice(None)


def as_labels(value: ArrayLike, name: str, length: int, length_of: str) -> Tensor:
    """``(N,)`` int64 labels on the CPU; a word has the same number wherever it stands.

    Args:
        value: Whole numbers, truth values, words, or a mixture of None and one of these.
        name: Of the caller's argument, for messages.
        length: How many there must be.
        length_of: What they must be as many as.

    Raises:
        ValueError: another shape or length, fractions.
        TypeError: neither numbers nor words, or both.
    """
    array = _as_numpy(value)
    if array.ndim != 1:
        raise ValueError(f"{name} must have shape (N,), got {array.shape}")
    if len(array) != length:
        raise ValueError(f"{name} has {len(array)} entries, {length_of} has {length} rows; they must be equal")
    return torch.from_numpy(label_numbers(array, name))


def label_numbers(array: np.ndarray, name: str) -> np.ndarray:
    """As :func:`as_labels`, of a numpy array."""
    kind = label_kind(array, name)
    if array.dtype.kind == "O":
        known = np.array([entry is not None for entry in array], dtype=bool)
        numbers = np.full(len(array), UNLABELLED, dtype=np.int64)
        if known.any():
            plain = np.array(array[known].tolist())
            if plain.dtype.kind == "O":
                raise ValueError(f"{name} must fit into 64 bits, got whole numbers that do not; words may be longer")
            numbers[known] = label_numbers(plain, name)
        return numbers
    if kind == "words":  # 64 bits of each word's hash, so that a word has the same number in every file
        words, places = np.unique(array, return_inverse=True)
        digests = b"".join(hashlib.blake2b(str(word).encode(), digest_size=8).digest() for word in words)
        return np.frombuffer(digests, dtype="<i8").astype(np.int64)[places.reshape(-1)]
    if array.dtype.kind == "f" and not bool(((array == np.round(array)) & (np.abs(array) < 2.0**63)).all()):
        raise ValueError(
            f"{name} must be whole numbers or words, got {array.dtype} with fractions, NaN or more than 64 bits"
        )
    return array.astype(np.int64)


def label_kind(value: ArrayLike, name: str) -> str | None:
    """ "numbers", "words", or None where all are unlabelled; TypeError for a mixture, or anything else."""
    array = _as_numpy(value)
    if array.dtype.kind in "biuf":
        return "numbers"
    if array.dtype.kind == "U":
        return "words"
    types = {type(entry) for entry in array.ravel() if entry is not None}
    words = {issubclass(kind, str) for kind in types}
    if len(words) > 1 or not all(
        issubclass(kind, (str, int, float, np.integer, np.floating, np.bool_)) for kind in types
    ):
        found = ", ".join(sorted(kind.__name__ for kind in types))
        raise TypeError(f"{name} must be whole numbers or words (or None), not both and nothing else; got {found}")
    return None if not words else "words" if words.pop() else "numbers"


def check_same_kind(first: ArrayLike, first_name: str, second: ArrayLike, second_name: str) -> None:
    """TypeError where one holds words and the other numbers: 1 and "1" would never be equal."""
    kinds = (label_kind(first, first_name), label_kind(second, second_name))
    if None not in kinds and kinds[0] != kinds[1]:
        raise TypeError(
            f"{first_name} are {kinds[0]} and {second_name} are {kinds[1]}: none would equal another; make them of one kind"
        )


def pair_ids(first: Tensor, second: Tensor) -> Tensor:
    """``(N,)`` whole numbers from 0 on, one for each pair of values that occurs."""
    first, second = (values.unique(return_inverse=True)[1] for values in (first, second))
    return (first * (int(second.max()) + 1 if len(second) else 1) + second).unique(return_inverse=True)[1]


def check_groups(query_groups: object, gallery_groups: object) -> None:
    """ValueError where one of the two is given without the other."""
    if (query_groups is None) != (gallery_groups is None):
        missing = "query_groups" if query_groups is None else "gallery_groups"
        raise ValueError(f"query_groups and gallery_groups go together, {missing} is missing")


def searches(query_groups: Array | None, gallery_groups: Array | None) -> Iterator[tuple[Rows, Rows]]:
    """``(query_rows, gallery_rows)`` of each search: all in all without groups, else one pair a group.

    A group that the gallery lacks is left out.

    Args:
        query_groups: ``(Q,)`` whole numbers or None.
        gallery_groups: ``(G,)`` or None.
    """
    check_groups(query_groups, gallery_groups)
    if query_groups is None:
        yield ALL, ALL
        return
    query_groups, gallery_groups = _as_numpy(query_groups), _as_numpy(gallery_groups)
    for group in np.unique(query_groups):
        gallery_rows = np.flatnonzero(gallery_groups == group)
        if len(gallery_rows):
            yield np.flatnonzero(query_groups == group), gallery_rows


def _as_numpy(value: ArrayLike) -> np.ndarray:
    return value.numpy(force=True) if isinstance(value, Tensor) else np.asarray(value)
