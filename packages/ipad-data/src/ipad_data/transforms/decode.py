"""From the file to a small RGB array: whatever kind of image file people have, or an error that names it."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from torch.nn import functional as F

from ipad_data.errors import ImageDecodeError

Fit = Literal["squash", "letterbox"]
FITS = ("squash", "letterbox")
_WHITE = (255, 255, 255)
_ON_THEIR_SIDE = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # what undoes an EXIF orientation
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)


def decode_image(source: str | Path | bytes, size: int, fit: Fit = "squash", name: str | None = None) -> np.ndarray:
    """Decode an image file and resize it to a square.

    Large JPEGs are decoded at an eighth, quarter or half of their size where that is still no smaller than the target.
    EXIF orientation is applied, where the EXIF can be read; transparency is laid over white; of an animation the first
    frame is taken; 16-bit grey is scaled to 8 bits; CMYK and palettes become RGB.

    Args:
        source: Path, or the bytes of the file.
        size: Side of the result in pixels.
        fit: ``squash`` stretches to the square, as the field does; ``letterbox`` keeps the shape and pads with white.
        name: What to call the image in errors; the path when None.

    Returns:
        ``(size, size, 3)`` uint8.

    Raises:
        ImageDecodeError: missing, empty, truncated or no image, or more than 178,956,970 pixels, twice
            ``PIL.Image.MAX_IMAGE_PIXELS``, which may be a decompression bomb. Photos of 108 megapixels pass.
    """
    image = open_image(source, size, name)
    if fit == "squash":
        return _resize(image, size, size)
    shrink = size / max(image.size)
    width, height = (max(1, round(side * shrink)) for side in image.size)
    square = np.full((size, size, 3), _WHITE, dtype=np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    square[top : top + height, left : left + width] = _resize(image, width, height)
    return square


def open_image(source: str | Path | bytes, size: int | None = None, name: str | None = None) -> Image.Image:
    """Decode an image file to RGB, oriented as meant, with the same care as :func:`decode_image`.

    Args:
        source: Path, or the bytes of the file.
        size: Neither side need be larger than this: a large JPEG is then decoded at a part of its size, with both
            sides still at least as large. None decodes it whole.
        name: What to call the image in errors; the path when None.

    Raises:
        ImageDecodeError: as for :func:`decode_image`.
    """
    with _opened(source, name) as image:
        return _to_rgb(image, size)


def image_size(path: str | Path) -> tuple[int, int]:
    """Width and height in pixels of an image file as it is meant to be seen, from its head: nothing is decoded.

    Raises:
        ImageDecodeError: as for :func:`decode_image`, as far as the head of the file shows it.
    """
    with _opened(path, None) as image:
        width, height = image.size
        return (height, width) if _orientation(image) in _ON_THEIR_SIDE else (width, height)


@contextmanager
def _opened(source: str | Path | bytes, name: str | None) -> Iterator[Image.Image]:
    """The opened file; whatever goes wrong with it is an ImageDecodeError that names it."""
    name = name or (str(source) if not isinstance(source, bytes) else "image")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, about odd metadata and about photos of up to 179 megapixels
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
                yield image
    except Image.DecompressionBombError as error:
        raise ImageDecodeError(
            f"{name}: too many pixels to be decoded safely: {error}. Make a smaller copy of it, or raise "
            "PIL.Image.MAX_IMAGE_PIXELS before loading"
        ) from None
    except UnidentifiedImageError:
        raise ImageDecodeError(f"{name}: not an image file, it begins with {_first_bytes(source)}") from None
    except FileNotFoundError:
        raise ImageDecodeError(f"{name}: no such file") from None
    except _BROKEN as error:
        raise ImageDecodeError(f"{name}: cannot be decoded: {error or type(error).__name__}") from None


def _to_rgb(image: Image.Image, size: int | None) -> Image.Image:
    if size is not None:
        image.draft("RGB", (size, size))
    image.load()  # EXIF may come after the pixels
    turn = _TURNS.get(_orientation(image))
    oriented = image if turn is None else image.transpose(turn)
    if oriented.mode.startswith("I") or oriented.mode == "F":
        return _deep_gray_to_rgb(oriented)
    if "A" in oriented.getbands() or "transparency" in oriented.info:
        layer = oriented.convert("RGBA")
        flat = Image.new("RGB", layer.size, _WHITE)
        flat.paste(layer, mask=layer.getchannel("A"))
        return flat
    return oriented.convert("RGB")  # a copy: the file is closed now


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 where there is none, or none that can be read."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except (*_BROKEN, TypeError, OverflowError):
        return 1
    return orientation if isinstance(orientation, int) else 1


def _deep_gray_to_rgb(image: Image.Image) -> Image.Image:
    """Gray of more than 8 bits: integers count up to 65535, floats up to 1 (or to 255 where they exceed 1).

    A level that a PNG calls transparent becomes white.
    """
    values = np.asarray(image, dtype=np.float64)
    if image.mode == "F":
        values = values * (255.0 if np.nanmax(values, initial=0.0) <= 1.0 else 1.0)
    else:
        transparent = image.info.get("transparency")
        values = np.where(values == transparent, 255.0, values / 257.0)
    return Image.fromarray(np.clip(np.nan_to_num(values), 0, 255).astype(np.uint8)).convert("RGB")


def _resize(image: Image.Image, width: int, height: int) -> np.ndarray:
    """Pixels at another size, ``(height, width, 3)``: bilinear with a filter as wide as the reduction.

    torch's uint8 kernel gives Pillow's result to within one level, in a third of the time, which is more than reading a
    small JPEG takes. Before that, large images are averaged over whole pixels down to twice the size.
    """
    factors = [max(1, int(have / want / 2)) for have, want in zip(image.size, (width, height), strict=True)]
    pixels = np.array(image.reduce(tuple(factors)) if max(factors) > 1 else image)
    if pixels.shape[:2] == (height, width):
        return pixels
    planes = torch.from_numpy(pixels).permute(2, 0, 1)[None]  # (1, 3, H, W), channels last in memory
    resized = F.interpolate(planes, (height, width), mode="bilinear", antialias=True)
    return resized[0].permute(1, 2, 0).numpy()


def _first_bytes(source: str | Path | bytes) -> str:
    if isinstance(source, bytes):
        start = source[:16]
    else:
        with open(source, "rb") as file:
            start = file.read(16)
    return repr(start) if start else "nothing (0 bytes)"
