"""Triplet losses on cosine similarity (Eq. 14)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

AVERAGES = ("triplets", "attributes")


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
    is no measure of progress; :meth:`by_attribute` tells which share of them is active.

    Args:
        margin: As in :class:`TripletLoss`.
        average: ``triplets``: the mean over all active triplets of the batch. An attribute that every image has, or
            that has two even values, then outweighs the others many times over. ``attributes``: the mean over the
            attributes of each one's mean, so that every attribute learns at the same pace.

    Shape:
        embeddings ``(B, D)``; attribute_ids, flat value_ids ``(B,)``; image_ids ``(B,)`` where an image may have several
        values of one attribute: then an entry of an image that also has the anchor's value is no negative. Returns a
        float32 scalar, zero (with zero gradient) where no triplet is active.

    Raises:
        ValueError: margin outside [0, 2]; unknown average; shapes that do not fit.
    """

    def __init__(self, margin: float = 0.2, average: str = "triplets") -> None:
        super().__init__()
        _check_margin(margin)
        if average not in AVERAGES:
            raise ValueError(f"average must be one of {', '.join(AVERAGES)}, got {average!r}")
        self.margin, self.average = margin, average

    def forward(
        self, embeddings: Tensor, attribute_ids: Tensor, value_ids: Tensor, image_ids: Tensor | None = None
    ) -> Tensor:
        # Attributes by their place among the sorted ones: to read the largest number would wait for the device.
        places = torch.searchsorted(attribute_ids.sort().values, attribute_ids)
        return self.reduce(*self.by_attribute(embeddings, places, value_ids, image_ids, len(places))[:2])

    def reduce(self, sums: Tensor, active: Tensor) -> Tensor:
        """The loss from the first two answers of :meth:`by_attribute`."""
        if self.average == "triplets":
            return sums.sum() / active.sum().clamp(min=1)
        return (sums / active.clamp(min=1)).sum() / (active > 0).sum().clamp(min=1)

    def by_attribute(
        self,
        embeddings: Tensor,
        attribute_ids: Tensor,
        value_ids: Tensor,
        image_ids: Tensor | None = None,
        num_attributes: int | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Sum of the terms, number of active triplets and number of all triplets, each ``(A,)``.

        A is ``num_attributes``, or one more than the largest attribute id of the batch.
        """
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
        of_anchor = negative[anchors]
        terms = terms * of_anchor
        owner = attribute_ids[anchors]
        count = int(attribute_ids.max()) + 1 if num_attributes is None and len(attribute_ids) else num_attributes or 0

        def per_attribute(of_pair: Tensor) -> Tensor:
            return of_pair.new_zeros(count).index_add(0, owner, of_pair)

        active, triplets = (terms > 0).sum(dim=1), of_anchor.sum(dim=1)
        return per_attribute(terms.sum(dim=1)), per_attribute(active), per_attribute(triplets)

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
