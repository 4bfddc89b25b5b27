"""Cluster centers of every {attribute, value} (Eq. 11)."""

from __future__ import annotations

import torch
from torch import nn

from ipad_core.clustering.feature_queue import FeatureQueue


class ClusterCenters(nn.Module):
    """Means of the queues, recomputed on :meth:`refresh`; part of the saved state.

    ``C(a, v) = mean of the features queued for {a, v}``. Deviations from Eq. 11: the paper divides by n_q; while a queue is
    not full we divide by what it holds, and values without any feature are marked invalid. The features are queued as
    they come (ipad-train queues unit-length ones, which the text leaves open); the center itself is not normalized, and
    the loss takes its cosine.

    Args:
        num_values: V.
        dim: d.
    """

    def __init__(self, num_values: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("centers", torch.zeros(num_values, dim))
        self.register_buffer("valid", torch.zeros(num_values, dtype=torch.bool))

    @torch.no_grad()
    def refresh(self, queue: FeatureQueue) -> None:
        """Take the means of the queues."""
        means, valid = queue.means()
        self.centers.copy_(means)
        self.valid.copy_(valid)
