"""The settings of a fit, and its gradient steps with early stopping on held-out queries."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ipad_rerank.rerankers.feature_reasoning.density import close_share, separating_similarity
from ipad_rerank.rerankers.feature_reasoning.held_out import HeldOut
from ipad_rerank.rerankers.feature_reasoning.loss import FeatureReasoningLoss
from ipad_rerank.rerankers.feature_reasoning.refiner import SequenceRefiner
from ipad_rerank.rerankers.feature_reasoning.sequences import SequenceSampler
from ipad_rerank.search.progress import progress_over
from ipad_rerank.search.vectors import Device, number_in, positive_int


@dataclass(frozen=True)
class FitOptions:
    """How a fit goes about it.

    Args:
        objective: What to raise: "map", or precision, recall, hit_rate or ndcg with a k, as in "precision@10". It chooses
            the checkpoint and the blend, and says whether there is a gain.
        steps: Gradient steps; 0 checks ``init`` on the held-out queries.
        batch_size: Sequences a step.
        learning_rate: Peak of AdamW's warm-up and cosine schedule.
        temperature: Of the loss (paper symbol tau).
        loss_rows: "query" or "all" (the paper's), see FeatureReasoningLoss.
        gallery_sizes: Smallest and largest gallery to draw; by default from just above ``n_r`` to all there are.
        validation_share: Share of the vectors held out as queries (at most 1,000 vectors).
        evaluations: How often the held-out queries are asked.
        max_vectors: Larger sets are sampled down to this.
        keep_without_gain: Return what was trained even if it did not help.
        seed: Of everything random here.
        device: Where to train; by default where the embeddings are.
        verbose: Print the before and after.
        progress: Show a bar; by default on a terminal.

    Raises:
        ValueError: a number outside its range.
    """

    objective: str = "map"
    steps: int = 1000
    batch_size: int = 12
    learning_rate: float = 1e-3
    temperature: float = 0.07
    loss_rows: str = "query"
    gallery_sizes: tuple[int, int] | None = None
    validation_share: float = 0.2
    evaluations: int = 6
    max_vectors: int = 20_000
    keep_without_gain: bool = False
    seed: int = 0
    device: Device = None
    verbose: bool = True
    progress: bool | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "evaluations", "max_vectors"):
            positive_int(getattr(self, name), name)
        number_in("(0, 1)", self.validation_share, "validation_share")
        positive_int(self.steps, "steps", least=0)


def train(
    reasoner: SequenceRefiner, sampler: SequenceSampler, choosing: HeldOut, how: FitOptions
) -> tuple[float, list[float]]:
    """Train in place and keep the checkpoint that the held-out queries like best; returns what densities were seen."""
    steps, warm_up = how.steps, max(1, min(20, how.steps // 10))
    criterion = FeatureReasoningLoss(how.temperature, how.loss_rows)
    optimizer = torch.optim.AdamW(reasoner.parameters(), lr=how.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, warm_up, steps))
    first = sampler.draw(64, sampler.gallery_range[1])
    similarity = _query_row(first.unit)
    threshold = separating_similarity(similarity, first.is_positive[:, 1:])
    shares = [close_share(similarity, threshold)]
    shares.append(close_share(_query_row(sampler.draw(64, sampler.gallery_range[0]).unit), threshold))
    best_gain = 0.0 if reasoner.is_identity else choosing.gain(reasoner)
    best_state = copy.deepcopy(reasoner.state_dict())
    every = max(1, steps // how.evaluations)
    reasoner.train()
    for step in progress_over(range(1, steps + 1), "Fitting", how.progress):
        batch = sampler.draw(how.batch_size, cut=True)
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
