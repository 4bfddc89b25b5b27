"""The gradient steps of a fit, with early stopping on held-out queries."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor

from ipad_rerank.rerankers.feature_reasoning.density import close_share, separating_similarity
from ipad_rerank.rerankers.feature_reasoning.held_out import HeldOut
from ipad_rerank.rerankers.feature_reasoning.loss import FeatureReasoningLoss
from ipad_rerank.rerankers.feature_reasoning.refiner import SequenceRefiner
from ipad_rerank.rerankers.feature_reasoning.sequences import SequenceSampler
from ipad_rerank.search.progress import progress_over


def train(
    reasoner: SequenceRefiner,
    sampler: SequenceSampler,
    choosing: HeldOut,
    criterion: FeatureReasoningLoss,
    steps: int,
    batch_size: int,
    learning_rate: float,
    evaluations: int,
    progress: bool | None,
) -> tuple[float, list[float]]:
    """Train in place and keep the checkpoint that the held-out queries like best; returns what densities were seen."""
    warm_up = max(1, min(20, steps // 10))
    optimizer = torch.optim.AdamW(reasoner.parameters(), lr=learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, warm_up, steps))
    first = sampler.draw(64, sampler.gallery_range[1])
    similarity = _query_row(first.unit)
    threshold = separating_similarity(similarity, first.is_positive[:, 1:])
    shares = [close_share(similarity, threshold)]
    shares.append(close_share(_query_row(sampler.draw(64, sampler.gallery_range[0]).unit), threshold))
    best_gain = 0.0 if reasoner.is_identity else choosing.gain(reasoner)
    best_state = copy.deepcopy(reasoner.state_dict())
    every = max(1, steps // evaluations)
    reasoner.train()
    for step in progress_over(range(1, steps + 1), steps, "Fitting", progress):
        batch = sampler.draw(batch_size, cut=True)
        row = reasoner(batch.unit, all_rows=criterion.rows == "all")
        loss = criterion(row, batch.is_positive)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(reasoner.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % every == 0 or step == steps:
            gain = choosing.gain(reasoner)
            if gain > best_gain or (step == steps and best_gain == 0.0):
                best_gain, best_state = gain, copy.deepcopy(reasoner.state_dict())
    reasoner.load_state_dict(best_state)
    return threshold, shares


def _rate(step: int, warm_up: int, steps: int) -> float:
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm_up) / max(1, steps - warm_up))))


def _query_row(unit: Tensor) -> Tensor:
    return (unit[:, 1:] @ unit[:, 0, :, None])[:, :, 0]
