"""ASEN: the attribute looks at a place, then at channels of what it found there (Ma et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ipad_core._registry import register_model
from ipad_core.backbones import build_trunk
from ipad_core.layers import AttributeAttention, OneHotAttention, PositionMix
from ipad_core.layers.attribute_attention import AttendedMaps
from ipad_core.models.embedder import AttributeEmbedder
from ipad_core.models.entries import check_entries
from ipad_core.output import EmbeddingOutput


@register_model
class ASEN(AttributeEmbedder):
    """Trunk, spatial attention, channel attention, linear embedding.

    In words: the map and the attribute meet in a latent space and give one weight per position; the weighted mean of the map
    and the attribute give one gate per channel; the gated mean is embedded. See :class:`OneHotAttention`, which has the
    equations of map A, mean v and gate g; ``f = norm(W (g * v) + b)``.

    Args:
        num_attributes: A.
        embed_dim: D.
        image_size, trunk, position_channels: As in :class:`TripletNetwork`.
        latent_dim: c', of the attention.
        reduction: r, of the channel attention.

    References:
        Ma et al. 2020, with the sizes of its public release (first version), which normalizes the embedding.
    """

    architecture = "asen"

    def __init__(
        self,
        num_attributes: int,
        embed_dim: int = 1024,
        image_size: int = 224,
        trunk: str | Mapping[str, Any] = "resnet50",
        position_channels: bool = False,
        latent_dim: int = 512,
        reduction: int = 2,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.trunk = build_trunk(trunk, image_size)
        dim = self.trunk.num_features
        self.mix = PositionMix(dim) if position_channels else nn.Identity()
        self.attention = self.build_attention(num_attributes, dim, latent_dim, reduction)
        self.project = nn.Linear(dim, embed_dim)

    def build_attention(self, num_attributes: int, dim: int, latent_dim: int, reduction: int) -> nn.Module:
        """What :meth:`forward` attends with: ``(N, L, c)`` tokens to :class:`AttendedMaps` of all attributes."""
        return OneHotAttention(num_attributes, dim, latent_dim, reduction)

    def combine(self, attended: AttendedMaps) -> Tensor:
        """``(..., c)`` features to embed, of what was attended to."""
        return attended.gated

    def forward(
        self,
        images: Tensor,
        attribute_ids: Tensor,
        image_index: Tensor | None = None,
    ) -> EmbeddingOutput:
        image_index = check_entries(images, attribute_ids, image_index, self.options["num_attributes"])
        feature_map = self.mix(self.feature_map(images))
        attended = self.attention(feature_map.flatten(2).transpose(1, 2))
        entries = image_index, attribute_ids
        features = self.combine(
            AttendedMaps(attended.located[entries], attended.gated[entries], attended.maps[entries])
        )
        attention = attended.maps[entries].unflatten(1, feature_map.shape[2:])
        return EmbeddingOutput(F.normalize(self.project(features).float(), dim=1), attention=attention)


@register_model
class ASENv2(ASEN):
    """The second version of ASEN: an attribute embedding, batch norm on the keys, and a scaled dot product for the weights.

    Takes the arguments of :class:`ASEN`; see :class:`AttributeAttention`. One public release ends with the gated features
    and has no linear embedding; the papers have one.
    """

    architecture = "asen_v2"

    def build_attention(self, num_attributes: int, dim: int, latent_dim: int, reduction: int) -> nn.Module:
        return AttributeAttention(num_attributes, dim, latent_dim, reduction)
