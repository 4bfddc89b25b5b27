"""A training step of ``rpf``, against a straightforward implementation of what published code of its kind does.

Both train the same network with the same losses (triplets of both branches, and the contrast of foreground and background)
on the same triplets. The straightforward one prepares every image by itself with PIL, runs the trunk once for the anchors,
once for the positives and once for the negatives (with ``--views`` once more for each augmented view of the anchors), moves
the attention to the CPU, and crops image by image with PIL. Ours has one batch of images on the device, one call of the
trunk, crops in one piece, and channels_last; with ``--mixed-precision bf16`` it computes in bfloat16, which the other does
not. No data are loaded: both start from decoded photos. The two take turns, from the same weights.

    python benchmarks/rpf_step.py                                # rpf at the published sizes, 4 triplets
    python benchmarks/rpf_step.py --views 2 --mixed-precision bf16
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ipad_core import create_model
from ipad_core.losses import ForegroundBackgroundLoss, TripletLoss
from ipad_core.models import RPF


class Losses:
    """What both minimize: triplets of both branches, and Eq. 15 over all samples of the step."""

    def __init__(self) -> None:
        self.triplet, self.contrast = TripletLoss(0.2), ForegroundBackgroundLoss(0.07, 12.0)

    def __call__(
        self, spatial: Tensor, semantic: Tensor, background: Tensor, attributes: Tensor, values: Tensor, roles: int
    ) -> Tensor:
        triplets = [self._triplets(embedding, roles) for embedding in (spatial, semantic)]
        contrast = self.contrast(spatial, semantic, background, attributes.repeat(roles), values)
        return triplets[0] + triplets[1] + 0.04 * contrast

    def _triplets(self, embedding: Tensor, roles: int) -> Tensor:
        anchor, positive, negative, *views = embedding.chunk(roles)
        return torch.stack([self.triplet(first, positive, negative) for first in (anchor, *views)]).mean()


def straightforward(
    model: RPF, photos: list[list[Image.Image]], attributes: Tensor, values: Tensor, losses: Losses
) -> Tensor:
    """The loss, role by role and image by image."""
    device = attributes.device
    regions, patches, backgrounds = [], [], []
    index = torch.arange(len(attributes), device=device)
    for group in photos:
        images = torch.stack([_prepared(photo, model.image_size) for photo in group]).to(device)
        found = model.spatial(model.trunk(_normalized(model, images)), attributes, index, True)
        crops = [
            _prepared(photo.crop(_box(attention, photo.size, model)), model.crop_size)
            for photo, attention in zip(group, found.maps[:, -1].detach().cpu().numpy(), strict=True)
        ]
        patches.append(model.semantic(_normalized(model, torch.stack(crops).to(device)), attributes))
        regions.append(found.embedding)
        backgrounds.append(found.background)
    joined = torch.cat(regions), torch.cat(patches), torch.cat(backgrounds)
    return losses(*joined, attributes, values, len(photos))


def ours(model: RPF, images: Tensor, attributes: Tensor, values: Tensor, losses: Losses, roles: int) -> Tensor:
    """The loss over one batch."""
    output = model(images, attributes.repeat(roles), background=True)
    return losses(output.spatial, output.semantic, output.background, attributes, values, roles)


def _prepared(photo: Image.Image, size: int) -> Tensor:
    small = np.asarray(photo.resize((size, size), Image.Resampling.BILINEAR), dtype=np.float32) / 255
    return torch.from_numpy(small).permute(2, 0, 1)


def _normalized(model: RPF, images: Tensor) -> Tensor:
    return (images - model.trunk.mean) / model.trunk.std


def _box(attention: np.ndarray, size: tuple[int, int], model: RPF) -> tuple[int, int, int, int]:
    """The square around what is above the threshold of the map's range, inside the photo, in its pixels."""
    large = np.asarray(Image.fromarray(attention.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
    span = large.max() - large.min()
    rows, columns = np.nonzero(large - large.min() >= model.crop["threshold"] * span)
    side = min(*size, max(np.ptp(rows), np.ptp(columns)) + 1)
    left = int(np.clip((columns.min() + columns.max() + 1 - side) // 2, 0, size[0] - side))
    top = int(np.clip((rows.min() + rows.max() + 1 - side) // 2, 0, size[1] - side))
    return left, top, left + int(side), top + int(side)


def trained(model: RPF, loss_of: Callable[[], Tensor], precision: str, device: torch.device) -> Callable[[], float]:
    """A step of Adam; answers the loss."""
    optimizer = torch.optim.Adam(model.parameters(), 1e-6)

    def step() -> float:
        autocast = torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()
        with autocast:
            loss = loss_of()
        loss.float().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="rpf", help="rpf, or rpf_tiny to try the script")
    parser.add_argument("--triplets", type=int, default=4)
    parser.add_argument(
        "--views", type=int, default=0, help="augmented views of each anchor; the published code has 2"
    )
    parser.add_argument("--detail-size", type=int, default=448, help="side of the photos, px")
    parser.add_argument("--mixed-precision", choices=("no", "bf16"), default="no", help="of ours")
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    roles = 3 + arguments.views
    random = np.random.default_rng(0)
    shape = (roles, arguments.triplets, arguments.detail_size, arguments.detail_size, 3)
    pixels = random.integers(0, 256, shape, dtype=np.uint8)
    photos = [[Image.fromarray(photo) for photo in group] for group in pixels]
    images = torch.from_numpy(pixels).flatten(0, 1).permute(0, 3, 1, 2).contiguous().to(device)
    attributes = torch.arange(arguments.triplets, device=device).remainder(8)
    values = torch.cat([2 * attributes + (role == 2) for role in range(roles)])  # a negative has another value
    losses = Losses()
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(create_model(arguments.model, num_attributes=8).to(device).train())
    ours_model, theirs_model = models
    ours_model.to(memory_format=torch.channels_last)
    steps = {
        "straightforward": trained(
            theirs_model, lambda: straightforward(theirs_model, photos, attributes, values, losses), "no", device
        ),
        "ours": trained(
            ours_model,
            lambda: ours(ours_model, images, attributes, values, losses, roles),
            arguments.mixed_precision,
            device,
        ),
    }
    # On a CPU what the threads worked: other programs on the machine do not lengthen it.
    clock, unit = (time.process_time, "CPU s") if device.type == "cpu" else (time.perf_counter, "s")
    times: dict[str, list[float]] = {name: [] for name in steps}
    first_losses = {}
    for turn in range(arguments.turns + 1):
        for name, step in steps.items():
            start = clock()
            loss = step()  # waits for the device, as it reads the loss
            if turn:
                times[name].append(clock() - start)
            else:
                first_losses[name] = loss
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(
        f"{arguments.model}, {roles * arguments.triplets} images a step, ours in {arguments.mixed_precision}, {where}"
    )
    print(f"| | {unit} a step | first loss |\n|---|---|---|")
    for name, mine in times.items():
        print(f"| {name} | {statistics.median(mine):.2f} | {first_losses[name]:.3f} |")
    ratios = [one / other for one, other in zip(*times.values(), strict=True)]
    print(f"Ours is {statistics.median(ratios):.2f} times as fast.")


if __name__ == "__main__":
    main()
