"""Feature Reasoning on batches of sequences (Wan et al. 2025, Eq. 12 and 13): the rounds, and the scores they end in.

Scores are the refined cosines blended with the first ones, equal for equal vectors, near-duplicates of the query in front.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ipad_rerank.rerankers.feature_reasoning.density import Density
from ipad_rerank.rerankers.feature_reasoning.gradient_step import feature_step, gram_step
from ipad_rerank.rerankers.feature_reasoning.subgraphs import gather_rows, scatter_updates, sort_nodes
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
            space: "feature" or "gram"; by default Gram space where all nodes move and D > n.

        Returns:
            ``(B, n)`` cosines of the query to every node, or ``(B, n, n)``.
        """
        moving = 1 if self.variant == "query_only" else unit.shape[1]
        if space is None:
            space = "gram" if moving > 1 and unit.shape[2] > unit.shape[1] else "feature"
        zero = unit.detach().square().sum(-1) < 0.5  # (B, n)
        features, cosine, norm = unit[:, :moving], unit @ unit.mT, torch.ones_like(unit[:, :, 0])
        for rounds_left in reversed(range(self.n_t)):
            rows = None if rounds_left or all_rows else 1
            update = self._update(cosine)
            if bool(zero.any()):
                update = update.masked_fill(zero[:, :, None] | zero[:, None, :], 0.0)
            if space == "gram":
                cosine, norm = gram_step(cosine, norm, update, self.step_size, rows)
            else:
                features = feature_step(features, unit, update, self.step_size)
                unit = torch.cat([F.normalize(features, dim=-1), unit[:, moving:]], dim=1)
                changed = unit[:, : rows or moving] @ unit.mT
                cosine = changed if rows else _with_rows(cosine, changed)
        return cosine if all_rows else cosine[:, 0]

    def _update(self, cosine: Tensor) -> Tensor:
        """What the network says about each pair of nodes, ``(B, n, n)``."""
        order = sort_nodes(cosine)
        return scatter_updates(*self.network(*gather_rows(cosine, order), self.low_precision), order)


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


def _with_rows(cosine: Tensor, changed: Tensor) -> Tensor:
    """Symmetric ``cosine (B, n, n)`` with the first m rows and columns as in ``changed (B, m, n)``."""
    count = changed.shape[1]
    rest = torch.cat([changed[:, :, count:].mT, cosine[:, count:, count:]], dim=2)
    return torch.cat([changed, rest], dim=1)
