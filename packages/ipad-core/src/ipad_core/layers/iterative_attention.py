"""The iterations of IP-SP: spatial attention, suppression, channel attention (Eq. 1 to 4), and the background path."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ipad_core.layers.adaptive_suppression import RULES, suppress
from ipad_core.layers.attribute_embedding import AttributeEmbedding
from ipad_core.layers.channel_attention import ChannelAttention
from ipad_core.layers.query_update import QueryUpdate
from ipad_core.layers.spatial_attention import SpatialAttention

READINGS: dict[str, dict[str, Any]] = {
    # Keys from the layer-normed map, Eq. 3 as the renormalized product of the maps, suppression left off.
    "default": {
        "carry": "product", "normalize_keys": True, "suppression": "none", "query": "gated", "gate_gain": 2.0,
        "output": "pooled",
    },
    # The default with soft suppression on the logits, one ratio per iteration.
    "soft": {
        "carry": "product", "normalize_keys": True, "suppression": "soft", "suppression_ratio": [0.2, 0.3, 0.4],
        "query": "gated", "gate_gain": 2.0, "output": "pooled",
    },
    # The default, but the query learns where the attention lies and what it saw there.
    "mlp_xy": {
        "carry": "product", "normalize_keys": True, "suppression": "none", "query": "mlp_xy", "gate_gain": 2.0,
        "output": "pooled",
    },
    # Eq. 1 to 4 letter by letter.
    "literal": {
        "carry": "literal", "normalize_keys": False, "suppression": "keep_peak", "suppression_ratio": 0.95,
        "query": "gated", "gate_gain": 1.0, "output": "query",
    },
    # What the authors' code computes: every iteration starts from the same map and the same attribute vector.
    "public_code": {
        "carry": "none", "normalize_keys": False, "suppression": "erase_peak", "suppression_ratio": 0.95,
        "query": "fixed", "gate_gain": 1.0, "output": "pooled",
    },
}  # fmt: skip
_CHOICES = {
    "carry": ("product", "literal", "scaled", "none"),
    "suppression": RULES,
    "query": ("gated", "pooled", "fixed", "mlp_xy"),
    "output": ("pooled", "query"),
}


@dataclass(frozen=True)
class Attended:
    """``foreground (B, Q*c)``, ``background`` likewise or None, ``maps (B, iterations, L)`` that sum to 1 over L."""

    foreground: Tensor
    background: Tensor | None
    maps: Tensor


class IterativeAttention(nn.Module):
    """Attends to the positions of a map for an attribute, several times, each round from what the last one wrote.

    Args:
        num_attributes: A.
        dim: c, channels of the map.
        latent_dim: c'.
        iterations: Paper symbol Iter.
        reduction: r of the channel attention.
        temperature: Gain on the activations; 1 is the paper's.
        num_queries: Parallel queries per attribute, whose features are concatenated; the paper has one.
        carry: How Eq. 3 reaches the next round. ``product``: the map of round i is the softmax of its activations
            times the map of round i-1, renormalized, so the last map is the cumulative one. ``literal``: x^i = alpha *
            x^{i-1}, which shrinks the map by about 1/(h*w) a round. ``scaled``: the same times h*w. ``none``: every
            round starts from x^0 (the authors' public code).
        normalize_keys: Layer-norm the map over its channels first, which removes the positive factor that Eq. 3 puts
            on a position, so that the keys survive the rounds.
        suppression: Rule of Eq. 2, see :func:`suppress`.
        suppression_ratio: zeta, one number or one per iteration.
        query: p^i. ``gated``: gate_gain * alpha_c * p^{i-1} (Eq. 4). ``pooled``: alpha_c * pooled x^i (ASEN, ISLN).
            ``fixed``: p^0 in every round. ``mlp_xy``: p^{i-1} plus a small network of the gated features and the
            attention's center, see :class:`QueryUpdate`; not in the paper.
        gate_gain: Factor on the gate; 2 makes the gate's initial value of 0.5 neutral, 1 is the paper's.
        output: What the branch reads. ``pooled``: alpha_c * pooled x^Iter. ``query``: p^Iter as the paper writes it,
            which keeps image content only in the gates.

    Shape:
        tokens ``(N, L, c)``, row by row of a map of height and width ``grid``; attribute_ids, image_index ``(B,)``.
        ``grid`` may be left out for square maps; only ``mlp_xy`` looks at it.

    Raises:
        ValueError: an unknown choice, fewer iterations or queries than one, a ratio outside [0, 1], fewer ratios than
            iterations, an output that the image does not reach.

    References:
        Wan et al. 2025, Eq. 1 to 4. The background has the weights ``(1 - alpha) / (L - 1)`` of the foreground's maps
        and its own p; no gradient is stopped, as in the text.
    """

    def __init__(
        self,
        num_attributes: int,
        dim: int,
        latent_dim: int = 512,
        iterations: int = 3,
        reduction: int = 2,
        temperature: float = 1.0,
        num_queries: int = 1,
        carry: str = "product",
        normalize_keys: bool = True,
        suppression: str = "none",
        suppression_ratio: float | list[float] = 0.95,
        query: str = "gated",
        gate_gain: float = 2.0,
        output: str = "pooled",
    ) -> None:
        super().__init__()
        chosen = {"carry": carry, "suppression": suppression, "query": query, "output": output}
        for name, value in chosen.items():
            if value not in _CHOICES[name]:
                raise ValueError(f"{name} must be one of {', '.join(_CHOICES[name])}, got {value!r}")
        if query == "fixed" and output == "query":
            raise ValueError("output='query' with query='fixed' would answer the attribute, whatever the image shows")
        if iterations < 1:
            raise ValueError(f"iterations must be at least 1, got {iterations}")
        if num_queries < 1:
            raise ValueError(f"num_queries must be at least 1, got {num_queries}")
        if isinstance(suppression_ratio, (int, float)):
            suppression_ratio = [float(suppression_ratio)] * iterations
        if len(suppression_ratio) < iterations or not all(0 <= ratio <= 1 for ratio in suppression_ratio):
            raise ValueError(
                f"suppression_ratio must be one number, or one per iteration ({iterations}), within [0, 1], got "
                f"{suppression_ratio}"
            )
        self.iterations, self.gate_gain, self.num_queries = iterations, gate_gain, num_queries
        self.carry, self.suppression, self.query, self.output = carry, suppression, query, output
        self.suppression_ratio = list(suppression_ratio)
        self.attribute = AttributeEmbedding(num_attributes, dim, num_queries)
        self.map_norm = nn.LayerNorm(dim) if normalize_keys else nn.Identity()
        self.query_norms = nn.ModuleList(
            nn.LayerNorm(dim) if normalize_keys else nn.Identity() for _ in range(iterations - 1)
        )
        self.spatial = SpatialAttention(dim, latent_dim, temperature)
        self.channel = ChannelAttention(dim, latent_dim, reduction)
        self.update = QueryUpdate(dim) if query == "mlp_xy" else None

    @property
    def out_dim(self) -> int:
        """Width of the attended features."""
        return self.num_queries * self.attribute.norm.normalized_shape[0]

    def forward(
        self,
        tokens: Tensor,
        attribute_ids: Tensor,
        image_index: Tensor,
        background: bool = False,
        grid: tuple[int, int] | None = None,
    ) -> Attended:
        tokens = self.map_norm(tokens)
        entry = image_index.repeat_interleave(self.num_queries)
        p = self.attribute(attribute_ids).flatten(0, 1)  # (B*Q, c)
        keys = self.spatial.keys(tokens)[entry]  # (B*Q, L, c'); once per image, whatever its attributes
        x0 = tokens[entry]  # (B*Q, L, c)
        length = x0.shape[1]
        others = max(1, length - 1)
        dtype = torch.promote_types(x0.dtype, torch.float32)
        positions = None if self.update is None else self.update.positions(grid or _square(length), dtype, x0.device)
        x, x_back, p0, p_back, alpha = x0, x0, p, p, None
        maps, gated, gated_back = [], None, None
        for i in range(self.iterations):
            if i and self.carry in ("literal", "scaled"):
                keys = self.spatial.keys(x)
            activation = self.spatial(keys, self.query_norms[i - 1](p) if i else p)
            activation = suppress(activation.to(dtype), self.suppression, self.suppression_ratio[i])
            if self.carry == "product" and alpha is not None:
                activation = activation + (alpha + 1e-6).log()
            alpha = activation.softmax(dim=1)  # (B*Q, L), at least float32
            maps.append(alpha)
            weights = alpha.to(x0.dtype)
            if self.carry in ("literal", "scaled"):
                scale = length if self.carry == "scaled" else 1
                x = scale * weights.unsqueeze(2) * x
                pooled = x.sum(dim=1)
            else:
                pooled = torch.bmm(weights.unsqueeze(1), x0).squeeze(1)
            center = None if positions is None else alpha @ positions  # (B*Q, 2)
            p, gated = self._next_query(p, p0, pooled, center)
            if background:
                if self.carry in ("literal", "scaled"):
                    x_back = (1 - weights).unsqueeze(2) / others * scale * x_back
                    pooled_back = x_back.sum(dim=1)
                else:
                    pooled_back = (x0.sum(dim=1) - pooled) / others
                center = None if positions is None else (positions.sum(dim=0) - center) / others
                p_back, gated_back = self._next_query(p_back, p0, pooled_back, center)
        foreground = gated if self.output == "pooled" else p
        back = (gated_back if self.output == "pooled" else p_back) if background else None
        stacked = torch.stack(maps, dim=1).unflatten(0, (-1, self.num_queries)).mean(dim=1)
        return Attended(self._join(foreground), self._join(back), stacked)

    def _next_query(self, p: Tensor, p0: Tensor, pooled: Tensor, center: Tensor | None) -> tuple[Tensor, Tensor]:
        """p^i, and the gated image features of the round."""
        gate = self.channel(pooled, p)
        gated = gate * pooled
        if self.update is not None:
            return self.update(p, gated, center), gated
        following = {"gated": self.gate_gain * gate * p, "pooled": gated, "fixed": p0}[self.query]
        return following, gated

    def _join(self, features: Tensor | None) -> Tensor | None:
        return None if features is None else features.unflatten(0, (-1, self.num_queries)).flatten(1)


def _square(length: int) -> tuple[int, int]:
    side = math.isqrt(length)
    if side * side != length:
        raise ValueError(f"grid must be given for a map that is not square, here of {length} positions")
    return side, side
