"""Linear discriminant analysis with shrinkage: what tells the values of one attribute apart, in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

FORMS = ("posterior", "directions")
SHRINKAGES = (0.01, 0.05, 0.2, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
TEMPERATURE = 0.5  # gain on log-likelihoods; measured on photographs: flat from 0.3 to 1
_QUERIES, _GALLERY = 250, 2000  # entries that judge a shrinkage; more change the choice little


@dataclass(frozen=True)
class Discriminant:
    """A linear map ``x @ projection + bias`` of features, and how it was chosen.

    Args:
        projection: ``(C, D)`` float64. Posterior: D values, and a softmax over them is still to be taken. Directions: at
            most V - 1 of them.
        bias: ``(D,)``.
        shrinkage: Share of the identity in the covariance, within (0, 1].
        score: Mean AP of leave-one-out posteriors on the data given, within [0, 1].
    """

    projection: Tensor
    bias: Tensor
    shrinkage: float
    score: float


@dataclass(frozen=True)
class _Classes:
    """Statistics of V values, in k coordinates in which the within-class scatter is diagonal, and a sample of entries."""

    counts: Tensor  # (V,) entries of each value
    weights: Tensor  # (V,) of each entry of the value in the scatter; over all entries they add up to 1
    log_prior: Tensor  # (V,)
    axes: Tensor  # (C, k), orthonormal
    spread: Tensor  # (k,) within-class variance along each axis
    mean_spread: float  # over all C axes
    means: Tensor  # (V, k)
    points: Tensor  # (n, k) the sample
    y: Tensor  # (n,) its values, 0 .. V-1


def fit_discriminant(
    features: Tensor, value_ids: Tensor, *, balanced: bool = False, form: str = "posterior"
) -> Discriminant:
    """Fit a Gaussian per value with one shared covariance ``(1 - g) S_w + g tr(S_w) / C``.

    - ``posterior``: log-probabilities of the values before their softmax, at half the gain of a calibrated model (ranking
      wants softer ones). The cosine of two vectors of probabilities is
      high where the model would name the same value, and it knows when it is unsure.
    - ``directions``: the discriminants, of unit variance within values, scaled by the root of the share
      ``b / (1 + b)`` of the variance b between values.

    The shrinkage g is the one with the best mean AP of leave-one-out posteriors, over a sample of the entries. Leaving
    one out takes no new decomposition, see :func:`leave_one_out_logits`. A value with one entry is unknown to it.

    Args:
        features: ``(n, C)``, standardized; n may be smaller than C.
        value_ids: ``(n,)``, of one attribute; any two or more different numbers.
        balanced: Every value weighs the same, however many entries it has.
        form: One of ``FORMS``.

    Raises:
        ValueError: unknown form, shapes that do not fit, or fewer than two values.
    """
    if form not in FORMS:
        raise ValueError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
    if features.ndim != 2 or value_ids.shape != features.shape[:1]:
        raise ValueError(
            f"features must be (n, C) and value_ids (n,), got {tuple(features.shape)} and {tuple(value_ids.shape)}"
        )
    classes = _statistics(features.double(), value_ids, balanced)
    if len(classes.counts) < 2:
        raise ValueError("value_ids must hold two different values or more, got one")
    scores = {shrinkage: _leave_one_out_ap(classes, shrinkage) for shrinkage in SHRINKAGES}
    best = max(scores, key=scores.__getitem__)
    build = _posterior if form == "posterior" else _directions
    return Discriminant(*build(classes, _shrunk(classes, best)), shrinkage=best, score=scores[best])


def _statistics(x: Tensor, value_ids: Tensor, balanced: bool) -> _Classes:
    y, counts = torch.unique(value_ids, return_inverse=True, return_counts=True)[1:]
    weights = 1 / counts.to(x) if balanced else torch.ones_like(counts).to(x)
    weights = weights / (weights * counts).sum()
    dim = x.shape[1]
    axes = None
    if len(x) < dim:  # everything happens in the span of the rows
        axes = torch.linalg.qr(x.T)[0]
        x = x @ axes
    means = torch.zeros(len(counts), x.shape[1], dtype=x.dtype, device=x.device).index_add_(0, y, x) / counts[:, None]
    residuals = (x - means[y]) * weights[y].sqrt()[:, None]
    spread, vectors = torch.linalg.eigh(residuals.T @ residuals)
    spread = spread.clamp_min(0)
    mean_spread = spread.sum().item() / dim
    sample = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))[:_GALLERY].to(y.device)
    return _Classes(
        counts=counts,
        weights=weights,
        log_prior=torch.zeros(len(counts)).to(x) if balanced else (counts.to(x) / counts.sum()).log(),
        axes=vectors if axes is None else axes @ vectors,
        spread=spread,
        mean_spread=mean_spread if mean_spread > 1e-12 else 1.0,  # no value varies: plain distances to the means
        means=means @ vectors,
        points=x[sample] @ vectors,
        y=y[sample],
    )


def _shrunk(classes: _Classes, shrinkage: float) -> Tensor:
    return (1 - shrinkage) * classes.spread + shrinkage * classes.mean_spread


def _posterior(classes: _Classes, variance: Tensor) -> tuple[Tensor, Tensor]:
    scaled = classes.means / variance
    bias = classes.log_prior - 0.5 * TEMPERATURE * (scaled * classes.means).sum(dim=1)
    projection = TEMPERATURE * (classes.axes @ scaled.T)
    return projection - projection.mean(dim=1, keepdim=True), bias - bias.mean()  # the softmax is the same


def _directions(classes: _Classes, variance: Tensor) -> tuple[Tensor, Tensor]:
    share = classes.weights * classes.counts
    white = classes.means / variance.sqrt()
    center = share @ white
    _, values, rows = torch.linalg.svd(share.sqrt()[:, None] * (white - center), full_matrices=False)
    count = max(1, min(len(share) - 1, int((values > 1e-9 * values[0]).sum())))
    between = values[:count].square()
    scale = (between / (1 + between)).sqrt()
    projection = classes.axes @ (rows[:count] / variance.sqrt()).T * scale
    return projection, -(rows[:count] @ center) * scale


def _leave_one_out_ap(classes: _Classes, shrinkage: float) -> float:
    """Mean AP over the sample, with the cosine of leave-one-out posteriors as similarity."""
    vectors = F.normalize(leave_one_out_logits(classes, shrinkage).softmax(dim=1), dim=1)
    query = torch.arange(min(_QUERIES, len(vectors)), device=vectors.device)
    similarity = vectors[query] @ vectors.T
    similarity[query, query] = -1.0  # the entry itself comes last, and is then cut off
    order = similarity.argsort(dim=1, descending=True, stable=True)[:, :-1]
    relevant = classes.y[order] == classes.y[query][:, None]
    hits = relevant.cumsum(dim=1)
    places = torch.arange(1, relevant.shape[1] + 1, device=hits.device)
    precision = (hits / places * relevant).sum(dim=1) / hits[:, -1].clamp_min(1)
    return precision.mean().item()


def leave_one_out_logits(classes: _Classes, shrinkage: float) -> Tensor:
    """``(n, V)`` log-probabilities, up to a constant, of each entry from the fit without that entry.

    With r the entry's distance from its mean, n_y the size of its value and w its weight: the mean of the value moves by
    ``-r / (n_y - 1)``, and the shrunk covariance loses ``(1 - g) w n_y / (n_y - 1) r r^T`` (Sherman and Morrison). The trace
    and the sum of the weights are left as they are.
    """
    y, rows = classes.y, torch.arange(len(classes.y), device=classes.y.device)
    inverse = 1 / _shrunk(classes, shrinkage)
    cross = (classes.points * inverse) @ classes.means.T  # (n, V)
    among = (classes.means * inverse) @ classes.means.T  # (V, V)
    own = (classes.points.square() * inverse).sum(dim=1)  # (n,)
    distance = own[:, None] - 2 * cross + among.diagonal()
    towards = own[:, None] - cross - cross[rows, y][:, None] + among[y]  # r^T S^-1 (x - m_v)
    size = classes.counts[y].to(own)
    grown = size / (size - 1).clamp_min(1)  # the residual from the mean without the entry
    residual = distance[rows, y].clone()
    distance[rows, y] *= grown.square()
    towards[rows, y] *= grown
    taken = (1 - shrinkage) * classes.weights[y] * grown
    correction = taken / (1 - taken * residual).clamp_min(1e-6)
    distance = distance + correction[:, None] * towards.square()
    log_prior = classes.log_prior.expand_as(distance).clone()
    left = (size - 1) / size if classes.log_prior.any() else (size > 1).to(own)
    log_prior[rows, y] += left.log()  # minus infinity where nothing is left of the value
    return log_prior - 0.5 * TEMPERATURE * distance
