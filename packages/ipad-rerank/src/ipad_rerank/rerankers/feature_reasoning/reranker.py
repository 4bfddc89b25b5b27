"""Feature Reasoning: a learned re-ranker that reads how the candidates of a query resemble each other.

Wan et al. 2025 (IPAD), Sec. 3.3, Eq. 12, 13 and 17, after the sub-graph scheme of SSR (Shen et al., NeurIPS 2021).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Self

import torch
from torch import Tensor

from ipad_rerank.rerankers.base import BaseReranker
from ipad_rerank.rerankers.feature_reasoning.density import Density, is_familiar
from ipad_rerank.rerankers.feature_reasoning.fit import fit_reasoner
from ipad_rerank.rerankers.feature_reasoning.refiner import SequenceRefiner, finish, refined_cosines
from ipad_rerank.rerankers.retrieval import Retrieval
from ipad_rerank.rerankers.saving import Config, Tensors
from ipad_rerank.rerankers.shortlist import Shortlist
from ipad_rerank.search.ranking import Ranking
from ipad_rerank.search.vectors import ArrayLike


class FeatureReasoning(SequenceRefiner, BaseReranker):
    """Re-order the best candidates of each query by a learned reading of their mutual similarities.

    Untrained it changes nothing; :meth:`fit` trains one on embeddings with labels.

    Args:
        n_r: Length of a sequence: the query and its ``n_r - 1`` best candidates. Those behind them keep their place.
        n_t: Rounds (the paper's n_t); all share one network.
        hidden_width: Units of the network's hidden layers.
        step_size: Of the gradient step on the features, per node (paper symbol rho, times n_r).
        variant: "full" moves the query and all candidates; "query_only" moves the query, nearly as good and cheaper.
        low_precision: Run the network's products in bfloat16.
        sequences: Deal ``m (n_r - 1)`` candidates out to m sequences, each m-th to one, so that they lie less dense and
            more of them are re-ordered, at m times the cost. "auto" takes as many as bring the gallery to the density
            at which the fit came out best; in either case no more than the ranking is deep enough for. None is 1; behind
            a query expansion, whose search makes a new tail in any case, :meth:`Chain.fit` makes it "auto".
        blend: Weight of the refined cosines in the scores, within [0, 1]; the rest is that of the first ones.
            :meth:`fit` chooses it on held-out queries unless it is given there.
        seed: Of the initial weights.

    Raises:
        ValueError: n_r below 2, n_t, hidden_width or step_size not positive, variant unknown, blend
            outside [0, 1].

    Example:
        >>> reasoner = FeatureReasoning.fit(embeddings, labels)
        >>> better = reasoner.rerank(query, gallery, rank(query, gallery, k=500))
    """

    @classmethod
    def fit(
        cls, embeddings: ArrayLike, labels: ArrayLike, group_ids: ArrayLike | None = None, **options: Any
    ) -> FeatureReasoning:
        """Train one; see :func:`~ipad_rerank.rerankers.feature_reasoning.fit.fit_reasoner` for what happens.

        Options of the constructor (``n_r``, ``n_t``, ...) and of the fit (``init``, and those of
        :class:`~ipad_rerank.rerankers.feature_reasoning.training.FitOptions`) may be mixed. Returns the identity, and says
        so, if held-out MAP does not rise.
        """
        return fit_reasoner(cls, embeddings, labels, group_ids, **options)

    def answer(self, asked: Retrieval) -> Ranking:
        """The ranking with its best ``n_r - 1`` candidates re-ordered; the ranking itself where nothing is done.

        Lists shorter than ``n_r - 1`` are re-ordered too, with the weight that the fit chose for lists of that length;
        where it saw a loss (below ``density.shortest``) they are left as they came, with a warning. In a gallery of less
        than ``2 n_r`` rows only as many as half the gallery are re-ordered: a sequence that holds most of the gallery is
        unlike any that help. ``sequences`` above 1 re-order as many more; "auto" needs to know the gallery's size.

        Head scores are refined cosines, raised by a constant per query where the tail's scores would stand above them;
        the tail keeps its order and scores.
        """
        head, sequences = self._head(asked.length, asked.gallery_size)
        if self.is_identity or head < 2:
            return asked.ranking
        device = asked.device if asked.device.type != "cpu" else self.network.scale.device  # a GPU where either is
        shortlist = Shortlist(asked, head, self.dtype, device)
        if not is_familiar(self.density, shortlist, sequences):
            return asked.ranking
        self.to(device)
        n = head // sequences + 1
        numbers = 2 * n * sequences * asked.queries.dim + 14 * n * n
        most = 8 if device.type == "cpu" else 1024
        blend = self.density.blend_for(n - 1, self.blend) if self.density else self.blend

        def scores(query: Tensor, candidates: Tensor) -> Tensor:
            return finish(refined_cosines(self, query, candidates, sequences), query, candidates, blend)

        return shortlist.rerank(scores, numbers, most)

    def to_config(self) -> Config:
        density = asdict(self.density) if self.density else None
        return self.config | {"density": density, "report": self.report}

    def tensors(self) -> Tensors:
        return self.state_dict()

    @classmethod
    def from_config(cls, config: Config, tensors: Tensors) -> Self:
        density, report = config.pop("density", None), config.pop("report", None)
        with torch.device("meta"):  # nothing is allocated that the weights do not hold
            reasoner = cls(**config)
        reasoner.load_state_dict(tensors, assign=True)  # an error unless names and sizes fit
        reasoner.density = Density.from_dict(density) if density else None
        reasoner.report = report
        return reasoner.eval()

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights, and of the work."""
        return self.network.scale.dtype

    def _head(self, k: int, gallery_size: int | None) -> tuple[int, int]:
        """How many of k candidates to re-order, and in how many sequences."""
        most = self.n_r - 1 if gallery_size is None else max(min(self.n_r, gallery_size // 2) - 1, 1)
        wanted = self.sequences or 1
        if wanted == "auto":
            wanted = self.density.sequences_for(gallery_size) if self.density and gallery_size else 1
        for sequences in range(wanted, 1, -1):
            each = most if gallery_size is None else min(most, gallery_size // sequences // 2 - 1)
            if each >= 2 and sequences * each <= k:  # a sequence of one candidate says nothing
                return sequences * each, sequences
        return min(most, k), 1
