"""Labels that count within groups: each group of queries searches the gallery rows of the same group."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np

from ipad_rerank.search.vectors import Array

Rows: TypeAlias = "np.ndarray | slice"
"""Rows to index an array with; ``slice(None)`` is all of them, without a copy."""

ALL = slice(None)


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
    query_groups, gallery_groups = _on_cpu(query_groups), _on_cpu(gallery_groups)
    for group in np.unique(query_groups):
        gallery_rows = np.flatnonzero(gallery_groups == group)
        if len(gallery_rows):
            yield np.flatnonzero(query_groups == group), gallery_rows


def _on_cpu(groups: Array) -> np.ndarray:
    return groups if isinstance(groups, np.ndarray) else groups.cpu().numpy()
