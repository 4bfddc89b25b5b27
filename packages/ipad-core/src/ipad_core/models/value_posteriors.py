"""What an entry's value probably is, as a part of its embedding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ipad_core.clustering.attribute_discriminants import AttributeDiscriminants
from ipad_core.output import EmbeddingOutput


class ValuePosteriors(nn.Module):
    """Probabilities of the asked attribute's values, put beside a network's embedding. Not in the paper.

    A triplet loss asks for a gap between right and wrong, not for the best use of every direction. A discriminant analysis
    of the trained embeddings (Gaussians of one covariance per attribute, in closed form) weighs the directions. Two entries
    that would be named the same way, also if both are unsure, have similar probabilities. With e the network's embedding,
    p the probabilities at unit length and s the share, the embedding is ``[sqrt(s) e, sqrt(1 - s) p]``, of which the
    cosine is ``s cos(e, e') + (1 - s) cos(p, p')``. The part e is what still tells values apart that training never saw.

    Args:
        num_attributes: A.
        num_features: C of the network's embeddings.
        width: The most values that an attribute has, once fitted.
        share: s, of the network's own embedding, within [0, 1].

    Raises:
        ValueError: share outside [0, 1].

    Example:
        >>> values = ValuePosteriors(8, 512)
        >>> values.fit(embeddings, attribute_ids, value_ids)  # doctest: +SKIP
        >>> model.set_values(values)  # doctest: +SKIP
    """

    def __init__(self, num_attributes: int, num_features: int, width: int = 0, share: float = 0.3) -> None:
        super().__init__()
        if not 0 <= share <= 1:
            raise ValueError(f"share must be within [0, 1], got {share}")
        self.discriminants = AttributeDiscriminants(num_attributes, num_features, width, standardize=False)
        self.share = share

    @property
    def facts(self) -> dict[str, Any]:
        """Arguments that make a layer of this shape."""
        layer = self.discriminants
        attributes = len(layer.bias)
        return {
            "num_attributes": attributes,
            "num_features": layer.num_features,
            "width": layer.width,
            "share": self.share,
        }

    def fit(self, embeddings: Any, attribute_ids: Any, value_ids: Any) -> Mapping[int, Any]:
        """Solve for every attribute, see :meth:`AttributeDiscriminants.fit`.

        Args:
            embeddings: ``(B, C)`` of training entries, unit length, numpy array or tensor.
            attribute_ids, value_ids: ``(B,)``.

        Raises:
            ValueError: shapes that do not fit, no entries, or embeddings that are not finite.
        """
        return self.discriminants.fit(embeddings, torch.arange(len(embeddings)), attribute_ids, value_ids)

    def forward(self, embeddings: Tensor, attribute_ids: Tensor) -> Tensor:
        """``(B, width)`` probabilities, in the order of the attribute's values among those that were fitted."""
        index = torch.arange(embeddings.shape[0], device=embeddings.device)
        return self.discriminants(
            embeddings.to(torch.promote_types(embeddings.dtype, torch.float32)), index, attribute_ids
        )

    def join(self, embeddings: Tensor, posteriors: Tensor) -> Tensor:
        """``(B, C + width)`` unit-length embeddings of the two."""
        left = self.share**0.5 * F.normalize(embeddings.to(posteriors.dtype), dim=1)
        return torch.cat([left, (1 - self.share) ** 0.5 * F.normalize(posteriors, dim=1)], dim=1)

    def extend(self, output: EmbeddingOutput, attribute_ids: Tensor) -> EmbeddingOutput:
        """The answer of a network with the probabilities in it, and the embedding of before as ``plain``."""
        posteriors = self(output.embedding, attribute_ids)
        joined = self.join(output.embedding, posteriors)
        return replace(output, embedding=joined, plain=output.embedding, posteriors=posteriors)
