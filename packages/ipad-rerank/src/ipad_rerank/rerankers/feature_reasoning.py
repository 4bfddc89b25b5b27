"""Feature Reasoning: a learned re-ranker that reads how the candidates of a query resemble each other.

Wan et al. 2025 (IPAD), Sec. 3.3, Eq. 12, 13 and 17, after the sub-graph scheme of SSR (Shen et al., NeurIPS 2021).
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ipad_rerank._arrays import ZERO_VECTOR_SCORE, Vectors, positive_int
from ipad_rerank._memory import rows_that_fit, work_budget
from ipad_rerank._progress import progress_over
from ipad_rerank.fit import fit_reasoner
from ipad_rerank.ranking import Ranking
from ipad_rerank.rerankers._density import Density, UnfamiliarDensityWarning, close_share
from ipad_rerank.rerankers._saving import load_folder, save_folder
from ipad_rerank.rerankers._splice import splice
from ipad_rerank.rerankers._step import Gram, feature_step, gram_step, gram_step_query_row, query_step
from ipad_rerank.rerankers._subgraphs import gather_rows, scatter_query_updates, scatter_updates, sort_nodes
from ipad_rerank.rerankers._update_network import UpdateNetwork

VARIANTS = ("full", "query_only")
_TIE_STEPS = 2.0**20  # scores closer than rounding errors are ties, which keep the order they came in
ON_UNFAMILIAR = ("warn", "fallback", "ignore")


class FeatureReasoning(nn.Module):
    """Re-order the best candidates of each query by a learned reading of their mutual similarities.

    Untrained it changes nothing; :meth:`fit` trains one on embeddings with labels.

    Args:
        n_r: Length of a sequence: the query and its ``n_r - 1`` best candidates. Those behind them keep their place.
        n_t: Rounds (the paper's n_t); all share one network.
        hidden_width: Units of the network's hidden layers.
        step_size: Of the gradient step on the features, per node (paper symbol rho, times n_r).
        variant: "full" moves the query and all candidates; "query_only" moves the query, nearly as good and cheaper.
        low_precision: Run the network's products in bfloat16.
        seed: Of the initial weights.

    Raises:
        ValueError: n_r below 2, n_t, hidden_width or step_size not positive, variant unknown.

    Example:
        >>> reasoner = FeatureReasoning.fit(embeddings, labels)
        >>> better = reasoner.rerank(query, gallery, rank(query, gallery, k=500))
    """

    def __init__(
        self,
        n_r: int = 500,
        n_t: int = 1,
        hidden_width: int = 64,
        step_size: float = 5.0,
        variant: str = "full",
        low_precision: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if positive_int(n_r, "n_r") < 2:
            raise ValueError(f"n_r must be at least 2 (a query and a candidate), got {n_r}")
        if not step_size > 0:
            raise ValueError(f"step_size must be above 0, got {step_size}")
        if variant not in VARIANTS:
            raise ValueError(f"variant must be one of {', '.join(VARIANTS)}, got {variant!r}")
        self.n_r = int(n_r)
        self.n_t = positive_int(n_t, "n_t")
        self.hidden_width = positive_int(hidden_width, "hidden_width")
        self.step_size = float(step_size)
        self.variant = variant
        self.low_precision = bool(low_precision)
        self.density: Density | None = None
        self.report: dict[str, Any] | None = None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = UpdateNetwork(self.n_r, self.hidden_width)

    @classmethod
    def fit(cls, embeddings: Any, labels: Any, group_ids: Any = None, **options: Any) -> FeatureReasoning:
        """Train one; see :func:`ipad_rerank.fit.fit_reasoner` for the options and what happens.

        Options of the constructor (``n_r``, ``n_t``, ...) and of the fit (``init``, ``steps``, ``gallery_sizes``,
        ``keep_without_gain``, ``seed``, ...) may be mixed. Returns the identity, and says so, if held-out MAP does not
        rise.
        """
        return fit_reasoner(cls, embeddings, labels, group_ids, **options)

    @property
    def config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {
            "n_r": self.n_r,
            "n_t": self.n_t,
            "hidden_width": self.hidden_width,
            "step_size": self.step_size,
            "variant": self.variant,
            "low_precision": self.low_precision,
        }

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

    def rerank(
        self,
        query: Any,
        gallery: Any,
        ranking: Ranking,
        batch_size: int | None = None,
        on_unfamiliar: str = "warn",
        progress: bool | None = None,
    ) -> Ranking:
        """The ranking with its best ``n_r - 1`` candidates re-ordered.

        In a gallery of less than ``2 n_r`` rows only as many as half the gallery are re-ordered: a sequence that holds
        most of the gallery is unlike any that help.

        Args:
            query: ``(Q, D)``.
            gallery: ``(G, D)``; read by rows, so it may be a memory map.
            ranking: Of these queries over this gallery.
            batch_size: Queries at a time; by default from free memory.
            on_unfamiliar: When the density is outside what the fit saw: "warn", "fallback" (warn and answer the
                ranking as it came) or "ignore".
            progress: Show a bar; by default on a terminal.

        Returns:
            Ranking of the same candidates in each row. Head scores are refined cosines, raised by a constant per query
            where the tail's scores would stand above them; the tail keeps its order and scores.
        """
        queries = Vectors(query, "query")
        items = Vectors(gallery, "gallery", dim=queries.dim)
        ranking.check_gallery(len(queries), len(items))
        head = min(self.n_r - 1, ranking.k, max(len(items) // 2 - 1, 1))
        source = _GalleryRows(items, ranking, head, self._dtype, self._device(queries, items))
        return self._rerank(queries, source, ranking, head, len(items), batch_size, on_unfamiliar, progress)

    def rerank_candidates(
        self,
        query: Any,
        candidates: Any,
        gallery_size: int | None = None,
        batch_size: int | None = None,
        on_unfamiliar: str = "warn",
        progress: bool | None = None,
    ) -> Ranking:
        """Rank candidates that a search engine returned.

        Args:
            query: ``(Q, D)``.
            candidates: ``(Q, k, D)``, each query's top k in any order.
            gallery_size: Rows in the engine's collection, if known: checked against the fit, and limits the sequence
                to half of it.

        Returns:
            Ranking whose indices are positions 0 to k - 1 among each query's candidates.
        """
        queries = Vectors(query, "query")
        items = Vectors(candidates, "candidates", dim=queries.dim, ndim=3)
        if len(items) != len(queries):
            raise ValueError(f"candidates are for {len(items)} queries, query has {len(queries)} rows")
        k = items.shape[1]
        head = min(self.n_r - 1, k)
        if gallery_size is not None:
            head = min(head, max(positive_int(gallery_size, "gallery_size") // 2 - 1, 1))
        device = self._device(queries, items)
        ranking = _rank_candidates(queries, items, self._dtype, device)
        source = _CandidateRows(items, ranking, head, self._dtype, device)
        return self._rerank(queries, source, ranking, head, gallery_size, batch_size, on_unfamiliar, progress)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors`` into ``folder``, made if missing."""
        density = self.density.to_dict() if self.density else None
        save_folder(folder, self.config | {"density": density, "report": self.report}, self.state_dict())

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> FeatureReasoning:
        """Read what :meth:`save_pretrained` wrote; ValueError if the folder is foreign or damaged."""
        return load_folder(folder, cls._restore)

    @classmethod
    def _restore(cls, config: dict[str, Any], tensors: dict[str, Tensor]) -> FeatureReasoning:
        density, report = config.pop("density", None), config.pop("report", None)
        reasoner = cls(**config)
        reasoner.load_state_dict(tensors)
        reasoner.density = Density.from_dict(density) if density else None
        reasoner.report = report
        return reasoner.eval()

    @property
    def _dtype(self) -> torch.dtype:
        return self.network.scale.dtype

    def _device(self, *vectors: Vectors) -> torch.device:
        """Where the work is done: a GPU if the input or the reasoner is on one."""
        for device in (*(v.device for v in vectors), self.network.scale.device):
            if device.type != "cpu":
                return device
        return torch.device("cpu")

    @torch.no_grad()
    def _rerank(
        self,
        queries: Vectors,
        source: _GalleryRows | _CandidateRows,
        ranking: Ranking,
        head: int,
        gallery_size: int | None,
        batch_size: int | None,
        on_unfamiliar: str,
        progress: bool | None,
    ) -> Ranking:
        if on_unfamiliar not in ON_UNFAMILIAR:
            raise ValueError(f"on_unfamiliar must be one of {', '.join(ON_UNFAMILIAR)}, got {on_unfamiliar!r}")
        batch_size = None if batch_size is None else positive_int(batch_size, "batch_size")
        if self.is_identity or head < 2:
            return ranking
        device = source.device
        unfamiliar = on_unfamiliar != "ignore" and self._is_unfamiliar(queries, source, gallery_size)
        if unfamiliar and on_unfamiliar == "fallback":
            return ranking
        if self.network.scale.device != device:
            self.to(device)
        if batch_size is None:
            n = head + 1
            size = 8 if self._dtype == torch.float64 else 4
            each = size * (2 * n * queries.dim + 14 * n * n)
            batch_size = min(rows_that_fit(each, device), 8 if device.type == "cpu" else 1024)
        starts = range(0, len(queries), batch_size)
        refined = torch.empty(len(queries), head, dtype=self._dtype, device=device)
        for start in progress_over(starts, len(starts), "Re-ranking", progress):
            stop = min(start + batch_size, len(queries))
            unit = torch.cat([queries.unit(start, stop, self._dtype, device)[:, None], source.rows(start, stop)], 1)
            scores = (self(unit)[:, 1:] * _TIE_STEPS).round() / _TIE_STEPS
            empty = (
                unit.square().sum(-1) < 0.5
            )  # zero vectors have no direction: a query's order stays, an item is last
            scores = torch.where(empty[:, :1], 0.0, scores)
            refined[start:stop] = torch.where(empty[:, 1:], ZERO_VECTOR_SCORE, scores)
        return splice(ranking, refined)

    def _is_unfamiliar(self, queries: Vectors, source: Any, gallery_size: int | None) -> bool:
        if self.density is None:
            return False
        step = max(1, len(queries) // 64)  # a look at up to about 64 queries
        seen = []
        for row in range(0, len(queries), step):
            own = queries.unit(row, row + 1, self._dtype, source.device)
            seen.append((source.rows(row, row + 1)[0] @ own[0])[None])
        share = close_share(torch.cat(seen), self.density.close_similarity)
        complaints = self.density.complaints(gallery_size, share)
        if complaints:
            warnings.warn(
                f"this reasoner was fitted for another density: {'; '.join(complaints)}. It may do worse than no "
                're-ranking; fit on similar data, or pass on_unfamiliar="fallback" or "ignore".',
                UnfamiliarDensityWarning,
                stacklevel=4,
            )
        return bool(complaints)

    def _update(self, cosine: Tensor, zero: Tensor | None) -> Tensor:
        order = sort_nodes(cosine)
        center, query = gather_rows(cosine, order)
        update = scatter_updates(*self.network(center, query, self.low_precision), order)
        if zero is not None:
            update = update.masked_fill(zero[:, :, None] | zero[:, None, :], 0.0)
        return update

    def _move_query(self, cosine: Tensor, zero: Tensor | None, all_rows: bool) -> Tensor:
        norm = torch.ones_like(cosine[:, 0, 0])
        for last in _rounds(self.n_t):
            order = sort_nodes(cosine)
            center, query = gather_rows(cosine, order)
            pull = scatter_query_updates(*self.network(center, query, self.low_precision), order)
            if zero is not None:
                pull = pull.masked_fill(zero | zero[:, :1], 0.0)
            row, norm = query_step(cosine, cosine[:, 0], norm, pull, self.step_size)
            if last and not all_rows:
                return row
            rest = torch.cat([row[:, 1:, None], cosine[:, 1:, 1:]], dim=2)
            cosine = torch.cat([row[:, None], rest], dim=1)
        return cosine


class _GalleryRows:
    """The head's vectors, looked up in the gallery."""

    def __init__(self, items: Vectors, ranking: Ranking, head: int, dtype: torch.dtype, device: torch.device) -> None:
        self.device = device
        self._items, self._dtype = items, dtype
        self._indices = ranking.tensors()[0][:, :head]
        self._unit = None
        size = 8 if dtype == torch.float64 else 4
        if len(items) <= self._indices.numel() and 4 * size * len(items) * items.dim <= work_budget(device):
            self._unit = items.unit(0, len(items), dtype, device)  # small enough: normalise every row once
            self._indices = self._indices.to(device)

    def rows(self, start: int, stop: int) -> Tensor:
        indices = self._indices[start:stop]
        if self._unit is None:
            return self._items.take(indices, self._dtype, self.device)
        return self._unit[indices]


class _CandidateRows:
    """The head's vectors, in the candidates given with each query."""

    def __init__(self, items: Vectors, ranking: Ranking, head: int, dtype: torch.dtype, device: torch.device) -> None:
        self.device = device
        self._items, self._dtype = items, dtype
        self._indices = ranking.tensors()[0][:, :head].to(device)

    def rows(self, start: int, stop: int) -> Tensor:
        unit = self._items.unit(start, stop, self._dtype, self.device)
        return unit.take_along_dim(self._indices[start:stop, :, None], dim=1)


def _rank_candidates(queries: Vectors, items: Vectors, dtype: torch.dtype, device: torch.device) -> Ranking:
    scores = torch.empty(items.shape[:2], dtype=dtype, device=device)
    step = rows_that_fit(16 * items.shape[1] * items.dim, device)
    for start in range(0, len(items), step):
        stop = min(start + step, len(items))
        unit = items.unit(start, stop, dtype, device)
        own = queries.unit(start, stop, dtype, device)
        scores[start:stop] = (unit * own[:, None]).sum(-1).clamp_(-1, 1)
        scores[start:stop][(unit == 0).all(-1)] = ZERO_VECTOR_SCORE
    scores, order = torch.sort(scores, dim=1, descending=True, stable=True)
    return Ranking(queries.in_kind(order), queries.in_kind(scores))


def _rounds(count: int) -> list[bool]:
    """One entry a round: is it the last?"""
    return [False] * (count - 1) + [True]
