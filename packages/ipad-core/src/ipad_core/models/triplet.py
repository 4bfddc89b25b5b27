"""Triplet: one embedding of the whole image; the network does not see the attribute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ipad_core._registry import register_model
from ipad_core.backbones import build_trunk
from ipad_core.feature_maps import FeatureMaps
from ipad_core.layers import PositionMix
from ipad_core.models.embedder import AttributeEmbedder
from ipad_core.models.entries import check_entries
from ipad_core.output import EmbeddingOutput


@register_model
class TripletNetwork(AttributeEmbedder):
    """Pooled trunk features and a linear embedding; every attribute of an image gets the same one.

    In words: the map is averaged over its positions and embedded; nothing asks for the attribute.
    ``f = norm(W mean over positions of x + b)``.

    Args:
        num_attributes: A; only checked.
        embed_dim: D.
        image_size: Side of the trunk's input, px.
        trunk: timm name of the trunk, or arguments of :class:`ipad_core.backbones.Trunk` (but for ``image_size``), e.g.
            ``{"name": "resnet50", "pretrained": True}``.
        position_channels: Mix position channels into the map first, see :class:`PositionMix`.

    References:
        The baseline "Triplet" of Wan et al. 2025, tables 1 to 3, which do not say how the map is pooled; the mean over its
        positions, without a hidden layer, is our reading.
    """

    architecture = "triplet"

    def __init__(
        self,
        num_attributes: int,
        embed_dim: int = 1024,
        image_size: int = 224,
        trunk: str | Mapping[str, Any] = "resnet50",
        position_channels: bool = False,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.trunk = build_trunk(trunk, image_size)
        self.mix = PositionMix(self.trunk.num_features) if position_channels else nn.Identity()
        self.project = nn.Linear(self.trunk.num_features, embed_dim)

    def forward(
        self,
        images: Tensor | FeatureMaps,
        attribute_ids: Tensor,
        image_index: Tensor | None = None,
    ) -> EmbeddingOutput:
        image_index = check_entries(images, attribute_ids, image_index, self.options["num_attributes"])
        return EmbeddingOutput(F.normalize(self.pooled(images)[image_index], dim=1))

    def pooled(self, images: Tensor | FeatureMaps) -> Tensor:
        """``(N, D)`` embedding of each image, not normalized."""
        feature_map = self.mix(self.feature_map(images))
        return self.project(feature_map.mean(dim=(2, 3))).float()
