"""Feature Reasoning on the embeddings of a run: fitted, judged on validation, and saved beside the model if it helps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from accelerate import Accelerator

from ipad_rerank import FeatureReasoning, Ranking, rank
from ipad_train.config import RunConfig
from ipad_train.embed import EntryEmbeddings
from ipad_train.run_folder import RunFolder


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


def rank_and_reason(
    reasoner: FeatureReasoning | None, query: np.ndarray, gallery: np.ndarray
) -> tuple[Ranking, Ranking]:
    """The full rankings of one attribute's queries before and after re-ranking; equal where there is no reasoner.

    A gallery unlike any that the reasoner was fitted on keeps its ranking, with a warning. Evaluation and report both come
    here, so that the page shows what the table counts.

    Shape:
        query ``(Q, D)``, gallery ``(G, D)``.
    """
    before = rank(query, gallery)
    if reasoner is None:
        return before, before
    return before, reasoner.rerank(query, gallery, before, progress=False, on_unfamiliar="fallback")


def load_reasoner(run_dir: Path) -> FeatureReasoning | None:
    """The run's reasoner, or None where none was fitted, or none was kept."""
    folder = RunFolder(run_dir).reasoner
    return FeatureReasoning.from_pretrained(folder) if folder.is_dir() else None


def was_refused(run_dir: Path) -> bool:
    """Whether the run fitted a reasoner and did not keep it, as validation MAP did not rise."""
    outcome = (RunFolder(run_dir).results() or {}).get("rerank")
    return outcome is not None and not outcome["used"]
