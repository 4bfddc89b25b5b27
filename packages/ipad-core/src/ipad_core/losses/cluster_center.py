"""The cluster center loss (Eq. 16)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ClusterCenterLoss(nn.Module):
    """Pull embeddings to the center of their value, push them off the attribute's other centers.

    Per entry the mean over other valid centers c of its attribute of ``max(0, margin - s(f, c_pos) + s(f, c))``, s =
    cosine similarity; then the mean over entries. Entries whose own center is not valid, or whose attribute has no other
    valid center, are left out.

    Args:
        value_attribute_ids: ``(V,)`` attribute of every flat value id.
        margin: Required similarity gap, cosine units, within [0, 2] (paper symbol m).

    Shape:
        embeddings ``(B, D)``, need not be unit length; centers ``(V, D)``; valid ``(V,)`` bool; value_ids ``(B,)``;
        image_ids ``(B,)`` where an image may have several values of one attribute: then the centers of the values that the
        batch lists for it push none of its entries. Returns a float32 scalar, zero where every entry is left out.

    Raises:
        ValueError: margin outside [0, 2]; shapes that do not fit.

    References:
        Wan et al. 2025, Eq. 16. Deviations: the paper says cosine distance, its sign is that of a similarity. Eq. 19 adds up
        the means of anchors, positives and negatives; the mean over all entries together, which this is, is a third of
        that sum where the three are as many. To have the sum, add three calls, as ipad-train does in triplet batches.
    """

    def __init__(self, value_attribute_ids: Tensor, margin: float = 0.2) -> None:
        super().__init__()
        if not 0 <= margin <= 2:
            raise ValueError(f"margin must be within [0, 2] (cosine units), got {margin}")
        self.margin = margin
        self.register_buffer("value_attribute_ids", value_attribute_ids, persistent=False)

    def forward(
        self,
        embeddings: Tensor,
        centers: Tensor,
        valid: Tensor,
        value_ids: Tensor,
        image_ids: Tensor | None = None,
    ) -> Tensor:
        num_values = len(self.value_attribute_ids)
        if embeddings.ndim != 2 or centers.shape != (num_values, embeddings.shape[1]) or valid.shape != (num_values,):
            raise ValueError(
                f"embeddings must be (B, D), centers ({num_values}, D) and valid ({num_values},), got "
                f"{tuple(embeddings.shape)}, {tuple(centers.shape)}, {tuple(valid.shape)}"
            )
        if value_ids.shape != embeddings.shape[:1]:
            raise ValueError(f"value_ids must be ({len(embeddings)},), got {tuple(value_ids.shape)}")
        dtype = torch.promote_types(embeddings.dtype, torch.float32)
        with torch.autocast(embeddings.device.type, enabled=False):
            unit = F.normalize(embeddings.to(dtype), dim=1)
            similarity = unit @ F.normalize(centers.to(dtype), dim=1).T  # (B, V)
            positive = similarity.gather(1, value_ids[:, None])  # (B, 1)
            every = torch.arange(num_values, device=value_ids.device)
            same_attribute = self.value_attribute_ids == self.value_attribute_ids[value_ids][:, None]
            negative = same_attribute & valid & (every != value_ids[:, None]) & valid[value_ids][:, None]
            if image_ids is not None:
                same_image = (image_ids[:, None] == image_ids).to(dtype)
                has_value = same_image @ F.one_hot(value_ids, num_values).to(dtype) > 0  # (B, V) values of its image
                negative = negative & ~has_value
            terms = F.relu(self.margin - positive + similarity) * negative
            count = negative.sum(dim=1)
            per_entry = terms.sum(dim=1) / count.clamp(min=1)
            return per_entry.sum() / (count > 0).sum().clamp(min=1)
