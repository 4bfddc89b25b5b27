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
        unit = F.normalize(embeddings.to(torch.promote_types(embeddings.dtype, torch.float32)), dim=1)
        total, active = unit.sum() * 0.0, torch.zeros((), device=unit.device, dtype=unit.dtype)
        # Attribute by attribute: all at once would take B^3 numbers, most of them over pairs that never meet.
        for attribute in attribute_ids.unique().tolist():
            members = (attribute_ids == attribute).nonzero()[:, 0]
            own_images = None if image_ids is None else image_ids[members]
            terms = self._terms(unit[members], value_ids[members], own_images)
            total, active = total + terms.sum(), active + (terms > 0).sum()
        return total / active.clamp(min=1)

    def _terms(self, unit: Tensor, value_ids: Tensor, image_ids: Tensor | None) -> Tensor:
        similarity = unit @ unit.T
        same = value_ids[:, None] == value_ids
        other = ~same
        distinct = ~torch.eye(len(unit), dtype=torch.bool, device=unit.device)
        if image_ids is not None:
            same_image = image_ids[:, None] == image_ids
            distinct = ~same_image
            shares_value = (same.float() @ same_image.float()) > 0  # (a, n): n's image also has a's value
            other = other & ~shares_value
        terms = F.relu(self.margin - similarity[:, :, None] + similarity[:, None, :])  # (a, p, n)
        return terms * ((same & distinct)[:, :, None] & other[:, None, :])
