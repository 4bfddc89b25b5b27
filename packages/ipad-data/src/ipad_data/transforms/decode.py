"""From the file to a small RGB array: whatever kind of image file people have, or an error that names it."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ipad_data.errors import ImageDecodeError

Fit = Literal["squash", "letterbox"]
FITS = ("squash", "letterbox")
_WHITE = (255, 255, 255)
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)


def decode_image(source: str | Path | bytes, size: int, fit: Fit = "squash", name: str | None = None) -> np.ndarray:
    """Decode an image file and resize it to a square.

    Large JPEGs are decoded at an eighth, quarter or half of their size where that is still no smaller than the target.
    EXIF orientation is applied; transparency is laid over white; of an animation the first frame is taken; 16-bit
    grey is scaled to 8 bits; CMYK and palettes become RGB.

    Args:
        source: Path, or the bytes of the file.
        size: Side of the result in pixels.
        fit: ``squash`` stretches to the square, as the field does; ``letterbox`` keeps the shape and pads with white.
        name: What to call the image in errors; the path when None.

    Returns:
        ``(size, size, 3)`` uint8.

    Raises:
        ImageDecodeError: missing, empty, truncated or no image, or so many pixels that Pillow takes it for a
            decompression bomb (``PIL.Image.MAX_IMAGE_PIXELS``).
    """
    return np.asarray(_resize(open_image(source, size, name), size, fit))


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
    name = name or (str(source) if not isinstance(source, bytes) else "image")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, about odd metadata
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
                return _to_rgb(image, size)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageDecodeError(f"{name}: too many pixels to be decoded safely: {error}") from None
    except UnidentifiedImageError:
        raise ImageDecodeError(f"{name}: not an image file, it begins with {_first_bytes(source)}") from None
    except FileNotFoundError:
        raise ImageDecodeError(f"{name}: no such file") from None
    except _BROKEN as error:
        raise ImageDecodeError(f"{name}: cannot be decoded: {error or type(error).__name__}") from None


def _to_rgb(image: Image.Image, size: int | None) -> Image.Image:
    if size is not None:
        image.draft("RGB", (size, size))
    oriented = ImageOps.exif_transpose(image)
    if oriented.mode == "RGB":
        return oriented
    if oriented.mode.startswith("I") or oriented.mode == "F":
        return _deep_gray_to_rgb(oriented)
    if "A" in oriented.getbands() or "transparency" in oriented.info:
        layer = oriented.convert("RGBA")
        flat = Image.new("RGB", layer.size, _WHITE)
        flat.paste(layer, mask=layer.getchannel("A"))
        return flat
    return oriented.convert("RGB")


def _deep_gray_to_rgb(image: Image.Image) -> Image.Image:
    """Gray of more than 8 bits: integers count up to 65535, floats up to 1 (or to 255 where they exceed 1)."""
    values = np.asarray(image, dtype=np.float64)
    if image.mode == "F":
        values = values * (255.0 if np.nanmax(values, initial=0.0) <= 1.0 else 1.0)
    else:
        values = values / 257.0
    return Image.fromarray(np.clip(np.nan_to_num(values), 0, 255).astype(np.uint8)).convert("RGB")


def _resize(image: Image.Image, size: int, fit: Fit) -> Image.Image:
    if image.size == (size, size):
        return image
    if fit == "letterbox":
        return ImageOps.pad(image, (size, size), Image.Resampling.BILINEAR, color=_WHITE)
    return image.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=2.0)


def _first_bytes(source: str | Path | bytes) -> str:
    if isinstance(source, bytes):
        start = source[:16]
    else:
        with open(source, "rb") as file:
            start = file.read(16)
    return repr(start) if start else "nothing (0 bytes)"
