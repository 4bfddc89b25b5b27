"""A stage made ready to train: its network, objective, optimizer and batches, on every process."""

from __future__ import annotations

import dataclasses

import torch
from accelerate import Accelerator
from torch.nn.parallel import DistributedDataParallel

from ipad_core import AttributeEmbedder
from ipad_data import AnchorViews, BatchAugmentation
from ipad_train.batch_norm import synchronize_batch_norm
from ipad_train.clock import images_of_a_step
from ipad_train.config import StageConfig
from ipad_train.device_batches import DeviceBatches
from ipad_train.kept_crops import can_keep_crops, keep_crops
from ipad_train.kept_maps import can_keep_maps, keep_maps, maps_dir
from ipad_train.launch import compile_network, compute_in_precision, configure_engine, scale_losses
from ipad_train.memory_layout import lay_out
from ipad_train.networks import make_model, make_objective
from ipad_train.optim import build_optimizer
from ipad_train.position import Position
from ipad_train.progress import MODEL, load_progress
from ipad_train.randomness import set_seed
from ipad_train.run_context import RunContext
from ipad_train.stage_batches import stage_batches
from ipad_train.stage_run import StageHealth, StageRun
from ipad_train.step import next_batch
from ipad_train.step_inputs import AugmentedImages, MapsOfImages, StepInputs


def start_stage(
    context: RunContext, name: str, stage: StageConfig, offset: int, position: Position | None
) -> StageRun:
    """A stage ready for its next step, from its beginning or from a checkpoint.

    Args:
        context: The run, with lengths in steps and accumulations; models of earlier stages are in its folder.
        name: ``stageN``.
        stage: Its configuration.
        offset: Global step at its start.
        position: Where it was interrupted; None to start it from the beginning.
    """
    config, data, accelerator = context.config, context.data, context.accelerator
    rank, announce = accelerator.process_index, context.announce
    seed = config.seed * 10 + int(name[-1])
    set_seed(seed * 1000 + rank)
    torch.manual_seed(seed)  # equal initial weights on every process
    model = make_model(config, name, data, context.folder, announce if position is None else _quiet)
    if position is not None:
        model = type(model).from_pretrained(position.checkpoint / MODEL)
    model.schema = data.schema.values  # so that the trained model can be asked by name
    objective = make_objective(config, name, stage, model, data)
    lay_out(objective, config, accelerator)
    if config.loop.batch_norm == "synchronized":
        synchronize_batch_norm(model)
    compile_network(model, config)
    objective.to(accelerator.device)
    if objective.memory is not None:
        compile_network(objective.memory.momentum.network, config)
        objective.memory.to(accelerator.device)
    optimizer = build_optimizer(objective, stage)
    configure_engine(accelerator, stage)
    compute_in_precision(objective, accelerator)
    prepared, optimizer = accelerator.prepare(objective, optimizer)
    scale_losses(accelerator, optimizer)
    set_seed(seed * 1000 + rank)
    for line in objective.announcements():
        announce(line)
    step = 0 if position is None else position.stage_step
    inputs, with_images = _inputs(context, name, stage, model)

    def batches() -> DeviceBatches:
        return DeviceBatches(stage_batches(context, stage, seed, step, with_images), accelerator.device)

    run = StageRun(name, stage, prepared, optimizer, batches(), inputs, offset, step, augmentation_seed=seed)
    if position is not None:
        if isinstance(prepared, DistributedDataParallel):
            lay_out_gradients(dataclasses.replace(run, batches=batches()), accelerator)
        load_progress(position, objective, optimizer, accelerator)
        run.health = StageHealth(**position.state.get("health", {}))
    return dataclasses.replace(run, attributes=data.schema.attributes, images=images_of_a_step(config, stage))


def _inputs(context: RunContext, name: str, stage: StageConfig, model: AttributeEmbedder) -> tuple[StepInputs, bool]:
    """What a step trains on, and whether it needs the images decoded."""
    config, accelerator, announce = context.config, context.accelerator, context.announce
    data, train = config.data, context.data.split("train")
    if can_keep_maps(model, data):
        maps = keep_maps(model, train, data, maps_dir(config), accelerator, True, announce)
        crops = None
        if name == "stage2" and can_keep_crops(model, config):
            crops = keep_crops(model, train, maps, config, accelerator, announce)
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
