"""Feature Reasoning: a learned re-ranker that reads how the candidates of a query resemble each other.

Wan et al. 2025 (IPAD), Sec. 3.3, Eq. 12, 13 and 17, after the sub-graph scheme of SSR (Shen et al., NeurIPS 2021).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ipad_rerank._arrays import Vectors, positive_int
from ipad_rerank.fit import fit_reasoner
from ipad_rerank.ranking import Ranking
from ipad_rerank.rerankers._density import Density
from ipad_rerank.rerankers._reorder import reorder
from ipad_rerank.rerankers._saving import load_folder, save_folder
from ipad_rerank.rerankers._sequence_refiner import SequenceRefiner
from ipad_rerank.rerankers._sequence_rows import CandidateRows, GalleryRows, rank_candidates


class FeatureReasoning(SequenceRefiner):
    """Re-order the best candidates of each query by a learned reading of their mutual similarities.

    Untrained it changes nothing; :meth:`fit` trains one on embeddings with labels.

    Args:
        n_r: Length of a sequence: the query and its ``n_r - 1`` best candidates. Those behind them keep their place.
        n_t: Rounds (the paper's n_t); all share one network.
        hidden_width: Units of the network's hidden layers.
        step_size: Of the gradient step on the features, per node (paper symbol rho, times n_r).
        variant: "full" moves the query and all candidates; "query_only" moves the query, nearly as good and cheaper.
        low_precision: Run the network's products in bfloat16.
        sequences: Deal ``m (n_r - 1)`` candidates out to m sequences, each m-th to one, so that they lie less dense and
            more of them are re-ordered, at m times the cost. "auto" takes as many as bring the gallery to the density
            at which the fit came out best; in either case no more than the ranking is deep enough for. None is 1; behind
            a query expansion, whose search makes a new tail in any case, :meth:`Chain.fit` makes it "auto".
        seed: Of the initial weights.

    Raises:
        ValueError: n_r below 2, n_t, hidden_width or step_size not positive, variant unknown.

    Example:
        >>> reasoner = FeatureReasoning.fit(embeddings, labels)
        >>> better = reasoner.rerank(query, gallery, rank(query, gallery, k=500))
    """

    @classmethod
    def fit(cls, embeddings: Any, labels: Any, group_ids: Any = None, **options: Any) -> FeatureReasoning:
        """Train one; see :func:`ipad_rerank.fit.fit_reasoner` for the options and what happens.

        Options of the constructor (``n_r``, ``n_t``, ...) and of the fit (``init``, ``steps``, ``gallery_sizes``,
        ``keep_without_gain``, ``seed``, ...) may be mixed. Returns the identity, and says so, if held-out MAP does not
        rise.
        """
        return fit_reasoner(cls, embeddings, labels, group_ids, **options)

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
        most of the gallery is unlike any that help. ``sequences`` above 1 re-order as many more.

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
        head, parts = self._head(ranking.k, len(items))
        source = GalleryRows(items, ranking, head, self.dtype, self._device(queries, items))
        return reorder(self, queries, source, ranking, head, parts, len(items), batch_size, on_unfamiliar, progress)

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
                to half of it; "auto" sequences need it.

        Returns:
            Ranking whose indices are positions 0 to k - 1 among each query's candidates.
        """
        queries = Vectors(query, "query")
        items = Vectors(candidates, "candidates", dim=queries.dim, ndim=3)
        if len(items) != len(queries):
            raise ValueError(f"candidates are for {len(items)} queries, query has {len(queries)} rows")
        if gallery_size is not None:
            positive_int(gallery_size, "gallery_size")
        head, parts = self._head(items.shape[1], gallery_size)
        device = self._device(queries, items)
        ranking = rank_candidates(queries, items, self.dtype, device)
        source = CandidateRows(items, ranking, head, self.dtype, device)
        return reorder(self, queries, source, ranking, head, parts, gallery_size, batch_size, on_unfamiliar, progress)

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
    def dtype(self) -> torch.dtype:
        """Of the weights, and of the work."""
        return self.network.scale.dtype

    def _device(self, *vectors: Vectors) -> torch.device:
        """Where the work is done: a GPU if the input or the reasoner is on one."""
        for device in (*(v.device for v in vectors), self.network.scale.device):
            if device.type != "cpu":
                return device
        return torch.device("cpu")

    def _head(self, k: int, gallery_size: int | None) -> tuple[int, int]:
        """How many of k candidates to re-order, and in how many sequences."""
        most = self.n_r - 1 if gallery_size is None else max(min(self.n_r, gallery_size // 2) - 1, 1)
        wanted = self.sequences or 1
        if wanted == "auto":
            wanted = self.density.sequences(gallery_size) if self.density and gallery_size else 1
        for parts in range(wanted, 1, -1):
            each = most if gallery_size is None else min(most, gallery_size // parts // 2 - 1)
            if each >= 2 and parts * each <= k:  # a sequence of one candidate says nothing
                return parts * each, parts
        return min(most, k), 1
