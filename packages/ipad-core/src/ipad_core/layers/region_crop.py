"""The second branch's crop: from an attention map to a box, from the box to pixels, all on the device."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ipad_core.layers.adaptive_suppression import relative_height

_BUDGET = 2**25  # numbers that one pass of crop_regions samples, and copies of the images, 128 MiB each in float32


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
    """Cut boxes from images and resize them.

    Each crop is sampled on a grid fine enough for a box of the whole image, then averaged down, so that large boxes do
    not alias. Many crops of large images are cut a part at a time, so that memory grows with the crops alone.

    Args:
        images: ``(N, C, H, W)`` float.
        boxes: ``(B, 4)`` x0, y0, x1, y1 in [0, 1].
        image_index: ``(B,)`` into the images.
        size: Side of a crop, px.

    Returns:
        ``(B, C, size, size)``.
    """
    factor = max(1, -(-max(images.shape[2:]) // size))
    part = max(1, _BUDGET // (images.shape[1] * (size * factor) ** 2))
    if torch.compiler.is_compiling() or len(boxes) <= part:  # a traced graph must not depend on the number of entries
        return _crop(images, boxes, image_index, size, factor)
    parts = zip(boxes.split(part), image_index.split(part), strict=True)
    return torch.cat([_crop(images, *some, size, factor) for some in parts])


def _crop(images: Tensor, boxes: Tensor, image_index: Tensor, size: int, factor: int) -> Tensor:
    centers = boxes[:, :2] + boxes[:, 2:] - 1.0  # (B, 2) in [-1, 1]
    scales = boxes[:, 2:] - boxes[:, :2]
    theta = torch.stack(
        [
            torch.stack([scales[:, 0], torch.zeros_like(scales[:, 0]), centers[:, 0]], dim=1),
            torch.stack([torch.zeros_like(scales[:, 0]), scales[:, 1], centers[:, 1]], dim=1),
        ],
        dim=1,
    )
    # Half precision would place the samples several pixels off: coordinates and interpolation are at least float32.
    dtype = torch.promote_types(images.dtype, torch.float32)
    fine = size * factor
    grid = F.affine_grid(theta.to(dtype), [boxes.shape[0], images.shape[1], fine, fine], align_corners=False)
    sources = images[image_index].to(dtype)
    crops = F.grid_sample(sources, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return (F.avg_pool2d(crops, factor) if factor > 1 else crops).to(images.dtype)
