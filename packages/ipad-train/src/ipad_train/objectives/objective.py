"""The contract of an objective: what a stage of training minimizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ipad_core import AttributeEmbedder
from ipad_train.config import RunConfig, StageConfig
from ipad_train.data import RunData
from ipad_train.distributed import WholeBatch
from ipad_train.objectives.batch_layout import BatchLayout

Batch = dict[str, Any]
IDS = ("attribute_ids", "value_ids", "image_ids")


@dataclass(frozen=True)
class StageSetup:
    """What an objective may ask of the stage that it is made for."""

    config: RunConfig
    stage: StageConfig
    data: RunData

    @property
    def layout(self) -> BatchLayout:
        """How the stage's batches are stacked."""
        return BatchLayout(self.stage.sampler, self.config.data.anchor_views)


class Objective(nn.Module):
    """A model, and the losses of a batch of entries.

    **A batch** holds ``images`` (``(N, 3, H, W)`` in [0, 1], or a frozen trunk's ``FeatureMaps``), and of the B
    entries ``image_index`` into them, ``attribute_ids``, flat ``value_ids`` and ``image_ids``, each ``(B,)``; with a
    frozen first branch perhaps ``crops``, kept maps of each entry's crop. A triplet batch stacks anchors, positives,
    negatives and views of the anchors, ``parts`` of equal length. On several processes it is this process's share, and
    losses are those of the whole batch, see :meth:`gathered`.

    **forward(batch)** returns ``{"loss": scalar, ...}``: what is minimized, and further named scalars without
    gradient, which are logged. It is called once for each of the micro-batches of a step, under the run's precision.

    **after_step(batches, step)** is called once after the optimizer's step with the step's micro-batches; it returns
    lines for the user.

    **What is saved**: the model, layers of the objective itself, and everything of :attr:`memory`.

    A new objective is a file with a subclass, and a line in ``objectives/__init__.py``.

    Args:
        model: What is trained, and delivered. A subclass may train layers of its own beside it, which are left behind.
        parts: Parts that the entries of a batch are stacked in; 1 for none.
    """

    network: ClassVar[str]
    """What the stage trains: ``classifier``, ``first branch`` or ``both branches`` of the configured network."""

    def __init__(self, model: AttributeEmbedder, parts: int = 1) -> None:
        super().__init__()
        self.model = model
        self.parts = parts
        self._memory: list[nn.Module] = []  # in a list, where the engines do not see it

    @classmethod
    def of_stage(cls, setup: StageSetup, model: AttributeEmbedder) -> Objective:
        """The objective as a run configures it."""
        raise NotImplementedError

    @property
    def memory(self) -> nn.Module | None:
        """What moves along without gradients: momentum encoder, queues, centers.

        It is no submodule. DistributedDataParallel would broadcast it, and an engine may cast submodules to bf16, in which a
        momentum of 0.995 stands still. It must be equal on all processes.
        """
        return self._memory[0] if self._memory else None

    def remember(self, memory: nn.Module) -> None:
        """Set :attr:`memory`."""
        self._memory = [memory]

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Losses of a batch, see above."""
        raise NotImplementedError

    @torch.no_grad()
    def after_step(self, batches: Sequence[Batch], step: int) -> list[str]:
        """Nothing to do between steps, unless a subclass says otherwise.

        Args:
            batches: The step's micro-batches, as ``forward`` had them.
            step: Step of the stage just done, from 0.
        """
        return []

    def state_numbers(self) -> dict[str, float]:
        """Numbers of the memory that are logged, equal on all processes; none here."""
        return {}

    def forget_batches(self) -> None:
        """Drop what ``forward`` keeps for ``after_step``: there will be none."""

    def announcements(self) -> list[str]:
        """What the user should know when the stage starts."""
        return []

    def gathered(self, batch: Batch, **features: Tensor | None) -> tuple[Batch, dict[str, Tensor]]:
        """The entries of all processes: the ids of the whole batch, and features ``(B, ...)`` of it with gradient.

        Features that are None are left out. See :mod:`ipad_train.distributed` for order and scale.
        """
        present = {name: feature for name, feature in features.items() if feature is not None}
        whole = WholeBatch(len(batch["attribute_ids"]), self.parts, batch["attribute_ids"].device)
        ids = dict(zip(IDS, whole.gather(*(batch[name] for name in IDS)), strict=True))
        return ids, {name: whole.gather_with_gradient(feature) for name, feature in present.items()}
