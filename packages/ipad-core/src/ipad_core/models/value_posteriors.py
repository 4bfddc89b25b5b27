"""What an entry's value probably is, as a part of its embedding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ipad_core.clustering.attribute_discriminants import AttributeDiscriminants
from ipad_core.clustering.discriminant import Discriminant
from ipad_core.output import EmbeddingOutput


class ValuePosteriors(nn.Module):
    """Probabilities of the asked attribute's values, put beside a network's embedding. Not in the paper.

    A triplet loss asks for a gap between right and wrong, not for the best use of every direction. A discriminant analysis
    of the trained embeddings (Gaussians of one covariance per attribute, in closed form) weighs the directions. Two entries
    that would be named the same way, also if both are unsure, have similar probabilities. With e the network's embedding,
    p the probabilities at unit length and s the share, the embedding is ``[sqrt(s) e, sqrt(1 - s) p]``, of which the
    cosine is ``s cos(e, e') + (1 - s) cos(p, p')``. The part e is what still tells values apart that training never saw.

    An attribute of which training knew fewer than two values has the same probabilities for all, and its order is that of e.

    An embedding that is two branches side by side is seen in two parts: each has probabilities of its own, weighed as the
    branch is. (One analysis of both together trusts the branch too much that fits the training images better.)

    Args:
        num_attributes: A.
        parts: Widths of the parts of the network's embeddings; they sum to C.
        width: The most values that an attribute has, once fitted.
        share: s, of the network's own embedding, within [0, 1].

    Raises:
        ValueError: share outside [0, 1].

    Example:
        >>> values = ValuePosteriors(8, model.embedding_parts(512))  # doctest: +SKIP
        >>> values.fit(embeddings, attribute_ids, value_ids)  # doctest: +SKIP
        >>> model.set_values(values)  # doctest: +SKIP
    """

    def __init__(self, num_attributes: int, parts: Sequence[int], width: int = 0, share: float = 0.3) -> None:
        super().__init__()
        if not 0 <= share <= 1:
            raise ValueError(f"share must be within [0, 1], got {share}")
        self.share, self.parts = share, list(parts)
        self.discriminants = nn.ModuleList(
            AttributeDiscriminants(num_attributes, part, width, standardize=False, keep_features=False)
            for part in self.parts
        )

    @property
    def facts(self) -> dict[str, Any]:
        """Arguments that make a layer of this shape."""
        layer = self.discriminants[0]
        return {"num_attributes": len(layer.bias), "parts": self.parts, "width": layer.width, "share": self.share}

    def fit(self, embeddings: Any, attribute_ids: Any, value_ids: Any) -> list[dict[int, Discriminant]]:
        """Solve for every part and attribute, see :meth:`AttributeDiscriminants.fit`.

        Args:
            embeddings: ``(B, C)`` of training entries, numpy array or tensor.
            attribute_ids, value_ids: ``(B,)``.

        Raises:
            ValueError: shapes that do not fit, no entries, or embeddings that are not finite.
        """
        embeddings = torch.as_tensor(embeddings)
        if embeddings.ndim != 2 or embeddings.shape[1] != sum(self.parts):
            raise ValueError(f"embeddings must be (B, {sum(self.parts)}), got {tuple(embeddings.shape)}")
        index = torch.arange(len(embeddings))
        return [
            layer.fit(F.normalize(part, dim=1), index, attribute_ids, value_ids)
            for layer, part in zip(self.discriminants, embeddings.split(self.parts, dim=1), strict=True)
        ]

    def forward(self, embeddings: Tensor, attribute_ids: Tensor) -> tuple[Tensor, Tensor]:
        """The embeddings with probabilities, ``(B, C + parts * width)`` of unit length, and these probabilities.

        The latter are ``(B, width)``, the parts' mean as they are weighed, in the order of the attribute's values among
        those that were fitted.
        """
        plain = F.normalize(embeddings.to(torch.promote_types(embeddings.dtype, torch.float32)), dim=1)
        index = torch.arange(plain.shape[0], device=plain.device)
        joined, mean = [self.share**0.5 * plain], torch.zeros((), dtype=plain.dtype, device=plain.device)
        for layer, part in zip(self.discriminants, plain.split(self.parts, dim=1), strict=True):
            weight = part.norm(dim=1, keepdim=True)
            chances = layer(F.normalize(part, dim=1), index, attribute_ids)
            joined.append((1 - self.share) ** 0.5 * weight * F.normalize(chances, dim=1))
            mean = mean + weight.square() * chances
        return torch.cat(joined, dim=1), mean

    def extend(self, output: EmbeddingOutput, attribute_ids: Tensor) -> EmbeddingOutput:
        """The answer of a network with the probabilities in it, and the embedding of before as ``plain``."""
        joined, posteriors = self(output.embedding, attribute_ids)
        return replace(output, embedding=joined, plain=output.embedding, posteriors=posteriors)
