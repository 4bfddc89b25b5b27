"""Images as people have them: tensors, arrays, PIL images, files; one or many, of one size or of several."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_FORMS = (
    "a tensor (N, 3, H, W) or (3, H, W), an array (N, H, W, 3) or (H, W, 3), a PIL image, a path, or a list of such"
)

# What broken files make Pillow raise.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)


class ImageBatches:
    """Images that are opened and made tensors a batch at a time.

    Args:
        images: A tensor ``(N, 3, H, W)`` or ``(3, H, W)``, an array ``(N, H, W, 3)`` or ``(H, W, 3)``, a PIL image, a path,
            or a list of single ones. Floats are in [0, 1], whole numbers in [0, 255]. Files and PIL images are turned as
            their EXIF data say, laid over white where they are transparent, and made RGB; grey of 16 bits becomes one of 8.
        size: Side in pixels of the square that images of a list are resized to, unless all of a batch have one size and
            none is a file.

    Raises:
        ValueError: no images, shapes that do not fit, floats outside [0, 1], or whole numbers outside [0, 255].
        TypeError: something else.
        FileNotFoundError, OSError: a file that is not there, or is no image.
    """

    def __init__(self, images: Any, size: int) -> None:
        if hasattr(images, "__array__") and not isinstance(images, Tensor) and not hasattr(images, "convert"):
            images = _from_array(torch.as_tensor(images))
        if isinstance(images, Tensor):
            images = images.unsqueeze(0) if images.ndim == 3 else images
            _check_shape(images)
        elif isinstance(images, (str, Path)) or hasattr(images, "convert"):
            images = [images]
        elif isinstance(images, Iterable) and not isinstance(images, (bytes, Mapping)):
            images = list(images)
        else:
            raise TypeError(f"images must be {_FORMS}, got {type(images).__name__}")
        if not len(images):
            raise ValueError("images is empty: there is nothing to embed")
        self.images, self.size = images, size

    def __len__(self) -> int:
        return len(self.images)

    def take(self, start: int, stop: int) -> Tensor:
        """``(n, 3, H, W)`` of the images from ``start`` to ``stop``."""
        part = self.images[start:stop]
        batch = part if isinstance(part, Tensor) else self._stack(part, start)
        check_range(batch)
        return batch

    def _stack(self, part: Sequence[Any], start: int) -> Tensor:
        tensors = [_single(image, start + i) for i, image in enumerate(part)]
        same = len({(tuple(tensor.shape), tensor.dtype) for tensor in tensors}) == 1
        if same and not any(isinstance(image, (str, Path)) or hasattr(image, "convert") for image in part):
            return torch.stack(tensors)
        if len({tensor.dtype for tensor in tensors}) > 1:
            tensors = [tensor if tensor.is_floating_point() else tensor / 255 for tensor in tensors]
        square = (self.size, self.size)
        return torch.cat(
            [F.interpolate(tensor[None], size=square, mode="bilinear", antialias=True) for tensor in tensors]
        )


def check_range(images: Tensor, slack: float = 0.0, allow_nan: bool = False) -> None:
    """Whether the pixels are what images hold: floats within [0, 1], whole numbers within [0, 255].

    Args:
        images: Pixels of any shape; uint8 is not looked at.
        slack: How far outside floats may lie.
        allow_nan: Say nothing about images with a NaN, whose embeddings and loss are NaN as well.

    Raises:
        ValueError: they are not, or bool.
    """
    if images.dtype == torch.bool:
        raise ValueError("images must be uint8 or float, got bool")
    if images.dtype == torch.uint8 or not images.numel():
        return
    if images.is_floating_point():
        kind, top, hint = "float", 1, "; give uint8 for [0, 255], and images that nobody has normalized"
    else:
        images, kind, top, hint = images.long(), "whole-number", 255, ""
    low, high = (bound.item() for bound in images.aminmax())
    if math.isnan(low) and allow_nan:
        return
    if not -slack <= low <= high <= top + slack:
        raise ValueError(f"{kind} images must be within [0, {top}], got {low:g} to {high:g}{hint}")


def _single(image: Any, position: int) -> Tensor:
    """``(3, H, W)`` of one image."""
    if isinstance(image, (str, Path)):
        return _open(Path(image))
    if hasattr(image, "convert"):
        return _from_pil(image)
    tensor = image if isinstance(image, Tensor) else None
    if tensor is None and hasattr(image, "__array__"):
        tensor = _from_array(torch.as_tensor(image))[0]
    if tensor is None:
        raise TypeError(f"images[{position}] must be a tensor, array, PIL image or path, got {type(image).__name__}")
    if tensor.ndim != 3 or tensor.shape[0] != 3 or not all(tensor.shape[1:]):
        raise ValueError(f"images[{position}] must be RGB, (3, H, W), with pixels, got {tuple(tensor.shape)}")
    return tensor


def _from_array(array: Tensor) -> Tensor:
    """``(N, 3, H, W)`` of ``(N, H, W, 3)`` or ``(H, W, 3)``."""
    if array.ndim not in (3, 4) or array.shape[-1] != 3:
        raise ValueError(f"arrays of images must be RGB, (N, H, W, 3) or (H, W, 3), got {tuple(array.shape)}")
    return (array if array.ndim == 4 else array[None]).permute(0, 3, 1, 2)


def _check_shape(images: Tensor) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or not all(images.shape[2:]):
        raise ValueError(f"images must be (N, 3, H, W), with pixels, got {tuple(images.shape)}")


def _open(path: Path) -> Tensor:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return _from_pil(image)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no image {path}") from None
    except (*_BROKEN, Image.DecompressionBombError) as error:
        raise OSError(f"{path} cannot be read as an image: {error or type(error).__name__}") from error


def _from_pil(image: Any) -> Tensor:
    import numpy as np
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_eight_bits(np.asarray(image, dtype=np.float64), image))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def _eight_bits(values: Any, image: Any) -> Any:
    """Grey of more than 8 bits as uint8: whole numbers count to 65,535, floats to 1, or to 255 where they exceed 1."""
    import numpy as np

    if image.mode == "F":
        values = values * (255.0 if np.nanmax(values, initial=0.0) <= 1 else 1.0)
    else:  # a level that a PNG calls transparent is white
        values = np.where(values == image.info.get("transparency"), 255.0, values / 257.0)
    return np.clip(np.nan_to_num(values), 0, 255).astype(np.uint8)
