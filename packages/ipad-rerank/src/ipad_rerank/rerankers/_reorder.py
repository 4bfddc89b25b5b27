"""Re-order the head of a ranking by the refined cosines of a reasoner, in batches of queries."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from ipad_rerank._arrays import ZERO_VECTOR_SCORE, Vectors, positive_int
from ipad_rerank._memory import rows_that_fit
from ipad_rerank._progress import progress_over
from ipad_rerank.ranking import Ranking
from ipad_rerank.rerankers._density import UnfamiliarDensityWarning, close_share
from ipad_rerank.rerankers._sequence_rows import CandidateRows, GalleryRows
from ipad_rerank.rerankers._splice import splice

_TIE_STEPS = 2.0**20  # scores closer than rounding errors are ties, which keep the order they came in
ON_UNFAMILIAR = ("warn", "fallback", "ignore")


def reorder(
    reasoner: Any,
    queries: Vectors,
    source: GalleryRows | CandidateRows,
    ranking: Ranking,
    head: int,
    parts: int,
    gallery_size: int | None,
    batch_size: int | None,
    on_unfamiliar: str,
    progress: bool | None,
) -> Ranking:
    """The ranking with its head re-ordered, arguments as those of :meth:`FeatureReasoning.rerank`.

    Args:
        reasoner: A SequenceRefiner.
        queries: ``(Q, D)``.
        source: Where the head's vectors come from.
        head: Candidates to re-order.
        parts: Sequences that they are dealt out to.
        gallery_size: None where it is not known.
    """
    if on_unfamiliar not in ON_UNFAMILIAR:
        raise ValueError(f"on_unfamiliar must be one of {', '.join(ON_UNFAMILIAR)}, got {on_unfamiliar!r}")
    batch_size = None if batch_size is None else positive_int(batch_size, "batch_size")
    if reasoner.is_identity or head < 2:
        return ranking
    device = source.device
    unfamiliar = on_unfamiliar != "ignore" and _is_unfamiliar(reasoner, queries, source, gallery_size, parts)
    if unfamiliar and on_unfamiliar == "fallback":
        return ranking
    if reasoner.network.scale.device != device:
        reasoner.to(device)
    if batch_size is None:
        n = head // parts + 1
        size = 8 if reasoner.dtype == torch.float64 else 4
        each = size * (2 * n * parts * queries.dim + 14 * n * n)
        batch_size = min(rows_that_fit(each, device), 8 if device.type == "cpu" else 1024)
    starts = range(0, len(queries), batch_size)
    refined = torch.empty(len(queries), head, dtype=reasoner.dtype, device=device)
    for start in progress_over(starts, len(starts), "Re-ranking", progress):
        stop = min(start + batch_size, len(queries))
        own, rows = queries.unit(start, stop, reasoner.dtype, device)[:, None], source.rows(start, stop)
        for part in range(parts):
            refined[start:stop, part::parts] = _scores(reasoner, torch.cat([own, rows[:, part::parts]], 1))
    return splice(ranking, refined)


@torch.no_grad()
def _scores(reasoner: Any, unit: Tensor) -> Tensor:
    """Refined cosines of the candidates; where a query is a zero vector its order stays, a zero item is last."""
    scores = (reasoner(unit)[:, 1:] * _TIE_STEPS).round() / _TIE_STEPS
    empty = unit.square().sum(-1) < 0.5
    scores = torch.where(empty[:, :1], 0.0, scores)
    return torch.where(empty[:, 1:], ZERO_VECTOR_SCORE, scores)


def _is_unfamiliar(reasoner: Any, queries: Vectors, source: Any, gallery_size: int | None, parts: int) -> bool:
    if reasoner.density is None:
        return False
    step = max(1, len(queries) // 64)  # a look at up to about 64 queries
    seen = []
    for row in range(0, len(queries), step):
        own = queries.unit(row, row + 1, reasoner.dtype, source.device)
        seen.append((source.rows(row, row + 1)[0, ::parts] @ own[0])[None])
    share = close_share(torch.cat(seen), reasoner.density.close_similarity)
    complaints = reasoner.density.complaints(gallery_size, share, parts)
    if complaints:
        warnings.warn(
            f"this reasoner was fitted for another density: {'; '.join(complaints)}. It may do worse than no "
            're-ranking; fit on similar data, or pass on_unfamiliar="fallback" or "ignore".',
            UnfamiliarDensityWarning,
            stacklevel=4,
        )
    return bool(complaints)
