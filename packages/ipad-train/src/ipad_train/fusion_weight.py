"""The weight of Eq. 21, by which two branches are fused."""

from __future__ import annotations

from dataclasses import replace

import torch
from accelerate import Accelerator

from ipad_core import IPAD
from ipad_train.embed import EntryEmbeddings
from ipad_train.evaluate import query_precisions, some_queries

BETA_STEPS = 20


def choose_beta(
    model: IPAD, embedded: EntryEmbeddings, max_queries: int | None = None, accelerator: Accelerator | None = None
) -> float:
    """The fusion weight of Eq. 21 with the best MAP on these (validation) entries, over 0, 0.05, ..., 1.

    Both ends are tried, so what is fused is never below the better branch here. With an accelerator its processes share the
    queries; all of them have to call then.
    """
    query, gallery = some_queries(embedded, max_queries), embedded.with_role("gallery")
    scores = {}
    for beta in (step / BETA_STEPS for step in range(BETA_STEPS + 1)):
        fused = [with_beta(model, entries, beta) for entries in (query, gallery)]
        scores[beta] = float(query_precisions(*fused, "fused", accelerator).mean())
    return max(scores, key=scores.get)


def with_beta(model: IPAD, embedded: EntryEmbeddings, beta: float) -> EntryEmbeddings:
    """The same entries fused with another weight."""
    spatial, semantic = torch.from_numpy(embedded.spatial), torch.from_numpy(embedded.semantic)
    return replace(embedded, fused=model.fuse(spatial, semantic, beta).numpy())
