from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from ipad_data.transforms.shrink import shrink_image


def picture(size, mode="RGB", kind="JPEG", **options):
    buffer = io.BytesIO()
    color = {"RGB": (200, 30, 30), "CMYK": (0, 200, 200, 20), "I;16": 40_000, "RGBA": (200, 30, 30, 128)}[mode]
    Image.new(mode, size, color).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (picture((800, 600)), (133, 100)),
        (picture((600, 800)), (100, 133)),
        (picture((50, 60)), (50, 60)),  # never enlarged
        (picture((4000, 10)), (4000, 10)),
        (picture((800, 600), "CMYK"), (133, 100)),
        (picture((800, 600), "I;16", "PNG"), (133, 100)),
        (picture((800, 600), "RGBA", "PNG"), (133, 100)),
    ],
)
def test_shrink_image(source, expected):
    small = Image.open(io.BytesIO(shrink_image(source, 100)))
    assert (small.size, small.mode, small.format) == (expected, "RGB", "JPEG")


def test_shrunk_image_is_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to view
    buffer = io.BytesIO()
    Image.fromarray(np.repeat(np.arange(64, dtype=np.uint8)[:, None] * 4, 32, axis=1)).save(buffer, "JPEG", exif=exif)
    small = Image.open(io.BytesIO(shrink_image(buffer.getvalue(), 100)))
    assert small.size == (64, 32)
    assert not small.getexif()
    row = np.asarray(small.convert("L"))[16].astype(int)
    assert row[0] > row[-1]  # the top is now on the right
