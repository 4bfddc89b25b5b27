"""CSN: one embedding of the image, a learned mask per attribute (Veit et al. 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ipad_core._registry import register_model
from ipad_core.feature_maps import FeatureMaps
from ipad_core.layers import ConditionMask
from ipad_core.models.entries import check_entries
from ipad_core.models.triplet import TripletNetwork
from ipad_core.output import EmbeddingOutput


@register_model
class ConditionalSimilarityNetwork(TripletNetwork):
    """Pooled trunk features, a linear embedding, and a non-negative mask over its dimensions per attribute.

    In words: all attributes share one embedding of the image, and each looks at dimensions of its own.
    ``f = norm(relu(m_a) * (W mean over positions of x + b))``, see :class:`ConditionMask`.

    Takes the arguments of :class:`TripletNetwork`.

    References:
        Veit et al. 2017, on the trunk of the other systems and with embeddings of unit length. The terms that it adds to the
        triplet loss, on the size of masks and embeddings, are left out.
    """

    architecture = "csn"

    def __init__(
        self,
        num_attributes: int,
        embed_dim: int = 1024,
        image_size: int = 224,
        trunk: str | Mapping[str, Any] = "resnet50",
        position_channels: bool = False,
    ) -> None:
        super().__init__(num_attributes, embed_dim, image_size, trunk, position_channels)
        self.mask = ConditionMask(num_attributes, embed_dim)

    def forward(
        self,
        images: Tensor | FeatureMaps,
        attribute_ids: Tensor,
        image_index: Tensor | None = None,
    ) -> EmbeddingOutput:
        image_index = check_entries(images, attribute_ids, image_index, self.options["num_attributes"])
        pooled = self.pooled(images)[image_index]
        return EmbeddingOutput(F.normalize(self.mask(pooled, attribute_ids), dim=1))
