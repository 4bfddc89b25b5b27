"""AttnFashion: both features of ASEN, mixed by weights that they ask for (Wan et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ipad_core._registry import register_model
from ipad_core.layers import AdaptiveMix
from ipad_core.layers.attribute_attention import AttendedMaps
from ipad_core.models.asen import ASENv2


@register_model
class AttnFashion(ASENv2):
    """ASEN's feature after the spatial attention and the one after the channel attention, adaptively mixed.

    In words: what was found at the place and what the gates left of it are weighed against each other, then embedded.
    ``f = norm(W (w_1 v + w_2 g * v) + b)``, ``w = softmax of a score of each``; v and g as in :class:`AttributeAttention`.

    Takes the arguments of :class:`ASEN`.

    References:
        Wan et al. 2022. The IPAD paper's description of it is what we build from: one scalar score for each feature and a
        softmax over the two, see :class:`AdaptiveMix`; the attention itself is that of ASEN's second version.
    """

    architecture = "attn_fashion"

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
        super().__init__(num_attributes, embed_dim, image_size, trunk, position_channels, latent_dim, reduction)
        self.adaptive = AdaptiveMix(self.trunk.num_features)

    def combine(self, attended: AttendedMaps) -> Tensor:
        return self.adaptive(attended.located, attended.gated)
