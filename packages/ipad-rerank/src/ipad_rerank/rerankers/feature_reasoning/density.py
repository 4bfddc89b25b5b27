"""What density a reasoner was fitted for: gallery sizes, and the share of close neighbors among the candidates.

A reasoner reads positions in sorted lists, so it learns how many positives to expect. Far from the galleries of its
fit that expectation is wrong, and it can do worse than nothing.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from ipad_rerank.rerankers.saving import Config
from ipad_rerank.rerankers.shortlist import Shortlist

SLACK = 1.25
"""Gallery sizes may leave the recorded range by this factor, as may the share of close neighbors."""


class UnfamiliarDensityWarning(UserWarning):
    """The gallery is unlike those the reasoner was fitted on."""


@dataclass(frozen=True)
class Density:
    """Ranges seen during a fit.

    Args:
        gallery_sizes: Smallest and largest gallery searched.
        close_similarity: Cosine above which a candidate counts as close to its query.
        close_shares: Smallest and largest share of close ones among a query's candidates (means over queries).
        best_gallery_size: Where the MAP of held-out queries came out best.
        blends: ``(candidates, blend)``, ascending: how much the refined similarities count in lists of so many candidates
            and more, at most; 0 where it is better to leave a list as it came.
    """

    gallery_sizes: tuple[int, int]
    close_similarity: float
    close_shares: tuple[float, float]
    best_gallery_size: int | None = None
    blends: tuple[tuple[int, float], ...] = ()

    @classmethod
    def from_dict(cls, values: Config) -> Density:
        blends = tuple((int(length), float(blend)) for length, blend in values.pop("blends"))
        pairs = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        return cls(**pairs, blends=blends)

    @property
    def shortest(self) -> int:
        """Candidates from which on lists are re-ordered."""
        return next((length for length, blend in self.blends if blend > 0), 2)

    def blend_for(self, length: int, blend: float) -> float:
        """``blend``, or less where lists of ``length`` candidates want less; the shortest take what the first want."""
        found = [most for least, most in self.blends if least <= length] or [most for _, most in self.blends[:1]]
        return min([blend, *found[-1:]])

    def sequences_for(self, gallery_size: int) -> int:
        """To how many sequences to deal candidates out, so that they lie as dense as where the fit came out best."""
        return max(1, round(gallery_size / (self.best_gallery_size or self.gallery_sizes[1])))

    def complaints(
        self, gallery_size: int | None, share: float, sequences: int = 1, largest_tried: int | None = None
    ) -> list[str]:
        """What is unlike the fit, in words; empty if nothing is.

        Args:
            gallery_size: Rows searched, if known.
            share: Of close ones among the candidates.
            sequences: To how many the candidates are dealt out: each meets a gallery so many times smaller. That helps in
                galleries larger than those of the fit, but nobody has tried it there.
            largest_tried: Rows of the largest gallery that was tried after the fit, if any.
        """
        found = []
        low, high = self.gallery_sizes
        largest = max(high, largest_tried or 0)
        if gallery_size is not None and not low / SLACK <= gallery_size / sequences <= gallery_size <= largest * SLACK:
            found.append(f"the gallery has {gallery_size} rows, fitted on {low} to {high}")
            if gallery_size > high and sequences == 1:
                found[-1] += ' (see sequences="auto", and rank deeper)'
        closer = largest / high  # as many times as many close ones may be among the candidates of a larger gallery
        low, high = self.close_shares
        if not low / SLACK - 0.02 <= share <= high * SLACK * closer + 0.02:
            found.append(
                f"{share:.1%} of the candidates are close to their query (cosine above {self.close_similarity:.2f}), "
                f"fitted on {low:.1%} to {high:.1%}"
            )
        return found


def close_share(query_similarity: Tensor, close_similarity: float) -> float:
    """Share of entries of ``(Q, n)`` above the threshold."""
    return float((query_similarity > close_similarity).double().mean())


def separating_similarity(similarity: Tensor, is_positive: Tensor) -> float:
    """The cosine that best splits positives from negatives (balanced), from equal-sized samples of pairs."""
    positives, negatives = similarity[is_positive], similarity[~is_positive]
    if not len(positives) or not len(negatives):
        return float(similarity.median())
    grid = torch.linspace(-1, 1, 201, device=similarity.device)
    kept = (positives[None] > grid[:, None]).double().mean(1) - (negatives[None] > grid[:, None]).double().mean(1)
    return float(grid[kept.argmax()])


def is_familiar(density: Density | None, shortlist: Shortlist, sequences: int) -> bool:
    """May the lists be re-ordered? Looks at their length, at the gallery and at up to about 64 queries, and warns.

    Args:
        density: Of the fit; None knows nothing, and everything is fine.
        shortlist: What is to be re-ordered, and with which options.
        sequences: To how many the candidates are dealt out.
    """
    asked = shortlist.asked
    told, length = asked.options.on_unfamiliar, shortlist.head // sequences
    if density is None:
        return True
    too_short = density.blend_for(length, 1.0) == 0
    if told == "ignore":
        return not too_short
    message = (
        f"{length} candidates to re-order are too few for this reasoner: held-out queries lost with fewer than "
        f"{density.shortest}. The ranking is left as it came; fetch more, or fit with a smaller n_r."
    )
    if not too_short:
        heads = (
            shortlist.batch(slice(row, row + 1)) for row in range(0, len(asked.queries), len(asked.queries) // 64 or 1)
        )
        similarity = torch.cat([candidates[:, ::sequences] @ query[0] for query, candidates in heads])
        share = close_share(similarity, density.close_similarity)
        complaints = density.complaints(asked.gallery_size, share, sequences, asked.largest_tried)
        if not complaints:
            return True
        message = (
            f"this reasoner was fitted for another density: {'; '.join(complaints)}. It may do worse than no "
            're-ranking; fit on similar data, or pass on_unfamiliar="fallback" or "ignore".'
        )
    warnings.warn(message, UnfamiliarDensityWarning, stacklevel=4)
    return told == "warn" and not too_short
