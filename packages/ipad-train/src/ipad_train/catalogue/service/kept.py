"""What the service keeps for a while: pictures, maps, uploads."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
from PIL import Image

_T = TypeVar("_T")


class Kept:
    """A cache of the ``size`` entries used last; safe among threads."""

    def __init__(self, size: int) -> None:
        self._size, self._entries, self._lock = size, OrderedDict[Any, Any](), threading.Lock()

    def get(self, key: Any, make: Callable[[], _T] | None = None) -> _T | None:
        """The entry of a key; made where it is absent, or None."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                return self._entries[key]
        if make is None:
            return None
        self.put(key, made := make())
        return made

    def put(self, key: Any, entry: Any) -> None:
        with self._lock:
            self._entries[key] = entry
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)


class Upload:
    """A photo that a visitor gave: decoded pixels, vectors ``(A, D)`` and the values that it shows."""

    def __init__(self, image: np.ndarray, vectors: np.ndarray, values: Mapping[str, Any]) -> None:
        self.image, self.vectors, self.values = image, vectors, values


def heat_png(heat: np.ndarray, side: int = 64) -> bytes:
    """A map of ``(h, w)`` in [0, 1] as a PNG of warm colors that are the less transparent the higher the map is."""
    fine = Image.fromarray(heat.astype(np.float32)).resize((side, side), Image.Resampling.BICUBIC)
    level = np.asarray(fine).clip(0, 1)
    steps, colors = np.linspace(0, 1, 4), np.array([[90, 0, 80], [220, 50, 20], [255, 170, 30], [255, 250, 190]])
    rgba = np.stack([np.interp(level, steps, colors[:, i]) for i in range(3)] + [215 * level**0.7], axis=2)
    buffer = io.BytesIO()
    Image.fromarray(rgba.round().astype(np.uint8), "RGBA").save(buffer, "PNG")
    return buffer.getvalue()
