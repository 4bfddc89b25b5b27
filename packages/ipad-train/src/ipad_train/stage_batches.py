"""The batches of a stage: which entries each step trains on, and their images."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from ipad_data import BatchDataset
from ipad_data.samplers.plan import BatchPlan, PlanSampler
from ipad_train.config import StageConfig
from ipad_train.data import batch_loader, make_sampler
from ipad_train.run_context import RunContext


def stage_batches(
    context: RunContext, stage: StageConfig, seed: int, start_step: int, with_images: bool = True
) -> Iterator[dict[str, torch.Tensor]]:
    """Micro-batches of a stage from a step on, without end; which ones is a pure function of the arguments.

    Args:
        context: The run; each of its processes gets its own share.
        stage: How large batches are, and how they are drawn.
        seed: Of the order.
        start_step: Step of the stage to begin with, from 0.
        with_images: Whether the images are decoded.
    """
    config, accelerator = context.config.data, context.accelerator
    images = BatchDataset(
        context.data.split("train"), config.detail_size, on_error=config.on_error, with_images=with_images
    )
    share = accelerator.process_index, accelerator.num_processes
    order = MicroBatchPlans(make_sampler(context.data, stage, seed), start_step, *share, stage.accumulation or 1)
    workers = config.num_workers if with_images else 0
    return iter(batch_loader(images, order, workers, pin_memory=accelerator.device.type == "cuda"))


class MicroBatchPlans(Sampler[BatchPlan]):
    """Plans of the micro-batches of one step after the other, without end.

    The batch of a step is cut into ``accumulation`` micro-batches, and each of them into the shares of the processes. Which
    entries a micro-batch has over all processes does not depend on their number.

    Args:
        sampler: Where the plans come from.
        start_step: Step to begin with, counted over all epochs.
        rank, world_size: Which share to plan.
        accumulation: Micro-batches of a step.
    """

    def __init__(self, sampler: PlanSampler, start_step: int, rank: int, world_size: int, accumulation: int) -> None:
        self.sampler, self.start_step = sampler, start_step
        self.rank, self.world_size, self.accumulation = rank, world_size, accumulation

    def __iter__(self) -> Iterator[BatchPlan]:
        for position in itertools.count(self.start_step):
            epoch, step = divmod(position, self.sampler.steps_per_epoch)
            for number in range(self.accumulation):
                share = number * self.world_size + self.rank
                yield self.sampler.plan(epoch, step, share, self.world_size * self.accumulation)
