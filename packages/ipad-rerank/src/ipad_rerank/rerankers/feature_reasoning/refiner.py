"""Feature Reasoning on batches of sequences (Wan et al. 2025, Eq. 12 and 13): the rounds, and the scores they end in.

Scores are the refined cosines blended with the first ones, equal for equal vectors, near-duplicates of the query in front.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ipad_rerank.rerankers.feature_reasoning.density import Density
from ipad_rerank.rerankers.feature_reasoning.gradient_step import (
    Gram,
    feature_step,
    gram_step,
    gram_step_query_row,
    query_step,
)
from ipad_rerank.rerankers.feature_reasoning.subgraphs import (
    gather_rows,
    scatter_query_updates,
    scatter_updates,
    sort_nodes,
)
from ipad_rerank.rerankers.feature_reasoning.update_network import UpdateNetwork
from ipad_rerank.rerankers.saving import Config
from ipad_rerank.rerankers.shortlist import near_duplicates
from ipad_rerank.search.vectors import number_in, one_of, positive_int

_TIE_STEPS = 2.0**20  # scores closer than rounding errors are ties, which keep the order they came in
VARIANTS = ("full", "query_only")
SETTINGS = ("n_r", "n_t", "hidden_width", "step_size", "variant", "low_precision", "sequences", "blend")


class SequenceRefiner(nn.Module):
    """``n_t`` rounds of update network and gradient step; arguments are those of FeatureReasoning."""

    def __init__(
        self,
        n_r: int = 500,
        n_t: int = 1,
        hidden_width: int = 64,
        step_size: float = 5.0,
        variant: str = "full",
        low_precision: bool = False,
        sequences: int | str | None = None,
        blend: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.n_r = positive_int(n_r, "n_r", least=2)  # a query and a candidate
        given = sequences is None or sequences == "auto"
        self.sequences = sequences if given else positive_int(sequences, 'sequences (or "auto")')
        self.n_t = positive_int(n_t, "n_t")
        self.hidden_width = positive_int(hidden_width, "hidden_width")
        self.step_size = float(number_in("(0, inf)", step_size, "step_size"))
        self.variant = one_of(VARIANTS, variant, "variant")
        self.low_precision = bool(low_precision)
        self.blend = float(number_in("[0, 1]", blend, "blend"))
        self.density: Density | None = None
        self.report: Config | None = None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = UpdateNetwork(self.n_r, self.hidden_width)

    @property
    def config(self) -> Config:
        """Constructor arguments."""
        return {name: getattr(self, name) for name in SETTINGS}

    @property
    def is_identity(self) -> bool:
        """True while untrained, and after a fit that found no gain."""
        return self.network.is_zero

    def forward(self, unit: Tensor, all_rows: bool = False, space: str | None = None) -> Tensor:
        """Refined similarities of sequences.

        Args:
            unit: ``(B, n, D)`` unit vectors (or zero vectors), node 0 the query; n <= n_r.
            all_rows: Return all pairs, not just the query's row.
            space: "feature" or "gram"; by default Gram space where D > n.

        Returns:
            ``(B, n)`` cosines of the query to every node, or ``(B, n, n)``.
        """
        zero = unit.detach().square().sum(-1) < 0.5  # (B, n)
        zero = zero if bool(zero.any()) else None
        cosine = unit @ unit.transpose(1, 2)
        if self.variant == "query_only":
            return self._move_query(cosine, zero, all_rows)
        if space is None:
            space = "gram" if unit.shape[2] > unit.shape[1] else "feature"
        if space == "gram":
            gram = Gram(cosine, torch.ones_like(cosine[:, 0]))
            for last in _rounds(self.n_t):
                update = self._update(gram.cosine, zero)
                if last and not all_rows:
                    return gram_step_query_row(gram, update, self.step_size)
                gram = gram_step(gram, update, self.step_size)
            return gram.cosine
        features = unit
        for last in _rounds(self.n_t):
            features = feature_step(features, self._update(cosine, zero), self.step_size)
            norm = features.norm(dim=-1).clamp_min(1e-6)
            if last and not all_rows:
                return (features @ features[:, 0, :, None])[:, :, 0] / norm / norm[:, :1]
            cosine = features @ features.transpose(1, 2) / norm[:, :, None] / norm[:, None, :]
        return cosine

    def _read(self, cosine: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The network's updates of every subgraph's two rows, and the order of their columns."""
        order = sort_nodes(cosine)
        return *self.network(*gather_rows(cosine, order), self.low_precision), order

    def _update(self, cosine: Tensor, zero: Tensor | None) -> Tensor:
        update = scatter_updates(*self._read(cosine))
        if zero is not None:
            update = update.masked_fill(zero[:, :, None] | zero[:, None, :], 0.0)
        return update

    def _move_query(self, cosine: Tensor, zero: Tensor | None, all_rows: bool) -> Tensor:
        norm = torch.ones_like(cosine[:, 0, 0])
        for last in _rounds(self.n_t):
            pull = scatter_query_updates(*self._read(cosine))
            if zero is not None:
                pull = pull.masked_fill(zero | zero[:, :1], 0.0)
            row, norm = query_step(cosine, cosine[:, 0], norm, pull, self.step_size)
            if last and not all_rows:
                return row
            rest = torch.cat([row[:, 1:, None], cosine[:, 1:, 1:]], dim=2)
            cosine = torch.cat([row[:, None], rest], dim=1)
        return cosine


@torch.no_grad()
def refined_cosines(reasoner: SequenceRefiner, query: Tensor, candidates: Tensor, sequences: int = 1) -> Tensor:
    """What the network makes of the cosines, ``(B, h)``."""
    refined = torch.empty_like(candidates[:, :, 0])
    for first in range(sequences):
        unit = torch.cat([query[:, None], candidates[:, first::sequences]], dim=1)
        refined[:, first::sequences] = reasoner(unit)[:, 1:]
    return refined


def finish(refined: Tensor, query: Tensor, candidates: Tensor, blend: float) -> Tensor:
    """``blend`` of the refined cosines and the rest of the first ones; near-duplicates of the query score above 1."""
    first = (candidates * query[:, None]).sum(-1)
    mixed = blend * refined + (1 - blend) * first
    scores = (share_among_equals(mixed, first, candidates) * _TIE_STEPS).round() / _TIE_STEPS
    return torch.where(near_duplicates(first), 2 + first, scores)


def share_among_equals(scores: Tensor, cosine: Tensor, candidates: Tensor) -> Tensor:
    """Candidates that are the same vector get the mean of their scores.

    Args:
        scores: ``(B, h)``.
        cosine: ``(B, h)`` to the query; equal vectors have equal ones.
        candidates: ``(B, h, D)``.
    """
    ordered, order = torch.sort(cosine, dim=1, stable=True)
    row, place = (ordered[:, 1:] == ordered[:, :-1]).nonzero(as_tuple=True)
    if not len(row):
        return scores
    same = (candidates[row, order[row, place]] == candidates[row, order[row, place + 1]]).all(1)
    starts = torch.ones_like(order)
    starts[row[same], place[same] + 1] = 0  # the same as the one before it
    group = starts.cumsum(1) - 1
    count = torch.zeros_like(scores).scatter_add_(1, group, torch.ones_like(scores))
    total = torch.zeros_like(scores).scatter_add_(1, group, scores.gather(1, order))
    mean = (total / count.clamp_min(1)).gather(1, group)
    return torch.empty_like(scores).scatter_(1, order, mean)


def _rounds(count: int) -> list[bool]:
    """One entry a round: is it the last?"""
    return [False] * (count - 1) + [True]
