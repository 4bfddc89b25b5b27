"""A re-ranker that keeps its hands off where another would harm."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from ipad_rerank.metrics.objectives import BLENDS, HEAD, chosen_blend, joined, per_query
from ipad_rerank.metrics.relevance import Judge
from ipad_rerank.rerankers.base import BaseReranker, answer_of
from ipad_rerank.rerankers.front import keep_in_front
from ipad_rerank.rerankers.guard.blend import blended
from ipad_rerank.rerankers.guard.gate import Gate
from ipad_rerank.rerankers.guard.neighborhood import neighborhood
from ipad_rerank.rerankers.protocols import Reranker
from ipad_rerank.rerankers.retrieval import Options, Retrieval
from ipad_rerank.rerankers.saving import Tensors, pack, unpack
from ipad_rerank.search.groups import searches
from ipad_rerank.search.ranking import Ranking
from ipad_rerank.search.vectors import Array, positive_int

SLACK = 1.25
"""A gallery may be larger than the largest tried by this factor."""


class LargerGalleryWarning(UserWarning):
    """The gallery is larger than any that the re-ranker was tried on."""


class Guard(BaseReranker):
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
            labels = (query_labels[query_rows], gallery_labels[gallery_rows])
            asked = Retrieval(query[query_rows], gallery[gallery_rows], options=Options(on_unfamiliar="ignore"))
            asked = asked.after(asked.ranking)
            answer = answer_of(reranker, asked)
            for blend, found in trials.items():
                after = keep_in_front(asked, blended(asked, answer, blend))
                found.append((neighborhood(asked, after), per_query(names, after, *labels)))
            before.append(per_query(names, asked.ranking, *labels))
            relevant.append(Judge(*labels, None, None, len(asked.ranking)).total)
            largest = max(largest, asked.length)
        first = joined(before)
        gains = {b: {n: v - first[n] for n, v in joined([v for _, v in found]).items()} for b, found in trials.items()}
        blend = chosen_blend(
            {b: {n: float(v.mean()) for n, v in found.items()} for b, found in gains.items()}, objective
        )
        features = torch.cat([features for features, _ in trials[blend]])
        return cls(reranker, Gate.fit(features, gains[blend][objective], torch.cat(relevant)), largest, blend)

    def answer(self, asked: Retrieval) -> Ranking:
        """The re-ranker's answer, blended and with near-duplicates in front, where the gate opens; else as it came."""
        if self._is_too_large(asked) and asked.options.on_unfamiliar == "fallback":
            return asked.ranking
        asked = replace(asked, ranked=asked.ranking, largest_tried=self.largest_gallery)
        found = keep_in_front(asked, blended(asked, answer_of(self.reranker, asked), self.blend))
        if self.gate is None:
            return found
        (indices, scores), (new, new_scores) = asked.ranking.tensors(), found.tensors()
        opens = self.gate.opens(neighborhood(asked, found))[:, None].to(indices.device)
        return found.like(torch.where(opens, new, indices), torch.where(opens, new_scores, scores))

    def _is_too_large(self, asked: Retrieval) -> bool:
        """Is the gallery larger than any that was tried? Warns, unless told to "ignore"."""
        size = asked.gallery_size or 0
        too_large = self.largest_gallery is not None and size > SLACK * self.largest_gallery
        if too_large and asked.options.on_unfamiliar != "ignore":
            warnings.warn(
                f"the gallery has {size} rows; this re-ranker was tried on {self.largest_gallery} at most, and what was "
                "found there need not hold. Choose again with a gallery of this size (ipad-rerank compare).",
                LargerGalleryWarning,
                stacklevel=4,
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
