"""The rendered dataset's images: seed and index in, garment, labels and boxes out."""

from __future__ import annotations

from ipad_data.render.attributes import SCHEMA
from ipad_data.render.image import RenderedImage, render_image

__all__ = ["SCHEMA", "RenderedImage", "render_image"]
