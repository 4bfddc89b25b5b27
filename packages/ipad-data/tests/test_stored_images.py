"""Sizes of images that are read from their headers."""

from __future__ import annotations

import io

import datasets
import numpy as np
from PIL import Image

from ipad_data import image_sizes


def jpeg(width: int, height: int) -> bytes:
    memory = io.BytesIO()
    Image.new("RGB", (width, height)).save(memory, "JPEG")
    return memory.getvalue()


def test_sizes_come_from_files_and_from_bytes_and_unreadable_images_are_left_out(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg(40, 30))
    stored = [
        {"path": str(tmp_path / "a.jpg"), "bytes": None},
        {"path": None, "bytes": jpeg(7, 90)},
        {"path": str(tmp_path / "gone.jpg"), "bytes": None},
        {"path": None, "bytes": b"no image"},
        None,
    ]
    features = datasets.Features({"image": datasets.Image()})
    dataset = datasets.Dataset.from_dict({"image": stored}, features=features)
    np.testing.assert_array_equal(image_sizes(dataset, [1, 0]), [[7, 90], [40, 30]])
    np.testing.assert_array_equal(image_sizes(dataset, range(5)), [[40, 30], [7, 90]])
    assert image_sizes(dataset, [3]).shape == (0, 2)


def test_a_photo_cut_off_after_its_header_still_has_a_size(tmp_path):
    dataset = datasets.Dataset.from_dict(
        {"image": [{"path": None, "bytes": jpeg(500, 400)[:800]}]},
        features=datasets.Features({"image": datasets.Image()}),
    )
    np.testing.assert_array_equal(image_sizes(dataset, [0]), [[500, 400]])
