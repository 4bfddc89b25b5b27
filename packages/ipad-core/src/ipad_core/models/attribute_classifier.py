"""Stage 0: a trunk that learns to name the value of every attribute, where no pretrained weights are at hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ipad_core._registry import register_model
from ipad_core.backbones import Vectors, build_trunk
from ipad_core.feature_maps import FeatureMaps
from ipad_core.models.embedder import AttributeEmbedder
from ipad_core.models.entries import check_entries
from ipad_core.output import EmbeddingOutput


@register_model
class AttributeClassifier(AttributeEmbedder):
    """Trunk, 1x1 convolution, and a linear read-out of every cell to the values of all attributes.

    A read-out by position gives a gradient to cues that cover few cells, which mean pooling does not: from random weights
    triplet training on pooled features stays at chance. As an embedder (so that stage 0 has a row of its own) it answers
    the centered logits of the asked attribute's values, with zeros for all other values.

    Args:
        num_attributes: A.
        num_values: Number of values of each attribute.
        hidden_dim: Channels of the 1x1 convolution.
        image_size, trunk: As in :class:`TripletNetwork`.

    Raises:
        ValueError: ``num_values`` has another length than ``num_attributes``.
    """

    architecture = "attribute_classifier"

    def __init__(
        self,
        num_attributes: int,
        num_values: list[int],
        hidden_dim: int = 32,
        image_size: int = 224,
        trunk: str | Mapping[str, Any] = "resnet50",
    ) -> None:
        super().__init__()
        if len(num_values) != num_attributes:
            raise ValueError(
                f"num_values must have {num_attributes} entries, one per attribute, got {len(num_values)}"
            )
        self.image_size = image_size
        self.trunk = build_trunk(trunk, image_size)
        side = 1 if isinstance(self.trunk, Vectors) else -(-image_size // self.trunk.stride)
        self.reduce = nn.Conv2d(self.trunk.num_features, hidden_dim, 1)
        self.read_out = nn.Linear(hidden_dim * side**2, sum(num_values))
        owner = torch.repeat_interleave(torch.arange(num_attributes), torch.tensor(num_values))
        self.register_buffer("value_attribute_ids", owner, persistent=False)

    def logits(self, images: Tensor | FeatureMaps) -> Tensor:
        """``(N, V)`` over the values of all attributes."""
        feature_map = self.feature_map(images)
        return self.read_out(self.reduce(feature_map).relu().flatten(1))

    def forward(
        self,
        images: Tensor | FeatureMaps,
        attribute_ids: Tensor,
        image_index: Tensor | None = None,
    ) -> EmbeddingOutput:
        image_index = check_entries(images, attribute_ids, image_index, self.options["num_attributes"])
        own = (self.value_attribute_ids[None] == attribute_ids[:, None]).float()  # (B, V)
        logits = self.logits(images).float()[image_index]
        centered = (logits - (logits * own).sum(1, keepdim=True) / own.sum(1, keepdim=True)) * own
        return EmbeddingOutput(F.normalize(centered, dim=1))
