"""Small JPEGs of large originals."""

from __future__ import annotations

import io

from PIL import Image

from ipad_data.transforms.decode import open_image


def shrink_image(source: str | bytes, size: int, quality: int = 90, name: str | None = None) -> bytes:
    """JPEG of an image whose shorter side is at most ``size``: any square up to that size loses nothing.

    Small images keep their size. The result is RGB, upright and without metadata.

    Raises:
        ImageDecodeError: the image cannot be decoded.
    """
    image = open_image(source, size, name)
    scale = size / min(image.size)
    if scale < 1:
        target = tuple(max(1, round(side * scale)) for side in image.size)
        image = image.resize(target, Image.Resampling.LANCZOS, reducing_gap=3.0)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, optimize=True)
    return buffer.getvalue()
