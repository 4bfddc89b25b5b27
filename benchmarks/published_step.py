"""What RPF's public training loop does in a step, written down in a straightforward way with our layers.

Each part of the triplets goes through the network by itself, an image for each entry. The attention maps go to the CPU, and
each image is cropped there by PIL. It is float32, without momentum encoder and clusters, which that code does not train.
`train_step.py` compares it with ours.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from ipad_core import create_model


class PublishedStep:
    """Stage 1 or 2 on random images.

    Args:
        options: Of the command line of `train_step.py`.
        stage: 1 or 2.
        attributes, values: A and V of the dataset.
    """

    precision = "no"

    def __init__(self, options: argparse.Namespace, stage: int, attributes: int, values: int) -> None:
        self.device, self.stage = options.device, stage
        self.model = create_model(options.model, num_attributes=attributes).to(self.device).train()
        self.optimizer = torch.optim.Adam(self.model.parameters(), 1e-5)
        self.batch = triplet_batch(options, torch.arange(values) * attributes // values)
        self.pictures = [Image.fromarray(picture.permute(1, 2, 0).cpu().numpy()) for picture in self.batch["images"]]

    def __call__(self) -> None:
        model, third = self.model, len(self.batch["images"]) // 3
        spatial, semantic = [], []
        for part in range(3):
            rows = slice(part * third, (part + 1) * third)
            images, ids = self.batch["images"][rows], self.batch["attribute_ids"][rows]
            small = model.trunk_input(model.normalized(images))
            features = model.spatial(model.spatial.trunk(small), ids, torch.arange(third, device=self.device), False)
            spatial.append(features.embedding)
            if self.stage == 2:
                maps = features.maps[:, -1].detach().cpu().numpy()
                crops = [self._crop(picture, map_) for picture, map_ in zip(self.pictures[rows], maps, strict=True)]
                semantic.append(model.semantic(model.normalized(torch.stack(crops).to(self.device)), ids))
        loss = triplet_loss(*spatial)
        if self.stage == 2:
            loss = loss + triplet_loss(*semantic)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def _crop(self, picture: Image.Image, attention: np.ndarray) -> torch.Tensor:
        """``(3, S, S)`` of the box around what the map attends to, by PIL."""
        relative = (attention - attention.min()) / max(attention.max() - attention.min(), 1e-12)
        inside = np.asarray(Image.fromarray((relative * 255).astype(np.uint8)).resize(picture.size)) >= 25
        rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
        box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        side = self.model.crop_size
        return torch.from_numpy(np.array(picture.crop(box).resize((side, side)))).permute(2, 0, 1)


def triplet_loss(anchor: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
    """Eq. 14 as one writes it down."""
    gap = F.cosine_similarity(anchor, positive) - F.cosine_similarity(anchor, negative)
    return F.relu(0.2 - gap).mean()


def triplet_batch(options: argparse.Namespace, owners: torch.Tensor) -> dict[str, torch.Tensor]:
    """Random images on the device, and the ids of triplets of random values."""
    generator = torch.Generator().manual_seed(0)
    count, side = options.triplets, options.detail_size
    values = torch.randint(len(owners), (count,), generator=generator)
    others = (values + 1) % len(owners)
    value_ids = torch.cat([values, values, others])
    entries = torch.arange(3 * count)
    batch = {
        "images": torch.randint(0, 256, (3 * count, 3, side, side), generator=generator, dtype=torch.uint8),
        "rows": entries,
        "image_index": entries,
        "image_ids": entries,
        "value_ids": value_ids,
        "attribute_ids": owners[values].repeat(3),
    }
    return {name: tensor.to(options.device) for name, tensor in batch.items()}
