"""The contrast between branches, with the background as negatives (Eq. 15)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ForegroundBackgroundLoss(nn.Module):
    """IP-SP features close to IP-SE features of the same value, far from those of others and from backgrounds.

    Row i is the spatial feature of entry i, against the semantic features of all entries j and their backgrounds b:
    ``-log( sum over j of i's value of e_ij / ( sum over all j of e_ij + epsilon * sum over b of i's attribute of e_ib ) )``
    with ``e = exp(cosine / tau)``, mean over the rows. Computed with log-sum-exp in float32.

    Args:
        temperature: tau.
        background_weight: epsilon.

    Shape:
        spatial, semantic, background ``(B, d)``, need not be unit length; attribute_ids, flat value_ids ``(B,)``; image_ids
        ``(B,)`` where an image may have several values of one attribute: then its entries are no negatives of each other.
        Returns a float32 scalar.

    Raises:
        ValueError: temperature not positive, background_weight negative, shapes that differ.

    References:
        Wan et al. 2025, Eq. 15. The text leaves Omega undefined; as in RPF (Dong et al. 2023) it is the sum over the
        samples of the batch with another {attribute, value}. The entry's own pair is part of Psi, not counted twice. The
        backgrounds b are those of all entries of the attribute, the entry's own among them, as in RPF's release; the text
        says of the same attribute value in one sentence, and of the same attribute in the next.
    """

    def __init__(self, temperature: float = 0.07, background_weight: float = 12.0) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        if background_weight < 0:
            raise ValueError(f"background_weight must not be negative, got {background_weight}")
        self.temperature, self.background_weight = temperature, background_weight

    def forward(
        self,
        spatial: Tensor,
        semantic: Tensor,
        background: Tensor,
        attribute_ids: Tensor,
        value_ids: Tensor,
        image_ids: Tensor | None = None,
    ) -> Tensor:
        if spatial.ndim != 2 or not spatial.shape == semantic.shape == background.shape:
            raise ValueError(
                "spatial, semantic and background must be (B, d) of one shape, got "
                f"{tuple(spatial.shape)}, {tuple(semantic.shape)}, {tuple(background.shape)}"
            )
        if not attribute_ids.shape == value_ids.shape == spatial.shape[:1]:
            raise ValueError(
                f"attribute_ids and value_ids must be ({len(spatial)},), got {tuple(attribute_ids.shape)} and "
                f"{tuple(value_ids.shape)}"
            )
        dtype = torch.promote_types(spatial.dtype, torch.float32)
        with torch.autocast(spatial.device.type, enabled=False):
            rows, columns, backs = (F.normalize(t.to(dtype), dim=1) for t in (spatial, semantic, background))
            pairs = rows @ columns.T / self.temperature  # (B, B)
            same_value = value_ids[:, None] == value_ids
            numerator = pairs.masked_fill(~same_value, float("-inf")).logsumexp(dim=1)
            same_attribute = attribute_ids[:, None] == attribute_ids
            if image_ids is not None:  # an image's other values of the attribute are no reason to push it away
                own = (image_ids[:, None] == image_ids) & same_attribute & ~same_value
                pairs = pairs.masked_fill(own, float("-inf"))
            columns_all = [pairs]
            if self.background_weight > 0:
                contrast = rows @ backs.T / self.temperature + math.log(self.background_weight)
                columns_all.append(contrast.masked_fill(~same_attribute, float("-inf")))
            denominator = torch.cat(columns_all, dim=1).logsumexp(dim=1)
            return (denominator - numerator).mean()
