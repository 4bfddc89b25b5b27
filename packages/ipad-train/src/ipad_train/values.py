"""Probabilities of values in the embedding that a run delivers: fitted on training embeddings, kept where they help."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ipad_core import AttributeEmbedder, ValuePosteriors
from ipad_train.embed import EntryEmbeddings
from ipad_train.evaluate import mean_precision

SHARES = (0.15, 0.3, 0.5, 0.7)  # of the network's own embedding; validation chooses


def fit_values(
    model: AttributeEmbedder, train: EntryEmbeddings, validation: EntryEmbeddings, most: int, seed: int, before: float
) -> tuple[ValuePosteriors | None, dict[str, Any]]:
    """Probabilities of values for a model where they raise validation MAP, and what it came to.

    Args:
        model: Without such; its device is where they will lie.
        train, validation: Entries by this model.
        most: Training entries to use, drawn at random by ``seed``.
        before: Validation MAP without, percent.

    Returns:
        None where MAP does not rise; ``{"used", "before", "after", "share"}``, of the best share.
    """
    if len(train.value_ids) > most:
        train = train.select(np.sort(np.random.default_rng(seed).permutation(len(train.value_ids))[:most]))
    values = ValuePosteriors(model.options["num_attributes"], model.embedding_parts(train.fused.shape[1]))
    values.fit(train.fused, train.attribute_ids, train.value_ids)
    scores = {}
    for share in SHARES:
        values.share = share
        scores[share] = 100 * mean_precision(with_values(values, validation))
    values.share = max(scores, key=scores.get)
    after = scores[values.share]
    outcome = {"used": after > before, "before": before, "after": after, "share": values.share}
    return values.to(model.trunk.mean.device) if outcome["used"] else None, outcome


@torch.no_grad()
def with_values(values: ValuePosteriors, embedded: EntryEmbeddings, batch: int = 4096) -> EntryEmbeddings:
    """The same entries with probabilities of values in ``fused``, and the network's own embeddings as ``plain``."""
    device = values.discriminants[0].mean.device
    parts = []
    for start in range(0, len(embedded.fused), batch):
        plain = torch.from_numpy(embedded.fused[start : start + batch]).to(device)
        attributes = torch.from_numpy(embedded.attribute_ids[start : start + batch]).to(device)
        parts.append(values(plain, attributes)[0].cpu().numpy())
    return replace(embedded, fused=np.concatenate(parts), plain=embedded.fused)
