"""Pictures of a report: decoded one at a time, drawn on, and written into the page as data URIs."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from datasets import Dataset
from PIL import Image, ImageDraw

from ipad_data.transforms.decode import Fit, decode_image

TRUE_BOX, CROP_BOX, HALO = (53, 224, 255), (255, 255, 255), (0, 0, 0)
_HEAT = np.array([[0, 0, 0], [128, 0, 60], [235, 70, 20], [255, 200, 40], [255, 255, 225]], dtype=np.float32)


class SplitPictures:
    """Images of a split by their ``image_id``. None is kept; boxes are read with the labels only.

    Args:
        dataset: Split of ipad-data.
        folder: Names of files are relative to it, where they lie in it.
    """

    def __init__(self, dataset: Dataset, folder: str | None = None) -> None:
        self._folder = None if folder is None or "://" in folder else Path(folder).expanduser().absolute()
        self._images = dataset.select_columns(["image"]).with_format(None)
        self._rows = {int(i): row for row, i in enumerate(dataset.with_format("numpy")["image_id"][:])}
        self._boxes = None
        if "boxes" in dataset.column_names:
            self._boxes = dataset.select_columns(["attribute_ids", "boxes"]).with_format(None)

    def decode(self, image_id: int, size: int, fit: Fit = "squash") -> np.ndarray:
        """``(size, size, 3)`` uint8: squashed as the network sees it, or letterboxed as people do."""
        stored = self._images[self._rows[image_id]]["image"]
        source = stored["path"] if stored["bytes"] is None else stored["bytes"]
        return decode_image(source, size, fit, stored["path"] or f"image {image_id}")

    def file_name(self, image_id: int) -> str | None:
        """Name of an image's file: below the folder where it lies there, else its last part; None where it has none."""
        path = self._images[self._rows[image_id]]["image"]["path"]
        if not path:
            return None
        if self._folder is not None and Path(path).is_relative_to(self._folder):
            return Path(path).relative_to(self._folder).as_posix()
        return Path(path).name

    def thumbnail(self, image_id: int, size: int = 96) -> str:
        """Data URI of an image in its own shape."""
        return data_uri(Image.fromarray(self.decode(image_id, size, "letterbox")), quality=80)

    def true_boxes(self, image_id: int, attribute_id: int) -> np.ndarray | None:
        """``(n, 4)`` x0, y0, x1, y1 in [0, 1] of an attribute's region, or None where the dataset does not know."""
        if self._boxes is None:
            return None
        row = self._boxes[self._rows[image_id]]
        return np.asarray(row["boxes"][row["attribute_ids"].index(attribute_id)], dtype=np.float32).reshape(-1, 4)


def heat_overlay(image: np.ndarray, attention: np.ndarray) -> np.ndarray:
    """A map of ``(h, w)``, relative to its peak, laid over a ``(S, S, 3)`` image that is dimmed and half drained."""
    side = image.shape[0]
    heat = attention.astype(np.float32) / max(float(attention.max()), 1e-12)
    heat = np.asarray(Image.fromarray(heat).resize((side, side), Image.Resampling.BICUBIC)).clip(0, 1)
    pixels = image.astype(np.float32)
    base = 0.6 * (0.5 * pixels + 0.5 * pixels.mean(axis=2, keepdims=True))
    steps = np.linspace(0, 1, len(_HEAT))
    color = np.stack([np.interp(heat, steps, _HEAT[:, channel]) for channel in range(3)], axis=2)
    weight = 0.8 * heat[:, :, None] ** 0.6
    return (base * (1 - weight) + color * weight).round().astype(np.uint8)


def draw_boxes(
    image: np.ndarray,
    true_boxes: np.ndarray | None = None,
    crop_box: np.ndarray | None = None,
    peak: np.ndarray | None = None,
    side: int = 192,
) -> Image.Image:
    """The image at ``side`` px with true boxes (cyan), the crop (white, dashed) and the peak (ring) drawn on it."""
    picture = Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    for box in [] if true_boxes is None else true_boxes:
        corners = _pixels(box, side)
        draw.rectangle(corners, outline=HALO, width=4)
        draw.rectangle([c + d for c, d in zip(corners, (1, 1, -1, -1), strict=True)], outline=TRUE_BOX, width=2)
    if crop_box is not None:
        _dashed_rectangle(draw, _pixels(crop_box, side))
    if peak is not None:
        x, y = (float(value) * side for value in peak)
        draw.ellipse([x - 5, y - 5, x + 5, y + 5], outline=HALO, width=4)
        draw.ellipse([x - 4, y - 4, x + 4, y + 4], outline=CROP_BOX, width=2)
    return picture


def data_uri(picture: Image.Image, quality: int = 84) -> str:
    """A picture as a JPEG data URI."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _pixels(box: np.ndarray, side: int) -> list[float]:
    """Corners in pixels; a box that is empty or the wrong way round becomes a pixel, which Pillow can draw."""
    x0, y0, x1, y1 = (float(np.clip(value, 0, 1)) * (side - 1) for value in box)
    return [x0, y0, max(x0 + 2, x1), max(y0 + 2, y1)]


def _dashed_rectangle(draw: ImageDraw.ImageDraw, corners: list[float], dash: int = 7) -> None:
    x0, y0, x1, y1 = corners
    for start, end in (((x0, y0), (x1, y0)), ((x1, y0), (x1, y1)), ((x1, y1), (x0, y1)), ((x0, y1), (x0, y0))):
        draw.line([start, end], fill=HALO, width=3)
        length = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1.0)
        for at in np.arange(0, length, 2 * dash):
            share = np.array([at, min(at + dash, length)]) / length
            points = [tuple(np.array(start) + s * (np.array(end) - np.array(start))) for s in share]
            draw.line(points, fill=CROP_BOX, width=2)
