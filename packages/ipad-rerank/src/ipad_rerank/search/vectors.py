"""Arrays of the caller: numpy, torch or lists come in, are checked, and answers go back in kind.

Nothing here holds a whole gallery in memory: :class:`Vectors` reads rows in chunks, so a memory-mapped file of any
size costs one chunk.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch

from ipad_rerank.search.memory import slices, work_budget

Array: TypeAlias = np.ndarray | torch.Tensor
"""What comes back: of the kind that came in."""

ArrayLike: TypeAlias = np.ndarray | torch.Tensor | Sequence[Any]
"""What is taken: numpy (also memory-mapped), torch on any device, or nested lists."""

Device: TypeAlias = torch.device | str | None

ZERO_VECTOR_SCORE = -2.0
"""Score of a zero vector: it has no direction, so it ranks below every cosine (the least of which is -1)."""


class Vectors:
    """A checked view of ``(N, D)`` vectors that are read in chunks as unit-length tensors.

    Args:
        value: numpy array (read-only, non-contiguous, memory-mapped), torch tensor on any device, or nested lists.
        name: Name of the caller's argument, for error messages.
        dim: Required D, and ``dim_of``, the argument it comes from.
        ndim: 2 for ``(N, D)``, 3 for ``(Q, k, D)``; chunks are cut along the first axis.

    Raises:
        ValueError: empty, ragged, another number of axes, another D; NaN or infinite values (when a chunk is read).
        TypeError: not numbers.
    """

    def __init__(
        self, value: ArrayLike, name: str, dim: int | None = None, dim_of: str = "query", ndim: int = 2
    ) -> None:
        self.name = name
        self.array = _as_array(value, name)
        shape = tuple(self.array.shape)
        wanted = "(N, D)" if ndim == 2 else "(Q, k, D)"
        if len(shape) != ndim:
            hint = " (for a single vector pass vector[None])" if ndim == 2 and len(shape) == 1 else ""
            raise ValueError(f"{name} must have shape {wanted}, got {shape}{hint}")
        if 0 in shape:
            raise ValueError(f"{name} is empty: shape {shape}")
        if dim is not None and shape[-1] != dim:
            raise ValueError(f"{name} has {shape[-1]} dimensions, {dim_of} has {dim}; they must be equal")
        self.shape = shape

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def dim(self) -> int:
        return self.shape[-1]

    @property
    def is_torch(self) -> bool:
        return isinstance(self.array, torch.Tensor)

    @property
    def device(self) -> torch.device:
        return self.array.device if self.is_torch else torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """Of the work: float64 where these are, else float32."""
        return torch.float64 if str(self.array.dtype).endswith("float64") else torch.float32

    def unit(
        self, rows: slice | torch.Tensor, dtype: torch.dtype = torch.float32, device: Device = None
    ) -> torch.Tensor:
        """Rows at unit length, those of a slice, or at numbers (int64, any shape) -> ``(*rows.shape, D)``.

        A zero vector stays zero.
        """
        if isinstance(rows, slice):
            return self._unit(self.array[rows], dtype, device, rows.start)
        if self.is_torch:
            return self._unit(self.array[rows.to(self.array.device)], dtype, device)
        wanted, places = np.unique(rows.cpu().numpy(), return_inverse=True)  # ascending: kind to a memory map
        unit = self._unit(self.array[wanted], dtype, device)
        return unit[torch.from_numpy(places.reshape(rows.shape)).to(unit.device)]

    def unit_if_it_fits(
        self, rows: torch.Tensor | None, dtype: torch.dtype, device: torch.device
    ) -> torch.Tensor | None:
        """The rows at numbers ``(n,)``, or all, to be kept; None where they have to be read a few at a time."""
        count = len(self) if rows is None else len(rows)
        fits = 2 * count * self.dim * dtype.itemsize <= work_budget(device)
        return self.all_unit(rows, dtype, device) if fits else None

    def all_unit(self, rows: torch.Tensor | None, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """The rows at numbers ``(n,)``, or all, made a few at a time."""
        count = len(self) if rows is None else len(rows)
        unit = torch.empty(count, self.dim, dtype=dtype, device=device)
        for part in slices(count, 4096):
            unit[part] = self.unit(part if rows is None else rows[part], dtype, device)
        return unit

    def _unit(self, chunk: Array, dtype: torch.dtype, device: Device, start: int | None = None) -> torch.Tensor:
        if not self.is_torch:
            kind = np.float64 if dtype == torch.float64 else np.float32
            chunk = torch.from_numpy(np.array(chunk, dtype=kind, order="C", copy=True))
        chunk = chunk.detach().to(device=device if device is not None else self.device, dtype=dtype)
        peak = chunk.abs().amax(dim=-1, keepdim=True)  # scaling by the peak first: no overflow, NaN and inf survive
        if not bool(torch.isfinite(peak).all()):
            bad = (~torch.isfinite(peak)).reshape(len(chunk), -1).any(1).nonzero()[0].item()
            where = "" if start is None else f" (first in row {start + bad})"
            raise ValueError(f"{self.name} has NaN or infinite values{where}")
        chunk = chunk / torch.where(peak > 0, peak, torch.ones_like(peak))
        return chunk / chunk.norm(dim=-1, keepdim=True).clamp_min(0.5)  # a non-zero row now has a norm of at least 1

    def in_kind(self, tensor: torch.Tensor) -> Array:
        """See :func:`in_kind`; what came as lists is answered as numpy."""
        return in_kind(tensor, self.array)


class Pair(NamedTuple):
    """Queries and what they search, checked, with the kind of number and the device to work with.

    That is float64 where both are, else float32; and a GPU where one of them is there.
    """

    queries: Vectors
    items: Vectors
    dtype: torch.dtype
    device: torch.device


def pair_of(query: ArrayLike, gallery: ArrayLike, own_galleries: bool = False) -> Pair:
    """``query (Q, D)`` and ``gallery (G, D)``, or each query's own candidates ``(Q, k, D)``."""
    queries = Vectors(query, "query")
    name, ndim = ("candidates", 3) if own_galleries else ("gallery", 2)
    items = Vectors(gallery, name, dim=queries.dim, ndim=ndim)
    if own_galleries and len(items) != len(queries):
        raise ValueError(f"candidates has {len(items)} rows, query has {len(queries)}; they must be equal")
    dtype = queries.dtype if queries.dtype == items.dtype else torch.float32
    return Pair(queries, items, dtype, items.device if items.device.type != "cpu" else queries.device)


def in_kind(tensor: torch.Tensor, like: Array) -> Array:
    """``tensor`` as numpy where ``like`` is that, else on the device of ``like``."""
    return tensor.to(like.device) if isinstance(like, torch.Tensor) else tensor.cpu().numpy()


def positive_int(value: object, name: str, least: int = 1) -> int:
    """``value`` as an int of at least 1, or ``least``."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be a whole number, got {type(value).__name__} {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return int(value)


def number_in(interval: str, value: float, name: str) -> float:
    """``value``, if it lies in an interval such as "[0, 1)" or "(0, inf)"."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise TypeError(f"{name} must be a number, got {type(value).__name__} {value!r}")
    low, high = (float(end) for end in interval[1:-1].split(","))
    inside = low < value < high or (value == low and interval[0] == "[") or (value == high and interval[-1] == "]")
    if not inside:
        raise ValueError(f"{name} must be within {interval}, got {value}")
    return value


def one_of(choices: Iterable[str], value: str, name: str) -> str:
    """``value``, if it is one of ``choices``."""
    if value not in (choices := tuple(choices)):
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
    return value


def _as_array(value: ArrayLike, name: str) -> Array:
    if isinstance(value, torch.Tensor):
        if value.is_complex() or value.dtype == torch.bool:
            raise TypeError(f"{name} must hold real numbers, got {value.dtype}")
        return value
    if not isinstance(value, np.ndarray):
        if isinstance(value, (list, tuple)) and len(value) and isinstance(value[0], torch.Tensor):
            return _as_array(torch.stack(list(value)), name)
        try:
            value = np.asarray(value)
        except ValueError as error:
            raise ValueError(f"{name} must be a rectangular array of numbers: {error}") from error
    if value.size and value.dtype.kind not in "fiu":
        raise TypeError(f"{name} must hold real numbers, got dtype {value.dtype}")
    return value
