"""Triplet losses on cosine similarity (Eq. 14)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _check_margin(margin: float) -> None:
    if not 0 <= margin <= 2:
        raise ValueError(f"margin must be within [0, 2] (cosine units), got {margin}")


class TripletLoss(nn.Module):
    """Anchors closer to their positives than to their negatives by a margin.

    Mean over triplets of ``max(0, margin - s(a, p) + s(a, n))``, s = cosine similarity.

    Args:
        margin: Required similarity gap, cosine units, within [0, 2] (paper symbol m).

    Shape:
        anchor, positive, negative ``(T, D)``, need not be unit length; returns a float32 scalar.

    Raises:
        ValueError: margin outside [0, 2]; shapes that differ.

    References:
        Wan et al. 2025, Eq. 14. Deviation: the paper says cosine distance, its sign is that of a similarity.
    """

    def __init__(self, margin: float = 0.2) -> None:
        super().__init__()
        _check_margin(margin)
        self.margin = margin

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        if anchor.ndim != 2 or not anchor.shape == positive.shape == negative.shape:
            raise ValueError(
                "anchor, positive and negative must be (T, D) of one shape, got "
                f"{tuple(anchor.shape)}, {tuple(positive.shape)}, {tuple(negative.shape)}"
            )
        dtype = torch.promote_types(anchor.dtype, torch.float32)
        anchor, positive, negative = (t.to(dtype) for t in (anchor, positive, negative))
        gap = F.cosine_similarity(anchor, positive) - F.cosine_similarity(anchor, negative)
        return F.relu(self.margin - gap).mean()


class BatchAllTripletLoss(nn.Module):
    """Every triplet that the labelled entries of a batch form within an attribute, mean over the active ones.

    Entries a, p with one value and n with another value of the same attribute form a triplet; it is active where its
    Eq. 14 term is above zero. The mean over active triplets hovers around the margin whatever the retrieval quality, so it
    is no measure of progress.

    Args:
        margin: As in :class:`TripletLoss`.

    Shape:
        embeddings ``(B, D)``; attribute_ids, flat value_ids ``(B,)``; image_ids ``(B,)`` where an image may have several
        values of one attribute: then an entry of an image that also has the anchor's value is no negative. Returns a
        float32 scalar, zero (with zero gradient) where no triplet is active.

    Raises:
        ValueError: margin outside [0, 2]; shapes that do not fit.
    """

    def __init__(self, margin: float = 0.2) -> None:
        super().__init__()
        _check_margin(margin)
        self.margin = margin

    def forward(
        self, embeddings: Tensor, attribute_ids: Tensor, value_ids: Tensor, image_ids: Tensor | None = None
    ) -> Tensor:
        if embeddings.ndim != 2 or not len(embeddings) == len(attribute_ids) == len(value_ids):
            raise ValueError(
                f"embeddings must be (B, D) with as many attribute_ids and value_ids, got {tuple(embeddings.shape)}, "
                f"{tuple(attribute_ids.shape)}, {tuple(value_ids.shape)}"
            )
        if not attribute_ids.ndim == value_ids.ndim == 1:
            raise ValueError(
                f"attribute_ids and value_ids must be (B,), got {tuple(attribute_ids.shape)} and {tuple(value_ids.shape)}"
            )
        with torch.autocast(embeddings.device.type, enabled=False):
            unit = F.normalize(embeddings.to(torch.promote_types(embeddings.dtype, torch.float32)), dim=1)
            similarity = unit @ unit.T
        positive, negative = self._pairs(attribute_ids, value_ids, image_ids)
        anchors, positives = positive.nonzero(as_tuple=True)  # (P,) each; the one place that waits for the device
        # A row per positive pair, not per anchor and candidate: (P, B) numbers instead of B^3.
        terms = F.relu(self.margin - similarity[anchors, positives].unsqueeze(1) + similarity[anchors])
        terms = terms * negative[anchors]
        return terms.sum() / (terms > 0).sum().clamp(min=1)

    @staticmethod
    def _pairs(attribute_ids: Tensor, value_ids: Tensor, image_ids: Tensor | None) -> tuple[Tensor, Tensor]:
        """Which entry is a positive, which a negative of which anchor: two ``(B, B)`` masks."""
        same_attribute = attribute_ids[:, None] == attribute_ids
        same_value = (value_ids[:, None] == value_ids) & same_attribute
        if image_ids is None:
            distinct = ~torch.eye(len(value_ids), dtype=torch.bool, device=value_ids.device)
            return same_value & distinct, same_attribute & ~same_value
        same_image = image_ids[:, None] == image_ids
        has_value = (same_value.float() @ same_image.float()) > 0  # (a, n): n's image also has a's value
        return same_value & ~same_image, same_attribute & ~has_value
