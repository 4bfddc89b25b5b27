"""Several re-rankers one after the other."""

from __future__ import annotations

from typing import Any, Self

from ipad_rerank.rerankers.base import BaseReranker, after_steps, check_candidates_suffice, moves_queries
from ipad_rerank.rerankers.feature_reasoning import FeatureReasoning
from ipad_rerank.rerankers.protocols import Reranker
from ipad_rerank.rerankers.retrieval import Retrieval
from ipad_rerank.rerankers.saving import Config, Tensors, pack, unpack
from ipad_rerank.rerankers.shortlist import keep_in_front
from ipad_rerank.search.ranking import Ranking
from ipad_rerank.search.vectors import ArrayLike


class Chain(BaseReranker):
    """Each re-ranker works on what the one before left: its ranking, its moved queries, its moved gallery.

    A query expansion moves towards the best of the ranking it is given. Behind Feature Reasoning these are better
    chosen, and the search that follows fetches what no re-ordering could reach.

    Args:
        *rerankers: At least one; database augmentation first, Feature Reasoning last.

    Raises:
        ValueError: no re-ranker.
        TypeError: something without a ``rerank`` method.

    Example:
        >>> chain = Chain(AlphaQueryExpansion(k=50), FeatureReasoning()).fit(embeddings, labels)
        >>> better = chain.rerank(query, gallery, rank(query, gallery, k=500))
        >>> best = Chain(reasoner, AverageQueryExpansion(k=50), reasoner)  # a fitted one, twice; costs twice as much
    """

    def __init__(self, *rerankers: Reranker) -> None:
        if not rerankers:
            raise ValueError("a Chain needs at least one re-ranker")
        for reranker in rerankers:
            if not isinstance(reranker, Reranker) or isinstance(reranker, type):
                raise TypeError(f"a Chain takes re-rankers (objects with a rerank method), got {reranker!r}")
        self.rerankers = rerankers

    def __repr__(self) -> str:
        return f"Chain({', '.join(type(r).__name__ for r in self.rerankers)})"

    def fit(
        self, embeddings: ArrayLike, labels: ArrayLike, group_ids: ArrayLike | None = None, **options: Any
    ) -> Chain:
        """A new chain whose reasoners are fitted in turn, each on queries moved by the steps before it.

        Fitted reasoners are kept, but for a last step, whose fit starts from what it has learnt; one reasoner that
        stands in several places is fitted once, in the first. Behind a query expansion the candidates are dealt out to
        as many sequences as pay (``sequences="auto"``), unless their number is given. Options are those of
        :meth:`FeatureReasoning.fit`.

        Raises:
            TypeError: the last step is no FeatureReasoning, or a step before it is no FeatureReasoning either and
                does not move queries.
        """
        if not isinstance(self.rerankers[-1], FeatureReasoning):
            raise TypeError(
                f"only a chain that ends in FeatureReasoning can be fitted, this ends in {self.rerankers[-1]!r}"
            )
        for step in self.rerankers:
            if not (moves_queries(step) or isinstance(step, FeatureReasoning)):
                raise TypeError(
                    f"a chain can be fitted behind Feature Reasoning and query expansion over the whole gallery, "
                    f"got {step!r}"
                )
        fitted: list[Reranker] = []
        made: dict[int, FeatureReasoning] = {}
        for place, step in enumerate(self.rerankers):
            new = made.get(id(step))
            is_last = place == len(self.rerankers) - 1
            if new is None and isinstance(step, FeatureReasoning) and (step.is_identity or is_last):
                settings = step.config if step.is_identity else {"init": step}
                if settings.get("blend") == 1.0:
                    del settings["blend"]  # nobody asked for it, so the fit chooses
                if step.is_identity and step.sequences is None and any(map(moves_queries, fitted)):
                    settings["sequences"] = "auto"
                new = FeatureReasoning.fit(embeddings, labels, group_ids, before=tuple(fitted), **settings | options)
                made[id(step)] = new
            fitted.append(step if new is None else new)
        return Chain(*fitted)

    def answer(self, asked: Retrieval) -> Ranking:
        """The last step's ranking; near-duplicates of a query that are in front at first stay there (see ``shortlist.py``).

        With ``on_unfamiliar="fallback"`` a reasoner that does not know the density does nothing, and the other steps still
        count. Among candidates, queries move towards the best of the candidates only.

        Raises:
            TypeError: a step that others follow moves the gallery, which is not at hand among candidates.
        """
        if asked.own_galleries:
            check_candidates_suffice(self.rerankers)
        now, _ = after_steps(asked, self.rerankers)
        return keep_in_front(asked, asked.in_kind(*now.ranking.tensors()))

    def to_config(self) -> Config:
        steps = zip(self.rerankers, self._firsts, strict=True)
        return {"steps": [pack(step)[0] if first == place else first for place, (step, first) in enumerate(steps)]}

    def tensors(self) -> Tensors:
        places = sorted(set(self._firsts))
        packed = {place: pack(self.rerankers[place])[1] for place in places}
        return {f"{place}.{name}": tensor for place, found in packed.items() for name, tensor in found.items()}

    @classmethod
    def from_config(cls, config: Config, tensors: Tensors) -> Self:
        steps: list[BaseReranker] = []
        for place, step in enumerate(config["steps"]):
            prefix = f"{place}."
            part = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
            steps.append(steps[step] if isinstance(step, int) else unpack(step, part))
        return cls(*steps)

    @property
    def _firsts(self) -> list[int]:
        """For each step the first place where it stands: it may stand in several."""
        ids = [id(step) for step in self.rerankers]
        return [ids.index(key) for key in ids]
