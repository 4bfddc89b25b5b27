"""How a run redoes its rankings: fitted on its embeddings, chosen on validation, saved beside the model if that helps."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator

from ipad_rerank import AlphaQueryExpansion, Chain, FeatureReasoning, load
from ipad_rerank.rerankers.base import BaseReranker
from ipad_train.checkpoint import replace_folder
from ipad_train.config import RunConfig
from ipad_train.embed import EntryEmbeddings
from ipad_train.evaluate import reranked_precisions
from ipad_train.run_folder import RunFolder

# Behind a row's name: one kind of re-ranker was tried, or several.
FEATURE_REASONING, RERANKING = "FR", "re-ranking"


@dataclass(frozen=True)
class RunReranking:
    """How a run redoes its rankings.

    Attributes:
        reranker: None where nothing was tried, or nothing helped.
        name: What stands behind the name of the row.
        refused: Whether something was tried and validation did not keep it.
        chosen: What the re-ranker is, as in "FR, QE (k=20)"; None where that is not known.
    """

    reranker: BaseReranker | None = None
    name: str = FEATURE_REASONING
    refused: bool = False
    chosen: str | None = None


def load_reranking(run_dir: Path) -> RunReranking:
    """What :func:`choose_reranking` kept in a run's folder.

    Raises:
        ValueError, FileNotFoundError: the re-ranker there is damaged.
    """
    folder = RunFolder(run_dir).reasoner
    outcome = (RunFolder(run_dir).results() or {}).get("rerank") or {}
    reranker = load(folder) if folder.is_dir() else None
    refused = not outcome.get("used", True)
    chosen = None if refused else outcome.get("chosen")
    return RunReranking(reranker, outcome.get("name", FEATURE_REASONING), refused, chosen)


def choose_reranking(
    run_dir: Path, embedded: EntryEmbeddings, validation: EntryEmbeddings, config: RunConfig, accelerator: Accelerator
) -> tuple[RunReranking, dict[str, Any]]:
    """The re-ranker of the highest validation MAP, kept in the run's ``reasoner`` where that is above MAP without one.

    One that lowers P@1 by more than the standard error of that change is passed over.

    Args:
        run_dir: The run's folder.
        embedded: What Feature Reasoning is fitted on.
        validation: What chooses.
        config: The run.
        accelerator: Its processes; all of them choose alike, and the main one writes.

    Returns:
        What was chosen; and ``used``, ``chosen`` (which one; the best of those that were refused), validation MAP ``before``
        and ``after``, the ``name`` of the row, and of everything that was ``tried`` MAP and P@1, percent.
    """
    tried = rerankers_to_try(fit_reasoner(embedded, config, accelerator), config.rerank.expand)
    base, base_first = reranked_precisions(None, validation)
    measured: dict[str, dict[str, float]] = {}
    allowed: list[str] = []
    for name, reranker in tried.items():
        precisions, first = reranked_precisions(reranker, validation)
        measured[name] = {"map": 100 * float(precisions.mean()), "precision@1": 100 * float(first.mean())}
        if precisions.mean() > base.mean() and not _falls(first - base_first):
            allowed.append(name)
    best = max(allowed or measured, key=lambda name: measured[name]["map"], default=None)
    before = 100 * float(base.mean())
    outcome = {
        "used": bool(allowed),
        "chosen": best,
        "before": before,
        "after": before if best is None else measured[best]["map"],
        "name": RERANKING if config.rerank.expand else FEATURE_REASONING,
        "tried": measured,
    }
    chosen = tried[best] if allowed else None
    folder = RunFolder(run_dir).reasoner
    if accelerator.is_main_process:
        shutil.rmtree(folder, ignore_errors=True)
        if chosen is not None:
            replace_folder(folder, chosen.save_pretrained)
    accelerator.wait_for_everyone()
    return RunReranking(chosen, outcome["name"], chosen is None, best if allowed else None), outcome


def _falls(change: np.ndarray) -> bool:
    """Whether the mean lies more than a standard error below zero; one query that changes is one standard error."""
    error = change.std(ddof=1) / np.sqrt(len(change)) if len(change) > 1 else 0.0
    return bool(change.mean() < -error * (1 + 1e-9))


def rerankers_to_try(reasoner: FeatureReasoning, expand: Sequence[int]) -> Mapping[str, BaseReranker]:
    """By name: Feature Reasoning unless it is the identity, query expansions, and both in turn.

    An expansion is a chain also where it stands alone, so that near-duplicates of a query stay in front.
    """
    found: dict[str, BaseReranker] = {} if reasoner.is_identity else {"FR": reasoner}
    for k in expand:
        expansion = AlphaQueryExpansion(k=k)
        found[f"QE (k={k})"] = Chain(expansion)
        if not reasoner.is_identity:
            found[f"FR, QE (k={k})"] = Chain(reasoner, expansion)
            found[f"FR, QE (k={k}), FR"] = Chain(reasoner, expansion, reasoner)
    return found


def spelled_out(chosen: str) -> str:
    """A name of :func:`rerankers_to_try` for who does not know the letters.

    >>> spelled_out("FR, QE (k=5)")
    'Feature Reasoning, query expansion (k=5)'
    """
    return chosen.replace("FR", "Feature Reasoning").replace("QE", "query expansion")


def fit_reasoner(embedded: EntryEmbeddings, config: RunConfig, accelerator: Accelerator) -> FeatureReasoning:
    """Reasoner fitted on the fused embeddings of at most ``rerank.max_embeddings`` entries.

    Labels are values within attributes. Where held-out MAP does not rise, the answer is the identity, with a warning.
    """
    count = len(embedded.value_ids)
    if count > config.rerank.max_embeddings:
        kept = np.random.default_rng(config.seed).permutation(count)[: config.rerank.max_embeddings]
        embedded = embedded.select(np.sort(kept))
    return FeatureReasoning.fit(
        embedded.fused,
        embedded.value_ids,
        group_ids=embedded.attribute_ids,
        n_r=config.rerank.n_r,
        n_t=config.rerank.n_t,
        steps=config.rerank.steps,
        seed=config.seed,
        verbose=accelerator.is_main_process,
        progress=False,
        device=accelerator.device,
        max_vectors=config.rerank.max_embeddings,
        **config.rerank.options,
    )
