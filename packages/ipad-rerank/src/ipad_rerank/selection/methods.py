"""What `compare` compares: peers tuned, and Feature Reasoning fitted, each with the name of its row."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np

from ipad_rerank.files.embeddings import EmbeddingSet
from ipad_rerank.rerankers.chain import Chain
from ipad_rerank.rerankers.feature_reasoning import FeatureReasoning, NoGainWarning
from ipad_rerank.rerankers.plain import PlainReranker
from ipad_rerank.rerankers.protocols import Reranker
from ipad_rerank.rerankers.query_expansion import AlphaQueryExpansion, AverageQueryExpansion
from ipad_rerank.selection.tune import tune

MOST_TO_AVERAGE = 50
"""Candidates that an expansion behind Feature Reasoning takes; fewer where query expansion was tuned to fewer."""


def tuned_peer(
    name: str, train: EmbeddingSet, gallery_size: int, seed: int, objective: str
) -> tuple[str, PlainReranker]:
    """A peer with its best parameters for up to 300 of the training vectors in a gallery of the others."""
    order = np.random.default_rng(seed).permutation(len(train))
    cut = max(1, min(300, len(train) // 5))
    asked, pool = train.select(order[:cut]), train.select(order[cut : cut + gallery_size])
    vectors = (asked.embeddings, pool.embeddings, asked.labels, pool.labels)
    groups = {"query_groups": asked.group_ids, "gallery_groups": pool.group_ids}
    found = tune(name, *vectors, **groups, max_queries=150, seed=seed, objective=objective).reranker
    return _describe(name, found), found


def fitted_reasoners(
    train: EmbeddingSet, expansion: AlphaQueryExpansion, **options: Any
) -> tuple[FeatureReasoning, list[tuple[str, Reranker]]]:
    """Feature Reasoning by itself, and the ways to use it, with names."""
    arguments = (train.embeddings, train.labels, train.group_ids)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoGainWarning)
        reasoner = FeatureReasoning.fit(*arguments, **options)
        name = f"feature reasoning (n_r={reasoner.n_r}"
        if reasoner.is_identity:
            methods = [(f"{name})" + _note(reasoner), reasoner)]
        else:
            dealt = copy.deepcopy(reasoner)
            dealt.sequences = "auto"
            again = AverageQueryExpansion(k=min(expansion.k, MOST_TO_AVERAGE))
            twice = f"feature reasoning, expansion, feature reasoning (k={again.k}"
            methods = [
                (f"{name})", reasoner),
                (f'{name}, sequences="auto")', dealt),
                (f"feature reasoning, then expansion (k={again.k})", Chain(reasoner, again)),
                (f"{twice})", Chain(reasoner, again, reasoner)),
                (f'{twice}, sequences="auto")', Chain(dealt, again, dealt)),
            ]
        chain = Chain(expansion, FeatureReasoning(n_r=options["n_r"])).fit(*arguments, **options)
    settings = _describe("expansion, then feature reasoning", expansion)
    return reasoner, [*methods, (settings + _note(chain.rerankers[-1]), chain)]


def _describe(name: str, method: PlainReranker) -> str:
    settings = ", ".join(f"{key}={getattr(method, key):g}" for key in method.grid)
    return f"{name} ({settings})" if settings else name


def _note(reasoner: FeatureReasoning) -> str:
    return " (no gain: identity)" if reasoner.is_identity else ""
