"""ISLN: ASEN's attention, several times, each round asking with what the last one found (Yan et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ipad_core._registry import register_model
from ipad_core.backbones import build_trunk
from ipad_core.layers import IterativeAttention, PositionMix
from ipad_core.models.embedder import AttributeEmbedder
from ipad_core.models.entries import check_entries
from ipad_core.output import EmbeddingOutput


@register_model
class ISLN(AttributeEmbedder):
    """Trunk, iterated spatial and channel attention, linear embedding.

    In words: the attribute asks the map, the attribute and the gated features that it found ask the map again, and so on;
    the last round's gated features are embedded. ``v^i = softmax(A(x, p^{i-1})) x``, ``p^i = p^0 + alpha_c * v^i``,
    ``f = norm(W (alpha_c * v^Iter) + b)``, where A and alpha_c are Eq. 1 and 4 of IPAD. Unlike IPAD the map of a round is
    not carried into the next, and there is neither suppression nor a background nor a second branch.

    Args:
        num_attributes: A.
        embed_dim: D.
        image_size, trunk, position_channels: As in :class:`TripletNetwork`.
        latent_dim: c', of the attention.
        reduction: r, of the channel attention.
        iterations: Rounds.

    References:
        Yan et al. 2022 (ISLN). It is known to us as the IPAD paper describes it; three rounds and p^i = p^0 + alpha_c *
        pooled x^i are our reading. Without p^0 what the network makes of the attribute shrinks with every round, to
        1e-5 of the embedding before training.
    """

    architecture = "isln"

    def __init__(
        self,
        num_attributes: int,
        embed_dim: int = 1024,
        image_size: int = 224,
        trunk: str | Mapping[str, Any] = "resnet50",
        position_channels: bool = False,
        latent_dim: int = 512,
        reduction: int = 2,
        iterations: int = 3,
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.trunk = build_trunk(trunk, image_size)
        dim = self.trunk.num_features
        self.mix = PositionMix(dim) if position_channels else nn.Identity()
        self.attention = IterativeAttention(
            num_attributes, dim, latent_dim, iterations, reduction, carry="none", query="residual", gate_gain=1.0
        )
        self.project = nn.Linear(dim, embed_dim)

    def forward(
        self,
        images: Tensor,
        attribute_ids: Tensor,
        image_index: Tensor | None = None,
        maps: bool = False,
    ) -> EmbeddingOutput:
        """Embed entries, see :meth:`AttributeEmbedder.forward`.

        Args:
            maps: Answer the map of every iteration.
        """
        image_index = check_entries(images, attribute_ids, image_index, self.options["num_attributes"])
        feature_map = self.mix(self.feature_map(images))
        grid = tuple(feature_map.shape[2:])
        attended = self.attention(feature_map.flatten(2).transpose(1, 2), attribute_ids, image_index, grid=grid)
        all_maps = attended.maps.unflatten(2, grid)
        return EmbeddingOutput(
            F.normalize(self.project(attended.foreground).float(), dim=1),
            attention=all_maps[:, -1],
            attention_maps=all_maps if maps else None,
        )
