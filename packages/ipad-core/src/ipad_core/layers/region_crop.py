"""The second branch's crop: from an attention map to a box, from the box to pixels, all on the device."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from ipad_core.layers.adaptive_suppression import relative_height


@torch.no_grad()
def attention_boxes(
    attention: Tensor, threshold: float = 0.1, min_side: float = 0.0, margin: float = 0.0, resolution: int = 112
) -> Tensor:
    """Square boxes around the attended region.

    The map is resized bilinearly to ``resolution`` cells a side, taken relative to its range and binarized; the bounding
    box of what remains is widened by ``margin``, squared to its longer side and shifted to stay inside the image.

    Args:
        attention: ``(B, h, w)``.
        threshold: Share of the map's range above which a cell belongs to the region.
        min_side: Smallest side of a box, in shares of the image's.
        margin: Added around the region, in shares of the region's side (half on each side).
        resolution: Cells a side at which the map is binarized.

    Returns:
        ``(B, 4)`` x0, y0, x1, y1 in [0, 1]. No gradient flows through a box.
    """
    fine = F.interpolate(attention.float()[:, None], size=(resolution, resolution), mode="bilinear")[:, 0]
    inside = (relative_height(fine.flatten(1)) >= threshold).view_as(fine)
    left, right = _extent(inside.any(dim=1))
    top, bottom = _extent(inside.any(dim=2))
    side = torch.maximum(right - left, bottom - top) * (1.0 + margin)
    side = side.clamp(min=min_side, max=1.0)
    x0 = ((left + right - side) / 2).clamp(min=0.0)
    y0 = ((top + bottom - side) / 2).clamp(min=0.0)
    x0, y0 = torch.minimum(x0, 1.0 - side), torch.minimum(y0, 1.0 - side)
    return torch.stack([x0, y0, x0 + side, y0 + side], dim=1)


def _extent(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """First and one past the last true cell of ``(B, n)`` rows, in shares of n."""
    n = occupied.shape[1]
    first = occupied.int().argmax(dim=1)
    last = n - occupied.flip(1).int().argmax(dim=1)
    return first / n, last / n


def crop_regions(images: Tensor, boxes: Tensor, image_index: Tensor, size: int) -> Tensor:
    """Cut boxes from images and resize them bilinearly.

    Every crop is read from the level of an image pyramid on which its box is no more than ``size`` pixels wide. Large boxes
    do not alias, and small ones keep the detail there is. Only the pixels of the crops are read: no image is copied
    for an entry, however many ask for it.

    Args:
        images: ``(N, C, H, W)`` float.
        boxes: ``(B, 4)`` x0, y0, x1, y1 in [0, 1].
        image_index: ``(B,)`` into the images.
        size: Side of a crop, px.

    Returns:
        ``(B, C, size, size)``.
    """
    # Half precision would place the samples several pixels off: coordinates and interpolation are at least float32.
    dtype = torch.promote_types(images.dtype, torch.float32)
    height, width = images.shape[2:]
    levels = max(0, math.ceil(math.log2(max(height, width) / size))) + 1
    pyramid = [images.flatten(2)] + [_halved(images, level).flatten(2) for level in range(1, levels)]
    pixels = torch.cat(pyramid, dim=2).transpose(1, 2).flatten(0, 1)  # (N * L, C): all levels of an image in a row
    length = sum(level.shape[2] for level in pyramid)
    # Rows, columns and first pixel of every level, counted on the device: a copy of them to it would wait for it.
    numbers = torch.arange(levels, device=boxes.device)
    rows, columns = ((side + 2**numbers - 1) // 2**numbers for side in (height, width))
    starts = (rows * columns * (numbers < numbers[:, None])).sum(dim=1)

    boxes = boxes.to(dtype)
    sides = torch.maximum((boxes[:, 2] - boxes[:, 0]) * width, (boxes[:, 3] - boxes[:, 1]) * height)  # px
    level = (sides / size).clamp_min(1e-6).log2().ceil().clamp(0, levels - 1).long()
    start, rows, columns = starts[level], rows[level], columns[level]
    steps = (torch.arange(size, device=boxes.device, dtype=dtype) + 0.5) / size

    def neighbors(low: Tensor, high: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The pixels on both sides of every sample along an axis, ``(B, size)`` each, and how far the second weighs."""
        last = (count - 1).to(dtype)[:, None]
        place = (low[:, None] + steps * (high - low)[:, None]) * count[:, None] - 0.5
        place = torch.minimum(place.clamp_min(0.0), last)
        first = place.floor()
        return first.long(), torch.minimum(first + 1, last).long(), place - first

    left, right, across = neighbors(boxes[:, 0], boxes[:, 2], columns)
    top, bottom, down = neighbors(boxes[:, 1], boxes[:, 3], rows)
    first_pixel = image_index * length + start

    def line(row: Tensor) -> Tensor:
        """``(B, size, size, C)`` samples on the given row of each image."""
        offset = (first_pixel[:, None] + row * columns[:, None])[:, :, None]
        near, far = (pixels[offset + column[:, None, :]].to(dtype) for column in (left, right))
        return torch.lerp(near, far, across[:, None, :, None])

    crops = torch.lerp(line(top), line(bottom), down[:, :, None, None])
    return crops.permute(0, 3, 1, 2).to(images.dtype)


def _halved(images: Tensor, times: int) -> Tensor:
    """Images averaged over squares of 2^times pixels; what is left over at the borders is averaged as it is."""
    return F.avg_pool2d(images, 2**times, ceil_mode=True, count_include_pad=False)
