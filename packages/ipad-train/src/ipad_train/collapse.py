"""Whether an attribute's embeddings have all become the same: what a batch tells, and what to say."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ipad_train.stage_run import StageRun
from ipad_train.step_numbers import COSINE, RANK

COLLAPSED = 0.99  # mean cosine from which on embeddings of different images count as the same
_AFTER_STEPS, _AFTER_SHARE = 50, 0.2  # of a stage: young networks see all images alike
_SAME = 1e-9  # mean squared distance from the mean below which vectors are equal but for rounding
_MOST_ENTRIES = 1024  # of a batch that are compared with each other


@torch.no_grad()
def spread(embeddings: Tensor, attribute_ids: Tensor, num_attributes: int) -> dict[str, Tensor]:
    """How alike an attribute's embeddings are in a batch.

    With the unit vectors e_1 ... e_n of an attribute, ``mean_cosine`` is the mean of e_i e_j over i != j, in [-1, 1].
    ``effective_rank`` is tr(C)^2 / tr(C^2) of their covariance C: as many directions of equal spread would have it.

    Args:
        embeddings: ``(B, D)``, of any length; the first 1,024 are looked at.
        attribute_ids: ``(B,)``.
        num_attributes: A.

    Returns:
        ``mean_cosine/<id>`` and ``effective_rank/<id>`` of each attribute, float32 scalars; NaN where a batch has fewer than
        two entries of it, the rank also where all of them are equal.
    """
    unit = nn.functional.normalize(embeddings[:_MOST_ENTRIES].detach().float(), dim=1)
    ids = attribute_ids[:_MOST_ENTRIES]
    vectors = unit.new_zeros(num_attributes, unit.shape[1]).index_add(0, ids, unit)  # (A, D) their sums
    n = torch.bincount(ids, minlength=num_attributes)[:num_attributes].to(unit.dtype)
    mean = (vectors.square().sum(dim=1) - n) / (n * (n - 1))
    # Of the centered vectors: differences of cosines would lose the digits of a small spread.
    centered = unit - (vectors / n.clamp(min=1)[:, None])[ids]
    products = (centered @ centered.T) * (ids[:, None] == ids[None, :])  # (B, B), 0 between attributes
    per_entry = torch.stack([products.diagonal(), products.square().sum(dim=1)], dim=1)
    trace, squares = per_entry.new_zeros(num_attributes, 2).index_add(0, ids, per_entry).unbind(dim=1)
    rank = torch.where(trace > _SAME * n, trace.square() / squares, torch.nan)
    few = n < 2
    numbers = {COSINE: mean.masked_fill(few, torch.nan), RANK: rank.masked_fill(few, torch.nan)}
    return {f"{kind}{attribute}": value for kind, values in numbers.items() for attribute, value in enumerate(values)}


def collapse_warnings(run: StageRun, means: Mapping[str, float]) -> list[str]:
    """A line for each attribute that has collapsed since the last look; each is told once a stage.

    Args:
        run: The stage; its health remembers what was told.
        means: Numbers of the last steps, by the attributes' names.
    """
    if run.step < max(_AFTER_STEPS, _AFTER_SHARE * run.stage.steps):
        return []
    lines = []
    for name in run.attributes:
        cosine = means.get(f"{COSINE}{name}", 0.0)
        if cosine <= COLLAPSED or name in run.health.collapsed:
            continue
        run.health.collapsed.append(name)
        lines.append(
            f"WARNING: the embeddings of {name} have collapsed at step {run.step} of {run.name}: the mean cosine of two "
            f"images is {cosine:.3f}. What to try: a lower {run.name}.learning_rate; losses.naming_weight=0.5; "
            f"losses.average=attributes; a larger {run.name}.batch_size, so that a batch holds more values of it"
        )
    return lines
