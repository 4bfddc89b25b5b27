"""The words of a model: names of its attributes and of their values."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor

from ipad_core.models.entries import check_within

Words = dict[str, list[str]]
_KINDS = ("i", "u", "f", "b")  # of numpy's arrays of numbers; those of names are read one by one


def checked_words(words: Mapping[str, Sequence[str]] | None, num_attributes: int) -> Words | None:
    """A copy of attribute name -> value names, in the order of the attribute ids; None for a model without words.

    Raises:
        ValueError: another number of attributes than the model has.
        TypeError: names that are no strings.
    """
    if words is None:
        return None
    copied = {name: list(values) for name, values in words.items()} if isinstance(words, Mapping) else {None: []}
    if not all(
        isinstance(name, str) for name in [*copied, *(value for values in copied.values() for value in values)]
    ):
        raise TypeError(f"schema must map names of attributes to lists of names of values, got {words!r}")
    if len(copied) != num_attributes:
        raise ValueError(f"schema must name {num_attributes} attributes, got {len(copied)}: {', '.join(copied)}")
    return copied


def attribute_numbers(asked: Any, words: Words | None, num_attributes: int, argument: str) -> Tensor:
    """``(K,)`` ids of attributes given as numbers, names, a mix of both, or ``all``; None means all.

    Raises:
        ValueError: an unknown name (the nearest are named), names for a model without words, a number out of range, or
            nothing asked for.
    """
    if asked is None or (isinstance(asked, str) and asked == "all" and "all" not in (words or {})):
        return torch.arange(num_attributes)
    if isinstance(asked, Tensor) or getattr(getattr(asked, "dtype", None), "kind", "") in _KINDS:
        asked = torch.as_tensor(asked)
        if asked.ndim > 1 or asked.is_floating_point() or asked.dtype == torch.bool:
            raise ValueError(f"{argument} must be (B,), whole numbers, got {asked.dtype} {tuple(asked.shape)}")
        numbers = asked.reshape(-1).cpu().long()
    else:
        several = asked if isinstance(asked, Iterable) and not isinstance(asked, str) else [asked]
        numbers = torch.tensor([_number(each, words, num_attributes, argument) for each in several], dtype=torch.long)
    if not len(numbers):
        raise ValueError(f"{argument} is empty: there is nothing to embed")
    check_within(argument, numbers, num_attributes)
    return numbers


def _number(asked: Any, words: Words | None, num_attributes: int, argument: str) -> int:
    if not isinstance(asked, str):
        try:
            return operator.index(None if isinstance(asked, bool) else asked)
        except TypeError:
            raise ValueError(f"{argument} must be numbers or names of attributes, got {asked!r}") from None
    if words is None:
        raise ValueError(
            f"{argument} is {asked!r}, but this model does not know the names of its {num_attributes} attributes; give a "
            "number, or set `model.schema = {name: [values], ...}`"
        )
    if asked not in words:
        near = get_close_matches(asked, words) or list(words)
        raise ValueError(f"unknown attribute {str(asked)!r}; did you mean one of: {', '.join(near)}?")
    return list(words).index(asked)
