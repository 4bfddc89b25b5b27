"""Runs of a comparison or an ablation: trained once, found again, and never mixed with those of other settings."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ipad_train.checkpoint import write_json
from ipad_train.config import RunConfig
from ipad_train.config_files import with_absolute_paths
from ipad_train.config_identity import different_keys
from ipad_train.data import RunData
from ipad_train.run_folder import RunFolder
from ipad_train.step_speed import StepTimer, images_per_second
from ipad_train.training import Training

_SETTINGS = "settings.json"
_FREE = ("output_dir", "seed", "loop")  # what several starts of one comparison may change


def train_once(config: RunConfig, title: str, announce: Callable[[str], None], data: RunData | None = None) -> Path:
    """The folder of a whole run: trained now, continued, or found.

    Beside what every run leaves, ``speed.json`` has the images a second of its training. ``data`` as in :class:`Training`.
    """
    run_dir = Path(config.output_dir)
    if RunFolder(run_dir).validation.exists():
        announce(f"{run_dir}: trained already")
        return run_dir
    announce(f"== {title} ==")
    training = Training(config, "auto", announce, data)
    timer = StepTimer(training.clock.step_done)
    training.clock.step_done = timer.step_done
    training.run()
    speed = images_per_second(training.config, timer.seconds())
    if training.is_main:
        write_json(RunFolder(run_dir).speed, {"images_per_second": speed, "seconds": timer.seconds()})
    training.accelerator.wait_for_everyone()
    return run_dir


def training_speed(run_dir: Path) -> float | None:
    """Images a second of a run's training; None where it was not measured."""
    path = RunFolder(run_dir).speed
    return json.loads(path.read_text(encoding="utf-8"))["images_per_second"] if path.is_file() else None


def check_settings(folder: Path, config: RunConfig, **others: Any) -> None:
    """Keep the settings of all runs in a folder, or compare them with those that it was started with.

    Raises:
        ValueError: they differ; the message names the keys.
    """
    wanted = json.loads(json.dumps({**with_absolute_paths(config).to_dict(), **others}))
    for key in _FREE:
        wanted.pop(key)
    for free in ("num_workers", "eval_batch_size"):
        wanted["data"].pop(free)
    path = folder / _SETTINGS
    if path.is_file():
        saved = json.loads(path.read_text(encoding="utf-8"))
        if different := sorted(different_keys(saved, wanted)):
            raise ValueError(
                f"{folder} holds runs of other settings: {', '.join(different)} differ; give another output_dir, or the "
                "settings that it was started with"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, wanted)


def sharing_maps(config: RunConfig) -> RunConfig:
    """With one folder for all runs' maps of a frozen trunk, which are the same."""
    if config.data.maps_dir is not None:
        return config
    data = dataclasses.replace(config.data, maps_dir=str(RunFolder(Path(config.output_dir)).maps))
    return dataclasses.replace(config, data=data)


def device_name(device: torch.device) -> str:
    """The device as people call it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    count = torch.get_num_threads()
    return f"CPU, {count} thread{'s' * (count > 1)}"
