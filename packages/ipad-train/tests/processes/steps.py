"""Steps of every stage, as a run does them, on several processes; what comes out goes into files.

    python steps.py CONFIG OUT PLAN

The plan is JSON: a list of ``[processes, cases]``, done one after the other. 0 processes are one without the variables of a
launcher.

A case is ``name;override;override``, with ``env:NAME=VALUE`` among the overrides for a variable of the launcher. With
``resume`` among them the stage saves in its middle, and what comes out is of a second start that goes on from there. With
``spoil`` the images of the last process are not finite in step 3. With ``as on a GPU`` DeepSpeed believes that autocast is
on around it, which it switches off: it looks at the autocast of GPUs, whatever the device is. The case ``beside`` is no
training, but all else that processes do together.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from evaluations import evaluate_cases
from forked import fork
from safetensors.torch import save_file

from ipad_core.clustering import FeatureQueue
from ipad_data.roles import ROLES
from ipad_train.checkpoint import checkpoint_path, read_state
from ipad_train.config_files import load_config
from ipad_train.data import RunData, load_data
from ipad_train.distributed import gather_entries, is_distributed, on_main_process
from ipad_train.embed import EntryEmbeddings
from ipad_train.evaluate import query_precisions
from ipad_train.launch import make_accelerator, with_launcher_settings
from ipad_train.loop import BetweenSteps, StageLoop
from ipad_train.position import Position
from ipad_train.progress import save_progress
from ipad_train.run_context import RunContext
from ipad_train.stage_lengths import resolve_stages
from ipad_train.stage_start import start_stage


class Record:
    """Stands for a run's tracker: keeps the numbers of every step."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def log(self, step: int, stage: str, values: dict[str, float]) -> None:
        self.rows.append(values)

    def event(self, step: int, stage: str, text: str) -> None:
        pass

    def time(self, *arguments: object) -> None:
        pass


def run_case(name: str, config_path: str, data: RunData, out: Path, overrides: list[str]) -> None:
    resume = "resume" in overrides
    settings = dict(text.removeprefix("env:").split("=", 1) for text in overrides if text.startswith("env:"))
    AcceleratorState._reset_state()
    GradientState._reset_state()
    os.environ.update(settings)
    keys = [text for text in overrides if "=" in text and not text.startswith("env:")]
    config = load_config(config_path, [*keys, f"output_dir={out / name}-{os.environ.get('WORLD_SIZE', 1)}"])
    accelerator = make_accelerator(config)
    assert accelerator.num_processes == int(os.environ.get("WORLD_SIZE", 1))
    config, _ = resolve_stages(with_launcher_settings(config, accelerator), data, accelerator.num_processes)
    ((stage_name, stage),) = config.stages()
    context = RunContext(config, data, accelerator, lambda line: None)
    position = None
    if resume:
        first = start_stage(context, stage_name, stage, 0, None)
        middle = dataclasses.replace(config.loop, save_every=stage.steps // 2)
        saving = BetweenSteps(save=lambda run: save_progress(run, context, {}))
        StageLoop(first, accelerator, middle, saving).train()
        accelerator.free_memory()
        checkpoint = checkpoint_path(context.folder, stage.steps // 2)
        position = Position(checkpoint, read_state(checkpoint))
    run = start_stage(context, stage_name, stage, 0, position)
    torch.set_autocast_enabled("cuda", "as on a GPU" in overrides)
    objective = accelerator.unwrap_model(run.objective)
    before = {key: tensor.float().clone() for key, tensor in objective.model.state_dict().items()}
    batches, gradients = [], {}
    inputs = run.inputs

    def watched(batch, seed):
        batches.append(batch["image_ids"].clone())
        batch = inputs(batch, seed)
        if "spoil" in overrides and run.step == 2 and accelerator.process_index == accelerator.num_processes - 1:
            batch["images"] = batch["images"] * float("nan")
        return batch

    clip = accelerator.clip_grad_norm_

    def keep(gradient_of: Callable[[torch.nn.Parameter], torch.Tensor | None]) -> None:
        for key, parameter in objective.model.named_parameters():
            if run.step == 0 and parameter.requires_grad and (gradient := gradient_of(parameter)) is not None:
                gradients[key] = gradient.float().clone()

    def clip_and_keep(parameters, norm):
        keep(lambda parameter: parameter.grad)
        return clip(parameters, norm)

    run.inputs, accelerator.clip_grad_norm_ = watched, clip_and_keep
    if accelerator.state.deepspeed_plugin is not None:  # its engine has made its step when the run asks for the norm
        from deepspeed.utils import safe_get_full_grad

        engine_step = run.objective.step

        def keep_and_step():
            keep(safe_get_full_grad)
            engine_step()

        run.objective.step = keep_and_step
    record = Record()
    StageLoop(run, accelerator, config.loop, BetweenSteps(), record).train()
    after = {key: tensor.float().clone() for key, tensor in objective.model.state_dict().items()}
    keys = sorted(set().union(*record.rows))
    found = {f"losses/{key}": torch.tensor([row.get(key, float("nan")) for row in record.rows]) for key in keys}
    found |= {f"batches/{number}": ids for number, ids in enumerate(batches)}
    memory = {} if objective.memory is None else objective.memory.state_dict()
    for kind, tensors in (("gradients", gradients), ("before", before), ("after", after), ("memory", memory)):
        found |= {f"{kind}/{key}": tensor.contiguous() for key, tensor in tensors.items()}
    if accelerator.scaler is not None:
        found |= {
            f"scaler/{key}": torch.tensor(float(value)) for key, value in accelerator.scaler.state_dict().items()
        }
    save_file(found, out / f"{name}-{accelerator.num_processes}-{accelerator.process_index}.safetensors")
    accelerator.clip_grad_norm_ = clip
    accelerator.free_memory()
    for key in settings:
        del os.environ[key]


def queue_unequal_batches(out: Path) -> None:
    """Gather batches of 3 + rank entries, and queue them."""
    rank, count = dist.get_rank(), dist.get_world_size()
    features, ids = torch.full((3 + rank, 2), float(rank)), torch.arange(3 + rank)
    ids, features = gather_entries(ids, features)
    queue = FeatureQueue(3 + count, 2, 2)
    queue.enqueue(features, ids)
    save_file({"ids": ids, "features": features, "queue": queue.storage}, out / f"queued-{count}-{rank}.safetensors")


def rank_queries(out: Path) -> None:
    """AP of seven queries of two attributes, which the processes share."""
    random, entries = np.random.default_rng(0), 60
    vectors = random.standard_normal((entries, 4)).astype(np.float32)
    ids, roles = np.arange(entries), np.where(np.arange(entries) < 7, *map(ROLES.index, ("query", "gallery")))
    embedded = EntryEmbeddings(vectors, None, None, None, ids, ids % 2, random.integers(0, 3, entries), roles)
    query, gallery = embedded.with_role("query"), embedded.with_role("gallery")
    found = query_precisions(query, gallery, "fused", Accelerator(cpu=True))
    save_file({"precisions": torch.from_numpy(found)}, out / f"ranked-{count_and_rank()}.safetensors")


def refuse(out: Path) -> None:
    """What only the main process does succeeds, and then fails; the sentences go into a file of each process."""
    accelerator = Accelerator(cpu=True)
    done = on_main_process(accelerator, lambda: "done")

    def fail() -> None:
        raise FileExistsError(f"Größe: the folder of process {os.getpid()} is taken")

    try:
        on_main_process(accelerator, fail)
    except OSError as error:
        said = {"done": done, "kind": type(error).__name__, "said": str(error)}
        (out / f"refused-{count_and_rank()}.json").write_text(json.dumps(said), encoding="utf-8")


def beside_the_steps(config_path: str, data: RunData, out: Path) -> None:
    """What processes do together beside training."""
    if is_distributed():
        queue_unequal_batches(out)
        refuse(out)
    rank_queries(out)
    evaluate_cases(config_path, data, out)


def count_and_rank() -> str:
    return f"{dist.get_world_size()}-{dist.get_rank()}" if is_distributed() else "1-0"


def main(config_path: str, out: str, plan: str) -> None:
    plan = json.loads(plan)
    data = load_data(load_config(config_path).data)  # for all cases of all processes, which no case changes
    if any("DEEPSPEED" in case for _, cases in plan for case in cases):
        import deepspeed  # noqa: F401

    def do(cases: list[str]) -> None:
        for case in cases:
            name, *overrides = case.split(";")
            if name == "beside":
                beside_the_steps(config_path, data, Path(out))
            else:
                run_case(name, config_path, data, Path(out), overrides)

    for processes, cases in plan:
        fork(processes, functools.partial(do, cases))


if __name__ == "__main__":
    main(*sys.argv[1:])
