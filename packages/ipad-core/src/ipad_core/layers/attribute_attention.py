"""Attention of the ASEN family: where an attribute lies on a map, then which channels of what is there tell about it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ipad_core.layers.channel_attention import gate_channels


@dataclass(frozen=True)
class AttendedMaps:
    """What K attributes see on each of N maps.

    ``located (N, K, c)``: mean of the map under the attention. ``gated (N, K, c)``: the same times the channel gates.
    ``maps (N, K, L)``: the attention, of sum one, at least float32.
    """

    located: Tensor
    gated: Tensor
    maps: Tensor


class AttributeAttention(nn.Module):
    """Spatial, then channel attention, the attribute being an embedding (ASEN_V2).

    ``A = softmax(sum_c' tanh(W_a e) * tanh(BN(W_x x)) / sqrt(c'))``, ``v = sum over positions of A x``,
    ``gate = sigmoid(W_2 relu(W_1 [v ; relu(W_b e)]))``.

    Args:
        num_attributes: A.
        dim: c, channels of the map.
        latent_dim: c'; the width of the embedding e as well.
        reduction: r, the hidden width of the gate is c / r.

    Shape:
        tokens ``(N, L, c)``; ``attribute_ids (N,)`` for one attribute a map (K = 1), or None for all of them (K = A): their
        queries meet the keys of a map in one product, so that they cost next to nothing.

    References:
        Ma et al. 2020, Fine-Grained Fashion Similarity Learning by Attribute-Specific Embedding Network, and the second
        version of its public release: embedding of 512, batch norm, the sum over channels / sqrt(512).
    """

    def __init__(self, num_attributes: int, dim: int, latent_dim: int = 512, reduction: int = 2) -> None:
        super().__init__()
        self.table = nn.Embedding(num_attributes, latent_dim)
        self.query = nn.Linear(latent_dim, latent_dim)
        self.key = nn.Linear(dim, latent_dim)
        self.key_norm = nn.BatchNorm1d(latent_dim)
        self.context = nn.Linear(latent_dim, latent_dim)
        self.squeeze = nn.Linear(dim + latent_dim, max(1, dim // reduction))
        self.excite = nn.Linear(max(1, dim // reduction), dim)

    def forward(self, tokens: Tensor, attribute_ids: Tensor | None = None) -> AttendedMaps:
        attribute = self.table.weight if attribute_ids is None else self.table(attribute_ids).unsqueeze(1)  # (K, .)
        keys = self.key_norm(self.key(tokens).flatten(0, 1)).unflatten(0, tokens.shape[:2]).tanh()  # (N, L, c')
        maps = self.locate(keys, attribute, attribute_ids)
        located = maps.to(tokens.dtype) @ tokens  # (N, K, c)
        context = self.context(self.of(attribute, attribute_ids)).relu()
        return AttendedMaps(located, gate_channels(self.squeeze, self.excite, located, context) * located, maps)

    def locate(self, keys: Tensor, attribute: Tensor, attribute_ids: Tensor | None) -> Tensor:
        """``(N, K, L)`` attention of ``(K, c')`` or ``(N, 1, c')`` attributes over ``(N, L, c')`` keys."""
        return _softmax(self.query(attribute).tanh() @ keys.transpose(1, 2) / math.sqrt(keys.shape[2]))

    def of(self, attribute: Tensor, attribute_ids: Tensor | None) -> Tensor:
        """The attribute's vector as the channel attention reads it."""
        return attribute


class OneHotAttention(nn.Module):
    """Spatial, then channel attention, the attribute being one of A inputs (ASEN, first version).

    ``A = softmax(tanh(w . (tanh(W_x x) * tanh(E_1[a])) + b))``, ``gate = sigmoid(W_2 relu(W_1 [v ; relu(E_2[a])]))``. The
    tanh before the softmax keeps the attention within a factor of e^2 of uniform.

    Args and shape as :class:`AttributeAttention`.

    References:
        Ma et al. 2020, as in its first public release.
    """

    def __init__(self, num_attributes: int, dim: int, latent_dim: int = 512, reduction: int = 2) -> None:
        super().__init__()
        self.query = nn.Embedding(num_attributes, latent_dim)
        self.key = nn.Linear(dim, latent_dim)
        self.score = nn.Linear(latent_dim, 1)
        self.context = nn.Embedding(num_attributes, dim)
        self.squeeze = nn.Linear(2 * dim, max(1, dim // reduction))
        self.excite = nn.Linear(max(1, dim // reduction), dim)

    def forward(self, tokens: Tensor, attribute_ids: Tensor | None = None) -> AttendedMaps:
        query, context = (
            table.weight if attribute_ids is None else table(attribute_ids).unsqueeze(1)
            for table in (self.query, self.context)
        )
        weighted = query.tanh() * self.score.weight[0]  # w . (k * q) = (w * q) . k: no product per position is kept
        maps = _softmax((weighted @ self.key(tokens).tanh().transpose(1, 2) + self.score.bias).tanh())
        located = maps.to(tokens.dtype) @ tokens
        return AttendedMaps(located, gate_channels(self.squeeze, self.excite, located, context.relu()) * located, maps)


class HierarchicalAttention(AttributeAttention):
    """Attention level by level: a type of attributes finds its region, and the attribute looks inside it.

    The map of the attribute is the softmax of its activations times the map of its type, renormalized; the channel
    attention reads the sum of both embeddings.

    Args:
        types: Type of every attribute, ``(A,)`` whole numbers from 0.
        dim, latent_dim, reduction: As in :class:`AttributeAttention`.

    References:
        Yan et al. 2021 (HAEN), level by level; the paper at hand says no more, so the way the levels meet is our reading.
    """

    def __init__(self, types: list[int], dim: int, latent_dim: int = 512, reduction: int = 2) -> None:
        super().__init__(len(types), dim, latent_dim, reduction)
        self.type_table = nn.Embedding(max(types) + 1, latent_dim)
        self.register_buffer("types", torch.tensor(types), persistent=False)

    def locate(self, keys: Tensor, attribute: Tensor, attribute_ids: Tensor | None) -> Tensor:
        scale = math.sqrt(keys.shape[2])
        region = _softmax(self.query(self.type_of(attribute_ids)).tanh() @ keys.transpose(1, 2) / scale)
        inside = self.query(attribute).tanh() @ keys.transpose(1, 2) / scale
        return _softmax(inside + (region + 1e-6).log())

    def of(self, attribute: Tensor, attribute_ids: Tensor | None) -> Tensor:
        return attribute + self.type_of(attribute_ids)

    def type_of(self, attribute_ids: Tensor | None) -> Tensor:
        """Embedding of the type: ``(A, c')`` for all attributes, ``(N, 1, c')`` for one a map."""
        if attribute_ids is None:
            return self.type_table(self.types)
        return self.type_table(self.types[attribute_ids]).unsqueeze(1)


def _softmax(activation: Tensor) -> Tensor:
    return activation.to(torch.promote_types(activation.dtype, torch.float32)).softmax(dim=-1)
