"""Checks of the machine: devices, threads, shared memory, and the disk that a run writes to."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ipad_train.config import RunConfig, StageConfig
from ipad_train.doctor.finding import BROKEN, CARE, OK, Finding
from ipad_train.threads import VARIABLE, available_cores

_GIB = 2**30
_SHARED = Path("/dev/shm")
_AHEAD = 3  # batches of a loader worker at a time: two that wait, and the one in the making
_VALUES = {"fashionai": 54, "darn": 179, "deepfashion": 1000}  # of the published label files


def check_devices(processes: int) -> Finding:
    """Which devices torch sees, and whether there is one for every process.

    Args:
        processes: Of this machine, that the launcher's configuration starts.
    """
    import torch

    present = _graphics_cards()
    masked = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not torch.cuda.is_available():
        if present == 0:
            return Finding("devices", "no GPU; training runs on the CPU")
        if torch.version.cuda is None:
            return Finding(
                "devices",
                f"{present} GPUs, and torch {torch.__version__} is built without CUDA",
                BROKEN,
                "pip install --force-reinstall torch torchvision",
            )
        why = f"CUDA_VISIBLE_DEVICES={masked!r} hides them" if masked is not None else "CUDA does not start"
        mend = "unset CUDA_VISIBLE_DEVICES" if masked is not None else "nvidia-smi (the driver must be as new as CUDA "
        mend += "" if masked is not None else f"{torch.version.cuda})"
        return Finding("devices", f"{present} GPUs, of which torch sees none: {why}", BROKEN, mend)
    count = torch.cuda.device_count()
    facts = [torch.cuda.get_device_properties(i) for i in range(count)]
    free = [torch.cuda.mem_get_info(i)[0] / _GIB for i in range(count)]
    found = "; ".join(
        f"{i}: {each.name}, {each.total_memory / _GIB:.0f} GiB ({free[i]:.0f} free)" for i, each in enumerate(facts)
    )
    found += "" if torch.cuda.is_bf16_supported() else "; no bf16: use loop.mixed_precision=fp16"
    if processes > count:
        return Finding(
            "devices",
            f"{found}: fewer than the {processes} processes of the launcher's configuration",
            BROKEN,
            f"accelerate launch --num_processes {count} -m ipad_train ...",
        )
    hidden = f" ({present - count} more are hidden by CUDA_VISIBLE_DEVICES={masked!r})" if present > count else ""
    return Finding("devices", f"{count} visible{hidden}: {found}", CARE if hidden else OK)


def check_threads(config: RunConfig, processes: int, environment: Mapping[str, str] = os.environ) -> Finding:
    """Whether the threads of all processes fit on the cores."""
    cores, text = available_cores(), environment.get(VARIABLE)
    if text is not None and (not text.isdigit() or int(text) < 1):
        return Finding(
            "threads", f"{VARIABLE}={text!r} is no positive number, and is passed over", CARE, f"unset {VARIABLE}"
        )
    asked = config.loop.threads or (int(text) if text else None)
    if asked is None:
        return Finding("threads", f"{cores} cores; a run divides them among its processes")
    source = "loop.threads" if config.loop.threads else VARIABLE
    if asked * processes > cores:
        return Finding(
            "threads",
            f"{source}={asked} for each of {processes} processes on {cores} cores: they wait for each other",
            CARE,
            f"unset {VARIABLE}, or loop.threads={max(1, cores // processes)}",
        )
    if asked < cores // processes:
        return Finding(
            "threads",
            f"{source}={asked} leaves {cores - asked * processes} of {cores} cores idle on a CPU",
            CARE,
            f"unset {VARIABLE}, or loop.threads={cores // processes}",
        )
    return Finding("threads", f"{asked} for each of {processes} processes on {cores} cores ({source})")


def check_shared_memory(config: RunConfig, shared: Path = _SHARED) -> Finding:
    """Whether the batches of all loader workers fit into shared memory, through which they are handed over.

    Args:
        shared: Where the system keeps it.
    """
    name, workers = str(shared), config.data.num_workers
    if not shared.is_dir():
        return Finding(name, "not there; loader workers use it on Linux only")
    free = shutil.disk_usage(shared).free
    images = max((_images(config, stage) for _, stage in config.stages()), default=0)
    needed = _AHEAD * workers * images * 3 * config.data.detail_size**2  # of all processes together
    found = f"{_size(free)} free; {workers} loader workers a process hold up to {_size(needed)} of batches"
    if needed <= free:
        return Finding(name, found)
    enough = max(0, workers * free // max(1, needed))
    return Finding(
        name,
        found,
        BROKEN,
        f"docker run --shm-size={max(1, -(-2 * needed // _GIB))}g ... (or mount -o remount,size=...), or "
        f"data.num_workers={enough}",
    )


def check_disk(config: RunConfig) -> Finding:
    """Whether the run's checkpoints fit where it writes them, and whether that place can be written to."""
    out = Path(config.output_dir).expanduser().absolute()
    place = next(folder for folder in (out, *out.parents) if folder.exists())
    if not place.is_dir():
        return Finding(
            "output_dir", f"{place} is a file, and {out} lies below it", BROKEN, "output_dir=ANOTHER/FOLDER"
        )
    try:
        with tempfile.NamedTemporaryFile(dir=place, prefix=".ipad-doctor-") as file:
            file.write(b"0")
            file.flush()
    except OSError as error:
        return Finding(
            "output_dir",
            f"{place} cannot be written to: {error.strerror or error}",
            BROKEN,
            f"output_dir=ANOTHER/FOLDER, or: chmod u+w {place}",
        )
    free, needed = shutil.disk_usage(place).free, checkpoint_bytes(config)
    copies = config.loop.keep_checkpoints + 1  # one is being written
    found = f"{_size(free)} free in {place}; {copies} checkpoints take about {_size(copies * needed)}"
    if free < copies * needed:
        return Finding(
            "output_dir", found, BROKEN, "output_dir=ON/ANOTHER/DISK, or loop.keep_checkpoints=1, or make room there"
        )
    return Finding("output_dir", found)


def checkpoint_bytes(config: RunConfig) -> int:
    """Size of a checkpoint: weights, Adam's two numbers, the momentum copy, and queues where the dataset's size is known."""
    import torch

    try:
        from ipad_core import create_model

        options = {**config.model.options}
        for trunk in ("trunk", "semantic_trunk"):
            if isinstance(options.get(trunk), Mapping):
                options[trunk] = {k: v for k, v in options[trunk].items() if k not in ("pretrained", "weights")}
        with torch.device("meta"):
            model = create_model(config.model.name, num_attributes=8, **options)
    except Exception:  # whatever stands in the way of the network has a finding of its own, or the run's first lines
        return _GIB
    numbers = sum(parameter.numel() for parameter in model.parameters())
    dim = getattr(model, "options", {}).get("embed_dim", 1024)
    queued = 2 * _VALUES.get(config.data.name, 0) * (config.clusters.queue_length or 1000) * dim
    width = 4 if config.clusters.queue_dtype == "float32" else 2
    return 16 * numbers + (width * queued if config.stage2.is_trained and config.clusters.enabled else 0)


def _images(config: RunConfig, stage: StageConfig) -> int:
    return stage.batch_size * (3 if stage.sampler == "triplet" else 1)  # views are made on the device


def _graphics_cards() -> int:
    """GPUs that the driver knows; 0 where there is no driver."""
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines()) if listed.returncode == 0 else 0


def _size(count: float) -> str:
    return f"{count / _GIB:.1f} GiB" if count >= _GIB / 10 else f"{count / 2**20:.1f} MiB"
