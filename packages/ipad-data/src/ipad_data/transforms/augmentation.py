"""Augmentation of whole batches on their device, with parameters of its own for every image.

Written with torch alone: torchvision's transforms draw one set of parameters a batch, and kornia would be a dependency
as large as the rest of the package for one homography and three colour factors.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Generator, Tensor

from ipad_data.transforms.homography import from_corners, rotation_scale_shift, warp


@dataclass(frozen=True)
class BatchAugmentation:
    """Random changes of the images of a batch, each image by its own parameters. Only flips are on by default.

    Colour changes are off for a reason: where the cue is cloth against skin they cost accuracy. Crops, turns and
    perspective are one homography, so pixels are interpolated once, and not at all where all of them are off.

    Args:
        flip: Probability of mirroring left and right.
        perspective: Each corner moves inward by up to this share of the side, within [0, 0.5).
        rotation: Largest turn in degrees, either way.
        scale: Zoom by a factor within [1 - scale, 1 + scale].
        shift: Largest move, as a share of the side, either way.
        crop: Smallest side of a random crop as a share of the side, within (0, 1]; 1 does not crop.
        brightness: Colours are multiplied by a factor within [1 - brightness, 1 + brightness].
        contrast: The same for the distance from the image's mean gray.
        saturation: The same for the distance from the pixel's gray.
        erase: Probability of filling a rectangle of 2 % to 15 % of the area with the image's mean color.

    Shape:
        ``augment(images, generator)``: images ``(N, 3, H, W)``, uint8 in [0, 255] or float in [0, 1]; returns the
        same shape, float in [0, 1] (float32 for uint8). Equal generators give equal results on any device if the
        generator lives on the CPU.

    Raises:
        ValueError: an argument out of its range; images of another shape or type.

    Example:
        >>> augment = BatchAugmentation(flip=0.5, perspective=0.1)
        >>> augment(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.Generator().manual_seed(0)).shape
        torch.Size([2, 3, 8, 8])
    """

    flip: float = 0.5
    perspective: float = 0.0
    rotation: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    crop: float = 1.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    erase: float = 0.0

    def __post_init__(self) -> None:
        highest = {"perspective": 0.49, "rotation": 180.0, "scale": 0.9}
        for field in fields(self):
            value, low, high = getattr(self, field.name), 0.0, highest.get(field.name, 1.0)
            if field.name == "crop":
                low = 0.05
            if not low <= value <= high:
                raise ValueError(f"{field.name} must be within [{low}, {high}], got {value}")

    def __call__(self, images: Tensor, generator: Generator | None = None) -> Tensor:
        """Augmented copies of the images; the same generator state gives the same result."""
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images must be (N, 3, H, W), got {tuple(images.shape)}")
        if images.dtype != torch.uint8 and not images.is_floating_point():
            raise ValueError(f"images must be uint8 or floating point, got {images.dtype}")
        draw = _Draws(len(images), images.device, generator)
        images = self._flip(images, draw)
        images = images.float().div_(255) if images.dtype == torch.uint8 else images
        images = self._warp(images, draw)
        images = self._recolor(images, draw)
        return self._erase(images, draw)

    def _flip(self, images: Tensor, draw: _Draws) -> Tensor:
        if self.flip == 0:
            return images
        flipped = draw.uniform(0, 1) < self.flip
        # Picking whole images out of both versions copies memory; torch.where would go through it pixel by pixel.
        choice = torch.arange(len(images), device=images.device) + len(images) * flipped
        return torch.cat([images, images.flip(-1)]).index_select(0, choice)

    def _warp(self, images: Tensor, draw: _Draws) -> Tensor:
        if not (self.perspective or self.rotation or self.scale or self.shift or self.crop < 1):
            return images
        inward = torch.stack([draw.uniform(0, 2 * self.perspective) for _ in range(8)], dim=1)
        side = draw.uniform(self.crop, 1)
        free = 1 - side
        matrices = from_corners(inward.view(-1, 4, 2)) @ rotation_scale_shift(
            angle=torch.deg2rad(draw.symmetric(self.rotation)),
            scale=side / (1 + draw.symmetric(self.scale)),
            shift=torch.stack([free * draw.symmetric(1) + draw.symmetric(2 * self.shift) for _ in range(2)], dim=1),
        )
        return warp(images, matrices)

    def _recolor(self, images: Tensor, draw: _Draws) -> Tensor:
        if self.brightness:
            images = images * (1 + draw.symmetric(self.brightness)).to(images.dtype)[:, None, None, None]
        if self.contrast:
            factor = (1 + draw.symmetric(self.contrast)).to(images.dtype)[:, None, None, None]
            images = torch.lerp(_gray(images).mean((2, 3), keepdim=True).expand_as(images), images, factor)
        if self.saturation:
            factor = (1 + draw.symmetric(self.saturation)).to(images.dtype)[:, None, None, None]
            images = torch.lerp(_gray(images).expand_as(images), images, factor)
        return images.clamp(0, 1) if self.brightness or self.contrast or self.saturation else images

    def _erase(self, images: Tensor, draw: _Draws) -> Tensor:
        if self.erase == 0:
            return images
        area, ratio = draw.uniform(0.02, 0.15), torch.exp(draw.symmetric(1.1))
        within = draw.uniform(0, 1) < self.erase
        inside = None
        for size, share in ((images.shape[2], (area * ratio).sqrt()), (images.shape[3], (area / ratio).sqrt())):
            start = draw.uniform(0, 1) * (1 - share)
            at = (torch.arange(size, device=images.device) + 0.5) / size
            hit = (at >= start[:, None]) & (at < (start + share)[:, None])  # (N, size)
            inside = hit[:, :, None] if inside is None else inside & hit[:, None, :]
        mask = (inside & within[:, None, None])[:, None]  # (N, 1, H, W)
        return torch.where(mask, images.mean((2, 3), keepdim=True), images)


class _Draws:
    """Uniform draws, one number an image, made where the generator lives and handed to the images' device."""

    def __init__(self, count: int, device: torch.device, generator: Generator | None) -> None:
        self.count, self.device, self.generator = count, device, generator
        self.source = device if generator is None else generator.device

    def uniform(self, low: float, high: float) -> Tensor:
        numbers = torch.rand(self.count, generator=self.generator, device=self.source)
        return (low + (high - low) * numbers).to(self.device)

    def symmetric(self, largest: float) -> Tensor:
        return self.uniform(-largest, largest)


def _gray(images: Tensor) -> Tensor:
    """``(N, 1, H, W)`` luminance."""
    weights = images.new_tensor([0.299, 0.587, 0.114])
    return (images * weights[None, :, None, None]).sum(1, keepdim=True)
