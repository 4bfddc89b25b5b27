"""Several re-rankers one after the other."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ipad_rerank.ranking import Ranking
from ipad_rerank.rerankers._chain_steps import QueryMover, moves_queries, run, run_candidates
from ipad_rerank.rerankers._protocol import Reranker
from ipad_rerank.rerankers._registry import RERANKERS
from ipad_rerank.rerankers.feature_reasoning import FeatureReasoning

FORMAT = "ipad-rerank chain"


class Chain:
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

    def __init__(self, *rerankers: Any) -> None:
        if not rerankers:
            raise ValueError("a Chain needs at least one re-ranker")
        for reranker in rerankers:
            if not isinstance(reranker, Reranker) or isinstance(reranker, type):
                raise TypeError(f"a Chain takes re-rankers (objects with a rerank method), got {reranker!r}")
        self.rerankers = rerankers

    def __repr__(self) -> str:
        return f"Chain({', '.join(type(r).__name__ for r in self.rerankers)})"

    def fit(self, embeddings: Any, labels: Any, group_ids: Any = None, **options: Any) -> Chain:
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
        fitted: list[Any] = []
        made: dict[int, FeatureReasoning] = {}
        for place, step in enumerate(self.rerankers):
            given = step
            if id(given) in made:
                step = made[id(given)]
            elif isinstance(step, FeatureReasoning) and (step.is_identity or place == len(self.rerankers) - 1):
                settings = step.config if step.is_identity else {"init": step}
                if step.is_identity and step.sequences is None and any(map(moves_queries, fitted)):
                    settings["sequences"] = "auto"
                reasoners = any(isinstance(other, FeatureReasoning) for other in fitted)
                before = [QueryMover(fitted)] if reasoners else fitted
                step = FeatureReasoning.fit(embeddings, labels, group_ids, expanders=before, **settings | options)
                made[id(given)] = step
            fitted.append(step)
        return Chain(*fitted)

    def rerank(
        self,
        query: Any,
        gallery: Any,
        ranking: Ranking,
        batch_size: int | None = None,
        on_unfamiliar: str = "warn",
    ) -> Ranking:
        """The last step's ranking; indices are rows of ``gallery`` as it came, in ``ranking``'s kind.

        Args:
            query: ``(Q, D)``.
            gallery: ``(G, D)``.
            ranking: Of these queries over this gallery.
            batch_size: Queries at a time; by default from free memory.
            on_unfamiliar: "warn", "fallback" or "ignore", see :meth:`FeatureReasoning.rerank`; with "fallback" the
                steps before it still count.
        """
        _, found = run(self.rerankers, query, gallery, ranking, batch_size, on_unfamiliar)
        return ranking.like(*found.tensors())

    def rerank_candidates(
        self,
        query: Any,
        candidates: Any,
        gallery_size: int | None = None,
        batch_size: int | None = None,
        on_unfamiliar: str = "warn",
    ) -> Ranking:
        """Order the columns of ``candidates (Q, k, D)``; queries move towards the best of the candidates only.

        Arguments as those of :meth:`FeatureReasoning.rerank_candidates`.

        Raises:
            TypeError: a step moves the gallery, which is not at hand here.
        """
        return run_candidates(self.rerankers, query, candidates, gallery_size, batch_size, on_unfamiliar)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``chain.json`` and one folder a reasoner."""
        folder = Path(folder)
        names = {cls: name for name, cls in RERANKERS.items()}
        unknown = [step for step in self.rerankers if type(step) not in (*names, FeatureReasoning)]
        if unknown:
            raise TypeError(f"cannot save {unknown[0]!r}; known are FeatureReasoning, {', '.join(RERANKERS)}")
        folder.mkdir(parents=True, exist_ok=True)
        steps: list[dict[str, Any]] = []
        for place, step in enumerate(self.rerankers):
            if isinstance(step, FeatureReasoning):
                first = next(n for n, other in enumerate(self.rerankers) if other is step)
                if first == place:
                    step.save_pretrained(folder / f"step-{place}")
                steps.append({"folder": f"step-{first}"})
            else:
                steps.append({"name": names[type(step)], "settings": asdict(step)})
        part = folder / "chain.json.part"
        part.write_text(
            json.dumps({"format": FORMAT, "version": 1, "steps": steps}, indent=2) + "\n", encoding="utf-8"
        )
        part.replace(folder / "chain.json")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Chain:
        """Read what :meth:`save_pretrained` wrote; ValueError if it is foreign or damaged."""
        path = Path(folder) / "chain.json"
        if not path.is_file():
            raise FileNotFoundError(f"{folder} holds no chain.json")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is not readable JSON: {error}") from error
        if not isinstance(content, dict) or content.get("format") != FORMAT or content.get("version") != 1:
            raise ValueError(f"{path} was not written by this version of ipad-rerank")
        try:
            steps = _restore(Path(folder), content["steps"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged: {error}") from error
        return cls(*steps)


def _restore(folder: Path, saved: list[dict[str, Any]]) -> list[Any]:
    reasoners: dict[str, FeatureReasoning] = {}
    steps: list[Any] = []
    for place, step in enumerate(saved):
        if "folder" not in step:
            steps.append(RERANKERS[step["name"]](**step["settings"]))
            continue
        name = step["folder"]
        if name not in [f"step-{earlier}" for earlier in range(place + 1)]:
            raise KeyError(f"folder {name!r}")
        if name not in reasoners:
            reasoners[name] = FeatureReasoning.from_pretrained(folder / name)
        steps.append(reasoners[name])
    return steps
