"""Augmentation of whole batches on their device, each image by parameters of its own: kornia's transforms, and a flip.

torchvision's transforms draw one set of parameters a batch. kornia draws from torch's global generator and takes no
other (https://github.com/kornia/kornia/issues/4427), so here it runs on a fork of that generator, seeded by the caller's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
from kornia.augmentation import (
    ColorJitter,
    RandomAffine,
    RandomErasing,
    RandomPerspective,
    RandomResizedCrop,
)
from torch import Generator, Tensor, nn


@dataclass(frozen=True)
class BatchAugmentation:
    """Random changes of the images of a batch, each image by its own parameters. Only flips are on by default.

    Colour changes are off for a reason: where the cue is cloth against skin they cost accuracy.

    Args:
        flip: Probability of mirroring left and right.
        perspective: Each corner of the image is moved inward by up to this share of the side, within [0, 0.5); what
            is left free is black.
        rotation: Largest turn in degrees, either way; the border is continued outside, here and in the next two.
        scale: Zoom by a factor within [1 - scale, 1 + scale].
        shift: Largest move, as a share of the side, either way.
        crop: Smallest side of a random crop as a share of the side, within (0, 1]; 1 does not crop.
        brightness: Colours are multiplied by a factor within [1 - brightness, 1 + brightness].
        contrast: The same for the distance from the image's mean gray.
        saturation: The same for the distance from the pixel's gray.
        erase: Probability of filling a rectangle of 2 % to 15 % of the area with gray.

    Shape:
        ``augment(images, generator)``: images ``(N, 3, H, W)``, uint8 in [0, 255] or float in [0, 1]; returns the
        same shape, float in [0, 1] (float32 for uint8). A call draws one number from the generator, or from torch's
        global one when None, and is a function of it and of the images; the parameters are drawn on the CPU, equal
        on any device. A generator on the CPU spares the device a wait.

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
        device = "cpu" if generator is None else generator.device
        seed = int(torch.randint(2**63 - 1, (), generator=generator, device=device))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the devices' generators, too
            if self.flip:
                images = _flip(images, torch.rand(len(images)) < self.flip)
            images = images.float().div_(255) if images.dtype == torch.uint8 else images
            if len(images) == 0:
                return images
            for change in self._changes(*images.shape[-2:]):
                images = change(images)
        return images

    def _changes(self, height: int, width: int) -> Iterator[nn.Module]:
        """kornia's modules for what is on; they are quick to make, and made for one call they keep no state."""
        if self.rotation or self.scale or self.shift:
            shift, scale = (self.shift, self.shift), (1 - self.scale, 1 + self.scale)
            yield RandomAffine(self.rotation, shift, scale, padding_mode="border", p=1.0)
        if self.perspective:
            yield RandomPerspective(2 * self.perspective, p=1.0)
        if self.crop < 1:
            ratio = (width / height, width / height)
            yield RandomResizedCrop((height, width), (self.crop**2, 1.0), ratio, align_corners=False)
        if self.brightness or self.contrast or self.saturation:
            yield ColorJitter(
                self.brightness, self.contrast, self.saturation
            )  # torchvision's, and unlike ColorJiggle's
        if self.erase:
            yield RandomErasing(scale=(0.02, 0.15), value=0.5, p=self.erase)


def _flip(images: Tensor, chosen: Tensor) -> Tensor:
    """Mirror the chosen images. The default, and on uint8 less than half of the time of kornia's, which needs floats."""
    index = torch.arange(len(images)) + len(images) * chosen
    return torch.cat([images, images.flip(-1)]).index_select(0, index.to(images.device))
