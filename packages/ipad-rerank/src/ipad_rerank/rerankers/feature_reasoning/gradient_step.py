"""One round's gradient step on the features in closed form (Wan et al. 2025, Eq. 13).

With ``D(f) = 1/2 sum_ij (target_ij - cos(f_i, f_j))^2``, G = target - cosine, H = G + G^T and unit vectors u:
``-dD/df_i = (sum_j H_ij u_j - <sum_j H_ij u_j, u_i> u_i) / |f_i|``. The step adds ``step_size / n`` times it.
In feature space this costs n^2 D; in Gram space, where only inner products are kept, n^3.
"""

from __future__ import annotations

from torch import Tensor

_SMALLEST_NORM = 1e-6


def feature_step(features: Tensor, unit: Tensor, update: Tensor, step_size: float) -> Tensor:
    """Features of the first m nodes, ``(B, m, D)``, after one step towards ``cosine + update (B, n, n)``.

    ``unit (B, n, D)`` are all nodes at unit length; those behind the first m keep still.
    """
    moving = features.shape[1]
    norm = features.norm(dim=-1, keepdim=True).clamp_min(_SMALLEST_NORM)
    own = unit[:, :moving]
    pull = (update[:, :moving] + update[:, :, :moving].mT) @ unit
    pull = pull - (pull * own).sum(-1, keepdim=True) * own
    return features + step_size / unit.shape[1] * pull / norm


def gram_step(
    cosine: Tensor, norm: Tensor, update: Tensor, step_size: float, rows: int | None = None
) -> tuple[Tensor, Tensor]:
    """The same step where only cosines ``(B, n, n)`` and norms ``(B, n)`` are known: these after it.

    With ``rows`` only the first rows of the cosines, which saves a product of matrices in a last round.
    """
    norm = norm.clamp_min(_SMALLEST_NORM)
    mixing = update + update.mT
    along = (mixing * cosine).sum(-1)
    rate = step_size / cosine.shape[-1] / norm
    mixing = mixing * rate[:, :, None]
    mixing.diagonal(dim1=1, dim2=2).add_(norm - rate * along)  # the new features are mixing @ unit
    mixed = mixing @ cosine
    norm = (mixed * mixing).sum(-1).clamp_min(_SMALLEST_NORM**2).sqrt()
    return mixed[:, :rows] @ mixing.mT / norm[:, :rows, None] / norm[:, None, :], norm
