"""All checks of the doctor, in the order in which one mends them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ipad_train.config import RunConfig
from ipad_train.doctor.finding import BROKEN, Finding
from ipad_train.doctor.installed import check_deepspeed, check_requirements, check_torch_pair
from ipad_train.doctor.launching import (
    check_environment,
    check_host_name,
    check_launcher_config,
    check_port,
    default_config_path,
    read_launcher,
)
from ipad_train.doctor.machine import check_devices, check_disk, check_shared_memory, check_threads


def examine(config: RunConfig, launcher: Path | None = None) -> list[Finding]:
    """What there is to say of this machine for a run.

    Args:
        config: The run.
        launcher: Accelerate's configuration; None for its default one.
    """
    path = default_config_path() if launcher is None else launcher
    content, _ = read_launcher(path)
    processes = _local_processes(content)
    asks = str(content.get("distributed_type", "")).upper() == "DEEPSPEED"
    asks = asks or os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true"
    findings = [check_requirements(), check_torch_pair()]
    on_cpu = content.get("use_cpu") is True or content.get("distributed_type") == "MULTI_CPU"
    findings += [check_deepspeed(asks), check_devices(1 if on_cpu else processes)]
    findings += [check_launcher_config(path, config), check_environment(config)]
    findings += [check_port(processes, content), check_host_name()]
    findings += [check_threads(config, processes), check_shared_memory(config), check_disk(config)]
    findings += [finding for finding in (_check_data(config), _check_compiler(config)) if finding is not None]
    return findings


def _local_processes(content: dict) -> int:
    """Processes of this machine that the launcher's configuration starts; 1 where it says nothing."""
    try:
        return max(1, int(content.get("num_processes", 1)) // max(1, int(content.get("num_machines", 1))))
    except (TypeError, ValueError):
        return 1


def _check_data(config: RunConfig) -> Finding | None:
    if config.data.dir is None or "://" in config.data.dir:
        return None
    if Path(config.data.dir).expanduser().exists():
        return Finding("data.dir", f"{config.data.dir}; `ipad-data doctor {config.data.dir}` looks inside")
    return Finding("data.dir", f"{config.data.dir} is not there", BROKEN, "data.dir=FOLDER")


def _check_compiler(config: RunConfig) -> Finding | None:
    if not config.loop.compile:
        return None
    found = next((name for name in ("g++", "clang++", "c++") if shutil.which(name)), None)
    if found is None:
        return Finding(
            "compiler", "loop.compile=true needs a C++ compiler", BROKEN, "apt-get install g++, or loop.compile=false"
        )
    return Finding("compiler", f"{found}, for loop.compile")
