"""A re-ranker that keeps its hands off where another would harm."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Self

import torch
from torch import Tensor

from ipad_rerank.rerankers.base import BaseReranker, answer_of
from ipad_rerank.rerankers.guard.calibration import calibrated, features_of
from ipad_rerank.rerankers.guard.census import NAMES, Census
from ipad_rerank.rerankers.guard.gate import Gate
from ipad_rerank.rerankers.labelled import labelled_searches
from ipad_rerank.rerankers.protocols import Reranker
from ipad_rerank.rerankers.retrieval import Retrieval
from ipad_rerank.rerankers.saving import Config, Tensors, pack, unpack
from ipad_rerank.rerankers.shortlist import keep_in_front
from ipad_rerank.search.ranking import Ranking
from ipad_rerank.search.vectors import Array, positive_int

SLACK = 1.25
"""A gallery may be larger than the largest tried by this factor."""


class LargerGalleryWarning(UserWarning):
    """The gallery is larger than any that the re-ranker was tried on."""


class Guard(BaseReranker):
    """Another re-ranker's answer where it promises a gain, else the ranking as it came.

    That depends on the class that is likely asked for, and where it is not known on the query's neighborhood.
    Near-duplicates of a query stay in front in either case.

    Args:
        reranker: Any.
        gate: Decides query by query; None lets every answer pass.
        largest_gallery: Rows of the largest gallery that the re-ranker was tried on; larger ones are warned of.
        first: So many results stay in front as they came, the re-ranker's order begins behind them.
        census: Knows classes that may be asked for; the gate reads what it tells. With a gate, and only then.

    Example:
        >>> guard = Guard.calibrate(reranker, query, gallery, query_labels, gallery_labels)
        >>> better = guard.rerank(query, gallery, rank(query, gallery, k=500))
    """

    def __init__(
        self,
        reranker: Reranker,
        gate: Gate | None = None,
        largest_gallery: int | None = None,
        first: int = 0,
        census: Census | None = None,
    ) -> None:
        if not isinstance(reranker, Reranker) or isinstance(reranker, type):
            raise TypeError(f"a Guard takes a re-ranker (an object with a rerank method), got {reranker!r}")
        if (gate is None) != (census is None):
            raise ValueError("a Guard takes a gate and the census that it reads, or neither of them")
        self.reranker, self.gate, self.census = reranker, gate, census
        self.first = positive_int(first, "first", least=0)
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
        weights: Array | None = None,
        seed: int = 0,
    ) -> Self:
        """A guard for labelled queries, which the re-ranker must not have been fitted on.

        How many of the first results stay, and where the gate opens, are chosen together: P@1 and P@10 stay where they
        were, and it is the choice of the largest gain in the objective less the risk that a group of queries, by their
        number of relevant items, loses. Some hundreds of queries are needed, and a gallery like the one it will be used
        with. Twice as many are asked once more, in galleries some of whose classes are thinned out, so that small classes
        are known better than the few there are could tell.

        Args:
            reranker: What to guard.
            query: ``(Q, D)``.
            gallery: ``(G, D)``.
            query_labels: ``(Q,)``, of any kind.
            gallery_labels: ``(G,)``.
            query_groups: ``(Q,)``, with ``gallery_groups``.
            gallery_groups: ``(G,)``.
            objective: What a gain is, as in ``FeatureReasoning.fit``.
            weights: ``(Q,)`` how much each query counts, where they were not drawn as they will be asked: it helps to draw
                queries of small classes more often, as :func:`~ipad_rerank.compare` does. None: all count alike.
            seed: Of which classes are thinned, and to how many items.
        """
        labels = (query_labels, gallery_labels, query_groups, gallery_groups)
        parts = list(labelled_searches(query, gallery, *labels, on_unfamiliar="ignore"))
        counts = _checked_weights(weights, len(query))
        best = calibrated(reranker, parts, torch.cat([counts[part.query_rows] for part in parts]), objective, seed)
        return cls(reranker, best.gate, max(part.asked.length for part in parts), best.first, Census.of(parts))

    def answer(self, asked: Retrieval) -> Ranking:
        """The re-ranker's answer behind the first results where the gate opens; else the ranking as it came."""
        if self._is_too_large(asked) and asked.options.on_unfamiliar == "fallback":
            return asked.ranking
        asked = replace(asked, ranked=asked.ranking, largest_tried=self.largest_gallery)
        answer = answer_of(self.reranker, asked)
        found = keep_in_front(asked, answer, self.first)
        if self.gate is None or self.census is None:
            return found
        (indices, scores), (new, new_scores) = asked.ranking.tensors(), found.tensors()
        opens = self.gate.opens(features_of(asked, answer, self.census))[:, None].to(indices.device)
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

    def to_config(self) -> Config:
        return {
            "reranker": pack(self.reranker)[0],
            "gate": self.gate.to_config() if self.gate else None,
            "largest_gallery": self.largest_gallery,
            "first": self.first,
            "census_gallery": self.census.gallery_size if self.census else None,
        }

    def tensors(self) -> Tensors:
        inside = {f"inside.{name}": tensor for name, tensor in pack(self.reranker)[1].items()}
        return inside | (self.census.tensors() if self.census else {})

    @classmethod
    def from_config(cls, config: Config, tensors: Tensors) -> Self:
        gate = Gate.from_config(config["gate"]) if config["gate"] else None
        known = {name.removeprefix("census."): tensors.pop(name) for name in [*tensors] if name.startswith("census.")}
        if known and set(known) != {*NAMES}:
            raise ValueError("the guard was saved by an earlier snapshot of ipad-rerank; calibrate it again")
        census = Census(**known, gallery_size=config["census_gallery"]) if known else None
        inside = {name.removeprefix("inside."): tensor for name, tensor in tensors.items()}
        return cls(unpack(config["reranker"], inside), gate, config["largest_gallery"], config["first"], census)


def _checked_weights(weights: Array | None, length: int) -> Tensor:
    """``(Q,)`` float64; ones where there are none."""
    if weights is None:
        return torch.ones(length, dtype=torch.float64)
    found = torch.as_tensor(weights, dtype=torch.float64).cpu()
    if found.shape != (length,) or not bool((found > 0).all() and found.isfinite().all()):
        raise ValueError(f"weights must be {length} positive numbers, one for each query, got {weights!r}")
    return found
