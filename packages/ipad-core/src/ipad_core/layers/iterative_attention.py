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
    "query": ("gated", "pooled", "residual", "fixed", "mlp_xy"),
    "output": ("pooled", "query"),
}
_Rounds = tuple[list[Tensor], Tensor, Tensor | None]  # maps, foreground, background


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
        sharpness: Gain on the activations; 1 is the paper's. (The losses' ``temperature`` divides; hence another name.)
        num_queries: Parallel queries per attribute, whose features are concatenated; the paper has one.
        carry: How Eq. 3 reaches the next round. ``product``: the map of round i is the softmax of its activations
            times the map of round i-1, renormalized, so the last map is the cumulative one. ``literal``: x^i = alpha *
            x^{i-1}, which shrinks the map by about 1/(h*w) a round. ``scaled``: the same times h*w, whose weights reach
            (h*w)^iterations where the attention is sharp: too much for float16. ``none``: every round starts from x^0 (the
            authors' public code).
        normalize_keys: Layer-norm the map over its channels first, which removes the positive factor that Eq. 3 puts
            on a position, so that the keys survive the rounds.
        suppression: Rule of Eq. 2, see :func:`suppress`.
        suppression_ratio: zeta, one number or one per iteration.
        query: p^i. ``gated``: gate_gain * alpha_c * p^{i-1} (Eq. 4). ``pooled``: alpha_c * pooled x^i (ASEN, ISLN).
            ``residual``: p^0 + alpha_c * pooled x^i, so that the attribute does not fade from round to round.
            ``fixed``: p^0 in every round. ``mlp_xy``: p^{i-1} plus a small network of the gated features and the
            attention's center, see :class:`QueryUpdate`; not in the paper.
        gate_gain: Factor on the gate; 2 makes the gate's initial value of 0.5 neutral, 1 is the paper's.
        output: What the branch reads. ``pooled``: alpha_c * pooled x^Iter. ``query``: p^Iter as the paper writes it,
            which keeps image content only in the gates.
        spatial: False leaves the spatial attention out: every round takes the plain mean of the map.
        channel: False leaves the channel attention out: its gates are 1, and ``gated`` keeps the query.

    Shape:
        tokens ``(N, L, c)``, row by row of a map of height and width ``grid``; attribute_ids, image_index ``(B,)``.
        ``grid`` may be left out for square maps; only ``mlp_xy`` looks at it.

    Raises:
        ValueError: an unknown choice, fewer iterations or queries than one, a ratio outside [0, 1], fewer ratios than
            iterations, an output that the image does not reach, or neither attention.

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
        sharpness: float = 1.0,
        num_queries: int = 1,
        carry: str = "product",
        normalize_keys: bool = True,
        suppression: str = "none",
        suppression_ratio: float | list[float] = 0.95,
        query: str = "gated",
        gate_gain: float = 2.0,
        output: str = "pooled",
        spatial: bool = True,
        channel: bool = True,
    ) -> None:
        super().__init__()
        chosen = {"carry": carry, "suppression": suppression, "query": query, "output": output}
        for name, value in chosen.items():
            if value not in _CHOICES[name]:
                raise ValueError(f"{name} must be one of {', '.join(_CHOICES[name])}, got {value!r}")
        if output == "query" and (query == "fixed" or (query == "gated" and not channel)):
            told = f"output='query' with query={query!r}" + ("" if channel else " and channel=False")
            raise ValueError(f"{told} would answer the attribute, whatever the image shows")
        if not spatial and not channel:
            raise ValueError("spatial and channel are both false: nothing would ask for the attribute")
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
        self.num_attributes, self.num_queries = num_attributes, num_queries
        self.iterations, self.gate_gain = iterations, gate_gain
        self.carry, self.suppression, self.query, self.output = carry, suppression, query, output
        self.writes = carry in ("literal", "scaled")  # Eq. 3 writes the map
        self.suppression_ratio = list(suppression_ratio)
        self.attribute = AttributeEmbedding(num_attributes, dim, num_queries)
        self.map_norm = nn.LayerNorm(dim) if normalize_keys else nn.Identity()
        self.query_norms = nn.ModuleList(
            nn.LayerNorm(dim) if normalize_keys and spatial else nn.Identity() for _ in range(iterations - 1)
        )
        self.spatial = SpatialAttention(dim, latent_dim, sharpness) if spatial else None
        self.channel = ChannelAttention(dim, latent_dim, reduction) if channel else None
        moves = query == "mlp_xy" and (iterations > 1 or output == "query")  # else no round would read what it wrote
        self.update = QueryUpdate(dim) if moves else None

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
        keys = projected = None  # (N, L, c'); once per image, whatever its attributes
        if self.spatial is not None:
            keys = self.spatial.keys(tokens)
            projected = self.spatial.project(tokens) if self.writes and self.iterations > 1 else None
        num_images, length = tokens.shape[:2]
        dtype = torch.promote_types(tokens.dtype, torch.float32)
        positions = (
            None if self.update is None else self.update.positions(grid or _square(length), dtype, tokens.device)
        )
        # Where most attributes of most images are asked for, every image answers all of them in matrix products over its
        # one map, and the entries are picked at the end: cheaper than a copy of the map for each entry.
        picked = None
        if _is_exporting() or 2 * attribute_ids.shape[0] >= num_images * self.num_attributes:
            picked = (image_index, attribute_ids)
            p = self.attribute(torch.arange(self.num_attributes, device=tokens.device))
            p = p.flatten(0, 1).expand(num_images, -1, -1)  # (N, A*Q, c)
        else:
            tokens = tokens[image_index]
            keys, projected = (None if each is None else each[image_index] for each in (keys, projected))
            p = self.attribute(attribute_ids)  # (B, Q, c)
        maps, foreground, back = self._rounds(tokens, keys, projected, p, background, positions)
        return Attended(
            self._pick(foreground, picked).flatten(1),
            None if back is None else self._pick(back, picked).flatten(1),
            self._pick(torch.stack(maps, dim=2), picked).mean(dim=1),  # mean over the parallel queries
        )

    def _rounds(
        self,
        tokens: Tensor,
        keys: Tensor | None,
        projected: Tensor | None,
        p: Tensor,
        background: bool,
        positions: Tensor | None,
    ) -> _Rounds:
        """All rounds of K queries over each map: tokens ``(G, L, c)``, keys and projected ``(G, L, c')``, p ``(G, K, c)``.

        Where Eq. 3 writes the map, every query has its own: the map as it came, times a weight for each position. Only the
        weights are kept.
        """
        length = tokens.shape[1]
        scale, others = length if self.carry == "scaled" else 1, max(1, length - 1)
        total = tokens.sum(dim=1, keepdim=True) if background and not self.writes else None
        p0, p_back, alpha, weights, weights_back = p, p, None, 1.0, 1.0
        maps, out, out_back = [], None, None
        for i in range(self.iterations):
            if projected is not None and i:
                keys = self.spatial.weighted_keys(projected, weights)
            activation = self._activation(keys, p, i, length)
            if self.carry == "product" and alpha is not None:
                activation = activation + (alpha + 1e-6).log()
            alpha = activation.softmax(dim=2)  # (G, K, L), at least float32
            maps.append(alpha)
            weights = scale * weights * alpha if self.writes else alpha
            pooled = torch.bmm(weights.to(tokens.dtype), tokens)  # (G, K, c)
            p, out = self._next_query(p, p0, pooled, alpha, positions)
            if background:
                behind = (1 - alpha) / others
                if self.writes:
                    weights_back = scale * weights_back * behind
                    pooled = torch.bmm(weights_back.to(tokens.dtype), tokens)
                else:
                    pooled = (total - pooled) / others
                p_back, out_back = self._next_query(p_back, p0, pooled, behind, positions)
        return maps, out, out_back

    def _activation(self, keys: Tensor | None, p: Tensor, i: int, length: int) -> Tensor:
        """Eq. 1 and 2 of round i, ``(G, K, L)``, at least float32."""
        if self.spatial is None:
            dtype = torch.promote_types(p.dtype, torch.float32)
            return torch.zeros(*p.shape[:2], length, dtype=dtype, device=p.device)
        activation = self.spatial(keys, self.query_norms[i - 1](p) if i else p)
        activation = activation.to(torch.promote_types(activation.dtype, torch.float32))
        return suppress(activation, self.suppression, self.suppression_ratio[i])

    def _next_query(
        self, p: Tensor, p0: Tensor, pooled: Tensor, weights: Tensor, positions: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """p^i, and what the branch would read after this round."""
        gate = 1 / self.gate_gain if self.channel is None else self.channel(pooled, p)
        gated = pooled if self.channel is None else gate * pooled
        if self.query == "mlp_xy":
            following = p if self.update is None else self.update(p, gated, weights @ positions)
        else:
            choices = {"gated": self.gate_gain * gate * p, "pooled": gated, "residual": p0 + gated, "fixed": p0}
            following = choices[self.query]
        return following, gated if self.output == "pooled" else following

    def _pick(self, answers: Tensor, picked: tuple[Tensor, Tensor] | None) -> Tensor:
        """The entries asked for: ``(G, K, ...)`` to ``(B, Q, ...)``."""
        if picked is None:
            return answers
        return answers.unflatten(1, (self.num_attributes, self.num_queries))[picked]


def _is_exporting() -> bool:
    """Whether a graph is made that must serve any number of entries."""
    return getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)()


def _square(length: int) -> tuple[int, int]:
    side = math.isqrt(length)
    if side * side != length:
        raise ValueError(f"grid must be given for a map that is not square, here of {length} positions")
    return side, side
