"""Fit a reasoner: random galleries of many sizes, held-out early stopping, and an honest before and after."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, TypeVar

import click
import torch
from torch import Tensor

from ipad_rerank.metrics.objectives import BLENDS, WORST, label_of
from ipad_rerank.rerankers.feature_reasoning.density import Density
from ipad_rerank.rerankers.feature_reasoning.held_out import HeldOut
from ipad_rerank.rerankers.feature_reasoning.refiner import SequenceRefiner
from ipad_rerank.rerankers.feature_reasoning.report import FitReport
from ipad_rerank.rerankers.feature_reasoning.sequences import SequenceSampler, TrainingSet
from ipad_rerank.rerankers.feature_reasoning.training import FitOptions, train
from ipad_rerank.rerankers.protocols import Reranker
from ipad_rerank.rerankers.saving import Config
from ipad_rerank.search.labels import UNLABELLED, as_labels
from ipad_rerank.search.vectors import ArrayLike, Vectors, positive_int

R = TypeVar("R", bound=SequenceRefiner)

SMALLEST_FIT = 200
"""Training vectors below which a fit is refused."""


SEARCHES = 2000
"""By which the blend is chosen. One query of P@1 must not decide, and a query has another first result in every gallery."""

MOST_GALLERIES = 8
"""That one query is asked in for it."""


class NoGainWarning(UserWarning):
    """A fit found no gain on held-out queries."""


def fit_reasoner(
    make: Callable[..., R],
    embeddings: ArrayLike,
    labels: ArrayLike,
    group_ids: ArrayLike | None = None,
    *,
    init: R | None = None,
    before: Sequence[Reranker] = (),
    **options: Any,
) -> R:
    """Train a reasoner on labelled embeddings.

    Each step draws a gallery of random size and queries outside it, takes their ``n_r - 1`` best and
    follows the gradient of Eq. 17. A share of the vectors is held out as queries: half of them choose the best of
    ``evaluations`` checkpoints, and how much the refined similarities count beside the first ones (``blend``: the least
    that brings nine tenths of the gain and leaves P@1 and P@10 where they were, in several random galleries for each query;
    for lists that end early a weight of their own); the other half say what it brought. If the objective does not rise
    (the 95 % bootstrap interval of the gain must lie above 0), or the head of the list falls at any blend by more than two
    points, a warning says so and the identity is returned. A quarter of the sequences are cut to random lengths: searches
    do not always return as many candidates as were asked for.

    Fit on vectors the embedding was *not* trained on where you can: on its own training set an embedding separates the
    classes better than it ever will again, and the reasoner learns to expect that.

    Args:
        make: Makes an untrained reasoner from its settings: the class.
        embeddings: ``(N, D)``, at least 200; about a thousand are needed for a gain.
        labels: ``(N,)`` whole numbers or words; equal means relevant. Rows whose label is None are left out.
        group_ids: ``(N,)``; labels count within a group, and sequences are drawn within one.
        init: A fitted reasoner to start from; its ``n_r`` and the like are taken over.
        before: Re-rankers that will stand before the reasoner; it learns on the queries they move.
        **options: Those of :class:`FitOptions`, and arguments of the constructor: ``n_r``, ``n_t``, ``hidden_width``,
            ``step_size``, ``variant``, ``sequences`` (at use; the fit itself takes single ones), ``blend`` (chosen where it
            is not given).

    Returns:
        A fitted reasoner in evaluation mode, with ``density`` and ``report`` filled in.

    Raises:
        ValueError: fewer than 200 vectors, a single class, lengths that differ, NaN; ``init`` together with another
            ``n_r``.
    """
    how = FitOptions(**{field.name: options.pop(field.name) for field in fields(FitOptions) if field.name in options})
    generator = torch.Generator().manual_seed(how.seed)
    unit, label_ids, groups = _labelled(embeddings, labels, group_ids, how, generator)
    order = torch.randperm(len(unit), generator=generator)
    held, pool = order.tensor_split([max(2, min(1000, int(how.validation_share * len(unit))))])
    pool = pool.sort().values.to(unit.device)
    largest = int(torch.bincount(groups[pool].unique(return_inverse=True)[1]).max())
    choose_blend = "blend" not in options and init is None
    reasoner = _new_reasoner(make, init, largest, options, how.seed).to(unit.device)
    data = TrainingSet(unit, label_ids, groups, pool, reasoner.n_r, before, generator)
    sampler = SequenceSampler(data, how.gallery_sizes)
    low, high = sampler.gallery_range
    sizes = sorted({min(max(low, 2 * reasoner.n_r), high), int(math.sqrt(max(low, 2 * reasoner.n_r) * high)), high})
    half = len(held) // 2
    choosing, calibrating, judging = (
        HeldOut(data, rows.to(unit.device), sizes, how.objective)
        for rows in (held[:half][:150], held[:half], held[half:])
    )
    threshold, shares = train(reasoner, sampler, choosing, how)
    reasoner.eval()
    if choose_blend:
        asked = held[:half].to(unit.device)
        reasoner.blend = HeldOut(data, asked, galleries_between(sizes, half), how.objective).best_blend(reasoner)
        if reasoner.blend == 0 and how.keep_without_gain:
            reasoner.blend = min(BLENDS)
    report = judging.report(reasoner, how.seed)
    blends = calibrating.blends(reasoner)
    reasoner.density = Density((low, high), threshold, (min(shares), max(shares)), report.best_size, blends)
    reasoner.report = report.to_dict() | {"returned": "fitted"}
    _announce(reasoner, report, how, choose_blend and reasoner.blend == 0)
    return reasoner


def galleries_between(sizes: list[int], queries: int) -> list[int]:
    """More sizes from the first to the last of ``sizes``: as many as make about SEARCHES of so many queries."""
    count = max(len(sizes), min(MOST_GALLERIES, SEARCHES // queries))
    low, high = math.log(sizes[0]), math.log(sizes[-1])
    return [round(math.exp(low + (high - low) * (step + 0.5) / count)) for step in range(count)]


def _labelled(
    embeddings: ArrayLike, labels: ArrayLike, group_ids: ArrayLike | None, how: FitOptions, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Unit vectors ``(N, D)``, labels and groups ``(N,)`` of the labelled rows, at most ``max_vectors`` of them."""
    vectors = Vectors(embeddings, "embeddings")
    label_ids = as_labels(labels, "labels", len(vectors), "embeddings")
    groups = torch.zeros_like(label_ids)
    if group_ids is not None:
        groups = as_labels(group_ids, "group_ids", len(vectors), "embeddings")
    labelled = (label_ids != UNLABELLED).nonzero()[:, 0]
    if len(labelled) < SMALLEST_FIT:
        raise ValueError(
            f"embeddings has {len(labelled)} rows with a label; a fit needs at least {SMALLEST_FIT}, better 1,000"
        )
    device = torch.device(how.device) if how.device is not None else vectors.device
    kept = labelled[torch.randperm(len(labelled), generator=generator)[: how.max_vectors]].sort().values
    label_ids, groups = label_ids[kept].to(device), groups[kept].to(device)
    if len(torch.stack([groups, label_ids], 1).unique(dim=0)) == len(groups.unique()):
        raise ValueError("labels hold a single class (in every group); there is nothing to tell apart")
    return vectors.unit(kept, torch.float32, device), label_ids, groups


def _new_reasoner(make: Callable[..., R], init: R | None, largest: int, config: Config, seed: int) -> R:
    if init is not None:
        changed = [key for key, value in sorted(config.items()) if init.config.get(key, value) != value]
        if changed:
            raise ValueError(f"init keeps its own settings; leave out {', '.join(changed)} or fit without init")
        reasoner = make(**init.config | config)
        reasoner.load_state_dict(copy.deepcopy(init.state_dict()))
        return reasoner
    asked = config.pop("n_r", 500)
    n_r = min(positive_int(asked, "n_r"), max(2, largest // 2))
    return make(n_r=n_r, seed=seed, **config)


def _announce(reasoner: SequenceRefiner, report: FitReport, how: FitOptions, no_blend: bool) -> None:
    if how.verbose:
        click.echo(str(report), err=True)
    if report.is_gain:
        return
    outcome = "it is kept all the same, as asked"
    if not how.keep_without_gain:
        reasoner.network.reset()
        reasoner.report["returned"] = "identity"
        outcome = (
            "the identity is returned, which changes no ranking; pass keep_without_gain=True for what was trained"
        )
    reason = (
        f"; P@1 or P@10 would fall by more than {100 * WORST:g} points, however little it counts" if no_blend else ""
    )
    message = f"held-out {label_of(report.objective)} did not rise: {report.summary}{reason}; {outcome}."
    warnings.warn(message, NoGainWarning, stacklevel=4)
