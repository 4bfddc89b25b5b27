"""The smallest input that a network takes, for what its answer's shape tells."""

from __future__ import annotations

import torch

from ipad_core import AttributeEmbedder, FeatureMaps
from ipad_core.backbones import Vectors


def blank_input(model: AttributeEmbedder, side: int | None = None) -> torch.Tensor | FeatureMaps:
    """One black uint8 image where the network lies, or one vector of zeros for a network that reads vectors.

    Args:
        model: The network.
        side: Of the image, px; :attr:`AttributeEmbedder.detail_size` when None.
    """
    device, side = model.trunk.mean.device, side or model.detail_size
    if isinstance(model.trunk, Vectors):
        return FeatureMaps.from_vectors(torch.zeros(1, model.trunk.num_features, device=device))
    return torch.zeros(1, 3, side, side, dtype=torch.uint8, device=device)
