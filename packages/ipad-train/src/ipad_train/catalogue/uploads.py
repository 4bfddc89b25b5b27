"""Photos from outside: what is opened at all, and how large it may be once decoded."""

from __future__ import annotations

import io
import warnings

from PIL import Image, UnidentifiedImageError

from ipad_train.catalogue.errors import PhotoError
from ipad_train.catalogue.photo_files import FORMATS


def check_image(content: bytes, max_pixels: int, name: str = "photo") -> None:
    """Look at the head of an image file: a known format, and no more pixels than allowed. Nothing is decoded.

    Raises:
        PhotoError: another format, too many pixels, or a damaged head.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                width, height = image.size
    except Image.DecompressionBombError:
        raise PhotoError(f"{name}: more than {max_pixels:,} pixels") from None
    except UnidentifiedImageError:
        raise PhotoError(f"{name}: no image of a known format ({', '.join(FORMATS)})") from None
    except Exception as error:  # Pillow's readers raise all kinds on damaged heads
        raise PhotoError(f"{name}: cannot be read as an image: {error or type(error).__name__}") from None
    if width * height > max_pixels or min(width, height) < 1:
        raise PhotoError(f"{name}: {width} x {height} are {width * height:,} pixels, allowed are {max_pixels:,}")
