"""A stage made ready to train: its network, objective, optimizer and batches, on every process."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch.nn.parallel import DistributedDataParallel

from ipad_core import AttributeEmbedder
from ipad_data import AnchorViews, BatchAugmentation
from ipad_train.batch_norm import synchronize_batch_norm
from ipad_train.clock import images_of_a_step
from ipad_train.config import RunConfig, StageConfig
from ipad_train.data import RunData, stage_batches
from ipad_train.kept_crops import can_keep_crops, keep_crops
from ipad_train.kept_maps import can_keep_maps, keep_maps, maps_dir
from ipad_train.launch import compile_network, configure_engine
from ipad_train.networks import make_model, make_objective
from ipad_train.optim import build_optimizer
from ipad_train.position import Position
from ipad_train.progress import MODEL, load_progress
from ipad_train.randomness import set_seed
from ipad_train.stage_run import StageHealth, StageRun
from ipad_train.step import next_batch
from ipad_train.step_inputs import AugmentedImages, MapsOfImages, StepInputs


@dataclass(frozen=True)
class StageStarter:
    """Starts the stages of a run, from their beginning or from a checkpoint.

    Args:
        config: The run, with lengths in steps and accumulations.
        data: Its splits.
        accelerator: Its processes.
        run_dir: Its folder, where the models of earlier stages are.
        announce: Receives a line for the user.
    """

    config: RunConfig
    data: RunData
    accelerator: Accelerator
    run_dir: Path
    announce: Callable[[str], None]

    def start(self, name: str, stage: StageConfig, offset: int, position: Position | None) -> StageRun:
        """A stage ready for its next step.

        Args:
            name: ``stageN``.
            stage: Its configuration.
            offset: Global step at its start.
            position: Where it was interrupted; None to start it from the beginning.
        """
        rank, world_size = self.accelerator.process_index, self.accelerator.num_processes
        seed = self.config.seed * 10 + int(name[-1])
        set_seed(seed * 1000 + rank)
        torch.manual_seed(seed)  # equal initial weights on every process
        model = make_model(self.config, name, self.data, self.run_dir, self.announce if position is None else _quiet)
        if position is not None:
            model = type(model).from_pretrained(position.checkpoint / MODEL)
        model.schema = self.data.schema.values  # so that the trained model can be asked by name
        objective = make_objective(self.config, name, stage, model, self.data)
        if self.config.loop.channels_last and self.accelerator.device.type == "cuda":
            objective.to(memory_format=torch.channels_last)
        if self.config.loop.batch_norm == "synchronized":
            synchronize_batch_norm(model)
        compile_network(model, self.config)
        objective.to(self.accelerator.device)
        if objective.memory is not None:
            objective.memory.to(self.accelerator.device)
        optimizer = build_optimizer(objective, stage)
        configure_engine(self.accelerator, stage)
        prepared, optimizer = self.accelerator.prepare(objective, optimizer)
        set_seed(seed * 1000 + rank)
        for line in objective.announcements():
            self.announce(line)
        step = 0 if position is None else position.stage_step
        inputs, with_images = self._inputs(name, stage, model)

        def batches() -> Iterator[dict[str, torch.Tensor]]:
            pinned = self.accelerator.device.type == "cuda"
            return stage_batches(self.data, self.config, stage, seed, step, rank, world_size, pinned, with_images)

        run = StageRun(name, stage, prepared, optimizer, batches(), inputs, offset, step, augmentation_seed=seed)
        if position is not None:
            if isinstance(prepared, DistributedDataParallel):
                lay_out_gradients(dataclasses.replace(run, batches=batches()), self.accelerator)
            load_progress(position, objective, optimizer, self.accelerator)
            run.health = StageHealth(**position.state.get("health", {}))
        return dataclasses.replace(
            run, attributes=self.data.schema.attributes, images=images_of_a_step(self.config, stage)
        )

    def _inputs(self, name: str, stage: StageConfig, model: AttributeEmbedder) -> tuple[StepInputs, bool]:
        """What a step trains on, and whether it needs the images decoded."""
        data = self.config.data
        if can_keep_maps(model, data):
            train = self.data.splits["train"]
            maps = keep_maps(model, train, data, maps_dir(self.config), self.accelerator, True, self.announce)
            crops = None
            if name == "stage2" and can_keep_crops(model, self.config):
                crops = keep_crops(model, train, maps, self.config, self.accelerator, self.announce)
            return MapsOfImages(maps, data.flip, crops), name == "stage2" and crops is None
        views = None
        if data.anchor_views and stage.sampler == "triplet":
            views = AnchorViews(BatchAugmentation(**data.anchor_augmentation), data.anchor_views)
        return AugmentedImages(data.flip, BatchAugmentation(flip=0.0, **data.augmentation), views), True


def _quiet(line: str) -> None:
    """A stage that goes on has said so when it began."""


def lay_out_gradients(run: StageRun, accelerator: Accelerator) -> None:
    """Bring DDP where it is in a stage that goes on: one backward pass, of which nothing remains but its order.

    After the first backward pass of a stage DDP packs gradients anew, in the order in which they came. Three or more
    processes add up in an order that depends on it, so that without this pass the first step of a resumed run would
    differ in its last bits. Weights, statistics and random state are to be loaded afterwards, or are put back here.
    """
    objective = accelerator.unwrap_model(run.objective)
    before = {name: tensor.clone() for name, tensor in objective.model.state_dict().items()}
    run.objective.train()
    accelerator.backward(run.objective(next_batch(run, accelerator, 0))["loss"])
    run.optimizer.zero_grad()
    objective.model.load_state_dict(before)
    objective.forget_batches()
