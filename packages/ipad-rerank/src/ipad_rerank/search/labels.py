"""Labels of any kind as whole numbers: numbers, truth values, words; None is unlabelled and equals nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ipad_rerank.search.vectors import ArrayLike

UNLABELLED = -(1 << 63)
"""Stands for None."""


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
    array = value if isinstance(value, Tensor) else np.asarray(value)
    if array.ndim != 1:
        raise ValueError(f"{name} must have shape (N,), got {tuple(array.shape)}")
    if array.shape[0] != length:
        raise ValueError(f"{name} has {array.shape[0]} entries, {length_of} has {length} rows; they must be equal")
    return torch.from_numpy(label_numbers(array.detach().cpu().numpy() if isinstance(array, Tensor) else array, name))


def label_numbers(array: np.ndarray, name: str) -> np.ndarray:
    """As :func:`as_labels`, of a numpy array."""
    kind = label_kind(array, name)
    if array.dtype.kind == "O":
        known = np.array([entry is not None for entry in array.tolist()], dtype=bool)
        numbers = np.full(len(array), UNLABELLED, dtype=np.int64)
        if known.any():
            numbers[known] = label_numbers(np.array(array[known].tolist()), name)
        return numbers
    if kind == "words":
        return hashed(array)
    if array.dtype.kind == "f" and not bool((array == np.round(array)).all()):
        raise ValueError(f"{name} must be whole numbers or words, got {array.dtype} with fractions or NaN")
    return array.astype(np.int64)


def label_kind(value: ArrayLike, name: str) -> str | None:
    """ "numbers", "words", or None where all are unlabelled; TypeError for a mixture, or anything else."""
    array = value.numpy(force=True) if isinstance(value, Tensor) else np.asarray(value)
    if array.dtype.kind in "biuf":
        return "numbers"
    if array.dtype.kind == "U":
        return "words"
    entries = [entry for entry in array.tolist() if entry is not None] if array.dtype.kind == "O" else [b""]
    found = {"words" if isinstance(entry, str) else "numbers" if _is_number(entry) else "else" for entry in entries}
    if len(found) > 1 or "else" in found:
        raise TypeError(
            f"{name} must be whole numbers or words (or None), not both and nothing else; got {_kinds(entries)}"
        )
    return found.pop() if found else None


def check_same_kind(first: ArrayLike, first_name: str, second: ArrayLike, second_name: str) -> None:
    """TypeError where one holds words and the other numbers: 1 and "1" would never be equal."""
    kinds = (label_kind(first, first_name), label_kind(second, second_name))
    if None not in kinds and kinds[0] != kinds[1]:
        raise TypeError(
            f"{first_name} are {kinds[0]} and {second_name} are {kinds[1]}: none would equal another; make them of one kind"
        )


def hashed(words: np.ndarray) -> np.ndarray:
    """64 bits of each word's hash, so that a word has the same number in every file."""
    known, places = np.unique(words, return_inverse=True)
    digests = b"".join(hashlib.blake2b(str(word).encode(), digest_size=8).digest() for word in known)
    return np.frombuffer(digests, dtype="<i8").astype(np.int64)[places.reshape(-1)]


def _is_number(entry: object) -> bool:
    return isinstance(entry, (int, float, np.number, np.bool_))


def _kinds(entries: Sequence[object]) -> str:
    return ", ".join(sorted({type(entry).__name__ for entry in entries}))
