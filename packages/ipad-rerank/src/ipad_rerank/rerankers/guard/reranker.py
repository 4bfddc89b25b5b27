"""A re-ranker that keeps its hands off where another would harm."""

from __future__ import annotations

import warnings
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from ipad_rerank.metrics.objectives import BLENDS, HEAD, chosen_blend, joined, per_query
from ipad_rerank.metrics.relevance import Judge
from ipad_rerank.rerankers.front import keep_in_front
from ipad_rerank.rerankers.guard.blend import blended
from ipad_rerank.rerankers.guard.gate import Gate
from ipad_rerank.rerankers.guard.neighborhood import neighborhood
from ipad_rerank.rerankers.protocols import Reranker
from ipad_rerank.rerankers.saving import Saved, Tensors, pack, unpack
from ipad_rerank.rerankers.shortlist import rank_candidates
from ipad_rerank.search.cosine import rank
from ipad_rerank.search.groups import searches
from ipad_rerank.search.ranking import Ranking
from ipad_rerank.search.vectors import Array, ArrayLike, candidates_of, compute_dtype, positive_int, work_device

SLACK = 1.25
"""A gallery may be larger than the largest tried by this factor."""


class LargerGalleryWarning(UserWarning):
    """The gallery is larger than any that the re-ranker was tried on."""


class Guard(Saved):
    """Another re-ranker's answer where its neighborhood promises a gain, else the ranking as it came.

    Near-duplicates of a query stay in front in either case.

    Args:
        reranker: Any.
        gate: Decides query by query; None lets every answer pass.
        blend: Weight of the re-ranker's scores, within [0, 1]; the rest is that of the similarity to the query.
        largest_gallery: Rows of the largest gallery that the re-ranker was tried on; larger ones are warned of.

    Example:
        >>> guard = Guard.calibrate(reranker, query, gallery, query_labels, gallery_labels)
        >>> better = guard.rerank(query, gallery, rank(query, gallery, k=500))
    """

    looks_at_density = True

    def __init__(
        self,
        reranker: Reranker,
        gate: Gate | None = None,
        largest_gallery: int | None = None,
        blend: float = 1.0,
    ) -> None:
        if not isinstance(reranker, Reranker) or isinstance(reranker, type):
            raise TypeError(f"a Guard takes a re-ranker (an object with a rerank method), got {reranker!r}")
        if not 0 <= blend <= 1:
            raise ValueError(f"blend must be within [0, 1], got {blend}")
        self.reranker, self.gate, self.blend = reranker, gate, float(blend)
        self.largest_gallery = None if largest_gallery is None else positive_int(largest_gallery, "largest_gallery")

    def __repr__(self) -> str:
        return f"Guard({self.reranker!r})"

    @classmethod
    def calibrate(
        cls,
        reranker: Reranker,
        query: Array,
        gallery: Array,
        query_labels: Array,
        gallery_labels: Array,
        query_groups: Array | None = None,
        gallery_groups: Array | None = None,
        *,
        objective: str = "map",
    ) -> Self:
        """A guard with a blend and a gate for labelled queries, which the re-ranker must not have been fitted on.

        The blend is the one that raises the objective most while P@1 and P@10 stay where they were. Some hundreds of
        queries are needed, and a gallery like the one it will be used with.

        Args:
            reranker: What to guard.
            query: ``(Q, D)``.
            gallery: ``(G, D)``.
            query_labels: ``(Q,)``, of any kind.
            gallery_labels: ``(G,)``.
            query_groups: ``(Q,)``, with ``gallery_groups``.
            gallery_groups: ``(G,)``.
            objective: What a gain is, as in ``FeatureReasoning.fit``.
        """
        query_labels, gallery_labels = (
            np.asarray(v) if isinstance(v, list) else v for v in (query_labels, gallery_labels)
        )
        names = tuple(dict.fromkeys((objective, *HEAD)))
        trials: dict[float, list[tuple[Tensor, dict[str, Tensor]]]] = {blend: [] for blend in BLENDS}
        before, relevant, largest = [], [], 1
        for query_rows, gallery_rows in searches(query_groups, gallery_groups):
            vectors = (query[query_rows], gallery[gallery_rows])
            labels = (query_labels[query_rows], gallery_labels[gallery_rows])
            ranking = rank(*vectors)
            answer = reranker.rerank(*vectors, ranking, **_density_option(reranker, "ignore"))
            for blend, found in trials.items():
                after = keep_in_front(*vectors, ranking, blended(*vectors, answer, blend))
                found.append((neighborhood(*vectors, ranking, after), per_query(names, after, *labels)))
            before.append(per_query(names, ranking, *labels))
            relevant.append(Judge(*labels, None, None, len(ranking)).total)
            largest = max(largest, ranking.k)
        first = joined(before)
        gains = {b: {n: v - first[n] for n, v in joined([v for _, v in found]).items()} for b, found in trials.items()}
        blend = chosen_blend(
            {b: {n: float(v.mean()) for n, v in found.items()} for b, found in gains.items()}, objective
        )
        features = torch.cat([features for features, _ in trials[blend]])
        return cls(reranker, Gate.fit(features, gains[blend][objective], torch.cat(relevant)), largest, blend)

    def rerank(
        self,
        query: ArrayLike,
        gallery: ArrayLike,
        ranking: Ranking,
        batch_size: int | None = None,
        on_unfamiliar: str = "warn",
        progress: bool | None = None,
    ) -> Ranking:
        """A ranking of the same k; arguments as those of ``Chain.rerank``."""
        if self._is_too_large(len(gallery), on_unfamiliar) and on_unfamiliar == "fallback":
            return ranking
        options = _given(batch_size=batch_size, progress=progress) | _density_option(self.reranker, on_unfamiliar)
        return self._choose(query, gallery, ranking, self.reranker.rerank(query, gallery, ranking, **options))

    def rerank_candidates(
        self,
        query: ArrayLike,
        candidates: ArrayLike,
        gallery_size: int | None = None,
        batch_size: int | None = None,
        on_unfamiliar: str = "warn",
        progress: bool | None = None,
        ranking: Ranking | None = None,
    ) -> Ranking:
        """Order the columns of ``candidates (Q, k, D)``; arguments as those of ``Chain.rerank_candidates``."""
        queries, items = candidates_of(query, candidates)
        if ranking is None:
            ranking = rank_candidates(queries, items, compute_dtype(queries, items), work_device(queries, items))
        if self._is_too_large(gallery_size or 0, on_unfamiliar) and on_unfamiliar == "fallback":
            return ranking
        options = _given(batch_size=batch_size, progress=progress) | _density_option(self.reranker, on_unfamiliar)
        found = self.reranker.rerank_candidates(query, candidates, gallery_size, ranking=ranking, **options)
        return self._choose(query, candidates, ranking, found, own_galleries=True)

    def _choose(
        self, query: ArrayLike, gallery: ArrayLike, before: Ranking, after: Ranking, own_galleries: bool = False
    ) -> Ranking:
        """``after``, blended and with near-duplicates in front, where the gate opens; else ``before``."""
        after = blended(query, gallery, after, self.blend, own_galleries)
        after = keep_in_front(query, gallery, before, after, own_galleries)
        if self.gate is None:
            return after
        (indices, scores), (new, new_scores) = before.tensors(), after.tensors()
        opens = self.gate.opens(neighborhood(query, gallery, before, after, own_galleries))[:, None].to(indices.device)
        return before.like(torch.where(opens, new, indices), torch.where(opens, new_scores, scores))

    def _is_too_large(self, size: int, on_unfamiliar: str) -> bool:
        """Is the gallery larger than any that was tried? Warns, unless told to "ignore"."""
        too_large = self.largest_gallery is not None and size > SLACK * self.largest_gallery
        if too_large and on_unfamiliar != "ignore":
            warnings.warn(
                f"the gallery has {size} rows; this re-ranker was tried on {self.largest_gallery} at most, and what was "
                "found there need not hold. Choose again with a gallery of this size (ipad-rerank compare).",
                LargerGalleryWarning,
                stacklevel=3,
            )
        return too_large

    def to_config(self) -> dict[str, Any]:
        return {
            "reranker": pack(self.reranker)[0],
            "gate": self.gate.to_config() if self.gate else None,
            "largest_gallery": self.largest_gallery,
            "blend": self.blend,
        }

    def tensors(self) -> Tensors:
        return pack(self.reranker)[1]

    @classmethod
    def from_config(cls, config: dict[str, Any], tensors: Tensors) -> Self:
        gate = Gate.from_config(config["gate"]) if config["gate"] else None
        return cls(unpack(config["reranker"], tensors), gate, config["largest_gallery"], config["blend"])


def _density_option(reranker: Reranker, on_unfamiliar: str) -> dict[str, str]:
    return {"on_unfamiliar": on_unfamiliar} if getattr(reranker, "looks_at_density", False) else {}


def _given(**options: Any) -> dict[str, Any]:
    """Those that are not None: re-rankers of others need not know options that are not used."""
    return {name: value for name, value in options.items() if value is not None}
