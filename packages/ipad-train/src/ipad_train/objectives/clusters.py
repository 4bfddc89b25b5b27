"""Momentum features of both branches in queues, their centers, and when the cluster loss starts (Eq. 10, 11, 16, 19)."""

from __future__ import annotations

import torch
from torch import nn

from ipad_core import IPAD
from ipad_core.clustering import ClusterCenters, FeatureQueue, MomentumEncoder
from ipad_core.losses import ClusterCenterLoss
from ipad_train.config import ClusterConfig
from ipad_train.distributed import WholeBatch
from ipad_train.objectives.objective import Batch


class BranchClusters(nn.Module):
    """Momentum encoder, queues and centers of IP-SP and IP-SE.

    All of it is in ``state_dict``, and equal on all processes: momentum features are gathered in the order of the whole
    batch before they are queued. The momentum encoder is float32 whatever the network is.

    The paper starts the cluster loss when the queues are full. A rare value may never fill its queue, so here "full"
    means: the queues of ``filled_share`` of the values that occur in training are full, and ``start`` of the stage has
    passed; at ``start_by`` of the stage the loss starts with the centers there are.

    Args:
        model: The network to follow.
        config: Lengths and schedule.
        value_counts: ``(V,)`` training entries of every value.
        value_attribute_ids: ``(V,)`` attribute of every value.
        margin: Of Eq. 16.
        steps: Length of the stage.
        train_spatial: Whether IP-SP learns; if not, it has no queue, and its crops serve the momentum copy of IP-SE.
    """

    def __init__(
        self,
        model: IPAD,
        config: ClusterConfig,
        value_counts: torch.Tensor,
        value_attribute_ids: torch.Tensor,
        margin: float,
        steps: int,
        train_spatial: bool,
    ) -> None:
        super().__init__()
        self.config, self.steps, self.train_spatial = config, steps, train_spatial
        self.length = config.queue_length or automatic_queue_length(value_counts)
        self.momentum = MomentumEncoder(model if train_spatial else model.semantic, config.momentum)
        branches = ("spatial", "semantic") if train_spatial else ("semantic",)
        dim, count, dtype = model.options["embed_dim"], len(value_counts), getattr(torch, config.queue_dtype)
        self.queues = nn.ModuleDict({name: FeatureQueue(count, self.length, dim, dtype) for name in branches})
        self.centers = nn.ModuleDict({name: ClusterCenters(count, dim) for name in branches})
        self.center_loss = ClusterCenterLoss(value_attribute_ids, margin)
        self.register_buffer("occurring", value_counts > 0, persistent=False)
        self.register_buffer("started_at", torch.tensor(-1))
        self._started = False

    @property
    def started(self) -> bool:
        """Whether the cluster loss is part of the total (Eq. 20)."""
        return self._started

    @property
    def nbytes(self) -> int:
        """Memory of all queues, bytes."""
        return sum(queue.nbytes for queue in self.queues.values())

    def _load_from_state_dict(self, *arguments, **options) -> None:
        # Also called where a parent's state is loaded; load_state_dict is not.
        super()._load_from_state_dict(*arguments, **options)
        self._started = bool(self.started_at >= 0)

    def loss(
        self, branch: str, embeddings: torch.Tensor, value_ids: torch.Tensor, image_ids: torch.Tensor
    ) -> torch.Tensor:
        """Eq. 16 of one branch: the mean over ``(B, d)`` embeddings."""
        centers = self.centers[branch]
        return self.center_loss(embeddings, centers.centers, centers.valid, value_ids, image_ids)

    def follow(self, model: IPAD) -> None:
        """Move the momentum encoder (Eq. 10)."""
        self.momentum.update(model if self.train_spatial else model.semantic)

    @torch.no_grad()
    def enqueue(self, batch: Batch, parts: int) -> None:
        """Queue the momentum features of the whole batch; one call of the encoder, under the precision of the caller.

        Args:
            batch: This process's share: ids and images; where IP-SP is frozen, ``crops`` of the entries or their kept maps.
            parts: Parts that the entries are stacked in, as in :class:`ipad_train.distributed.WholeBatch`.
        """
        if self.train_spatial:
            output = self.momentum(batch["images"], batch["attribute_ids"], batch["image_index"])
            features = {"spatial": output.spatial, "semantic": output.semantic}
        else:
            features = {"semantic": self.momentum(batch["crops"], batch["attribute_ids"])}
        whole = WholeBatch(len(batch["value_ids"]), parts, batch["value_ids"].device)
        value_ids, *gathered = whole.gather(batch["value_ids"], *features.values())
        for name, feature in zip(features, gathered, strict=True):
            self.queues[name].enqueue(nn.functional.normalize(feature.float(), dim=1), value_ids)

    @torch.no_grad()
    def step_done(self, step: int) -> list[str]:
        """Refresh the centers where it is due (Eq. 11), and decide on the start of the loss.

        Args:
            step: Step of the stage just done, from 0.
        """
        if (step + 1) % self.config.refresh_every:
            return []
        for name, centers in self.centers.items():
            centers.refresh(self.queues[name])
        return [] if self._started else self._decide(step)

    def filled(self, branch: str) -> float:
        """Share of the values that occur in training whose queue is full."""
        full = (self.queues[branch].count >= self.length) & self.occurring
        filled, occurring = torch.stack([full.sum(), self.occurring.sum()]).tolist()
        return filled / occurring

    def _decide(self, step: int) -> list[str]:
        """Start the cluster loss where the queues are filled, or it is time."""
        if step + 1 < self.config.start * self.steps:
            return []
        share = self.filled("semantic")
        if share >= self.config.filled_share or step + 1 >= self.config.start_by * self.steps:
            self._started = True
            self.started_at.fill_(step + 1)
            return [f"cluster loss starts at step {step + 1}: {100 * share:.0f} % of the queues are full (Eq. 20)"]
        return []


def automatic_queue_length(value_counts: torch.Tensor) -> int:
    """Queue length where none is given: min(1000, training entries per value / 8), at least 2.

    The mean is over the values that occur. At the paper's 1000 the queues of a small dataset never fill.
    """
    occurring = value_counts[value_counts > 0].float()
    return max(2, min(1000, int(occurring.mean().item() / 8)))
