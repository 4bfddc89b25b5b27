"""What every network answers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class EmbeddingOutput:
    """Embeddings of B (image, attribute) entries, and how they came about.

    Args:
        embedding: ``(B, D)``, unit length: a dot product is the cosine similarity.
        spatial: ``(B, d)`` of IP-SP, not normalized; None for networks without that branch.
        semantic: ``(B, d)`` of IP-SE, likewise.
        background: ``(B, d)`` of the background path (Eq. 6), where it was asked for.
        attention: ``(B, h, w)``, sums to 1 over the positions: the map after the last iteration.
        attention_maps: ``(B, iterations, h, w)``, where they were asked for.
        boxes: ``(B, 4)`` crops x0, y0, x1, y1 of the second branch, in [0, 1] of the image.
        plain: ``(B, C)`` of the network alone, where ``embedding`` holds probabilities of values as well.
        posteriors: ``(B, V)`` these probabilities, see :class:`ValuePosteriors`.
    """

    embedding: Tensor
    spatial: Tensor | None = None
    semantic: Tensor | None = None
    background: Tensor | None = None
    attention: Tensor | None = None
    attention_maps: Tensor | None = None
    boxes: Tensor | None = None
    plain: Tensor | None = None
    posteriors: Tensor | None = None


if hasattr(torch.export, "register_dataclass"):  # from torch 2.5 on: torch.export may answer it
    torch.export.register_dataclass(EmbeddingOutput, serialized_type_name="ipad_core.EmbeddingOutput")
