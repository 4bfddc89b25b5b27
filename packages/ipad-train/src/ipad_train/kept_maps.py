"""The maps of a frozen trunk, made once for every image of a split and its mirror image, and read by row ever after.

A trunk that does not learn gives an image the same map in every epoch, of every method, in every evaluation; and on a CPU it
is most of the work. The files hold half-precision numbers and are memory-mapped.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import datasets
import numpy as np
import torch
from accelerate import Accelerator
from numpy.lib.format import open_memmap
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from ipad_core import AttributeEmbedder
from ipad_data import BatchDataset, BatchPlan
from ipad_train.config import DataConfig, RunConfig
from ipad_train.data import RunData

_BATCH = 32  # images


class KeptMaps:
    """Maps of one split: rows of the dataset in, one tensor a stage of the trunk out.

    Args:
        folder: What :func:`keep_maps` wrote.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._plain = [np.load(file, mmap_mode="r") for file in sorted(folder.glob("stage*.npy"))]
        self._mirrored = [np.load(file, mmap_mode="r") for file in sorted(folder.glob("mirrored*.npy"))]

    def __len__(self) -> int:
        return len(self._plain[0])

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return sum(array.nbytes for array in [*self._plain, *self._mirrored])

    def read(self, rows: torch.Tensor, mirrored: torch.Tensor | None = None) -> list[torch.Tensor]:
        """Float16 maps ``(N, C, h, w)`` of each stage.

        Args:
            rows: ``(N,)`` rows of the split.
            mirrored: ``(N,)`` bool, which of them to read as mirror images; none of them when None.

        Raises:
            ValueError: mirror images of a split that was kept without them.
        """
        index = rows.cpu().numpy()
        if mirrored is None:
            return [torch.from_numpy(array[index]) for array in self._plain]
        if not self._mirrored:
            raise ValueError(f"mirrored must be None: {self.folder} was kept without mirror images")
        chosen = mirrored.cpu().numpy()
        maps = []
        for plain, other in zip(self._plain, self._mirrored, strict=True):
            out = np.empty((len(index), *plain.shape[1:]), dtype=plain.dtype)
            out[~chosen], out[chosen] = plain[index[~chosen]], other[index[chosen]]
            maps.append(torch.from_numpy(out))
        return maps


def maps_dir(config: RunConfig) -> Path:
    """Where a run's maps lie: ``data.maps_dir``, or ``maps`` in its folder."""
    return Path(config.data.maps_dir or Path(config.output_dir) / "maps")


def can_keep_maps(model: AttributeEmbedder, config: DataConfig) -> bool:
    """Whether a training may read its trunk's maps from files.

    The trunk must be frozen whole (``trunk: {freeze: all}``), and an image may change in training by a flip only.
    """
    changes = bool(config.augmentation) or config.anchor_views or config.on_error != "raise"
    return config.keep_maps and model.trunk.is_frozen and not changes


def keep_maps(
    model: AttributeEmbedder,
    dataset: datasets.Dataset,
    config: DataConfig,
    root: Path,
    accelerator: Accelerator,
    mirrored: bool,
    announce: Callable[[str], None] = lambda line: None,
) -> KeptMaps:
    """Make the maps of a split, or find those of an equal trunk, data and sizes.

    Each process makes its share of the images. What carries a final name is complete: a killed process leaves nothing that
    a later one would take for whole.

    Args:
        model: Its trunk makes the maps.
        dataset: The split.
        config: How its images are decoded.
        root: Holds one folder for each trunk, split and size.
        mirrored: Keep the maps of the mirror images, too.
        announce: Receives a line where something is made.

    Raises:
        OSError: the disk is full.
    """
    folder = root / _name(model, dataset, config, mirrored)
    accelerator.wait_for_everyone()
    if not folder.is_dir():
        _make(model, dataset, config, folder, accelerator, mirrored)
        kept = KeptMaps(folder)
        announce(f"kept the trunk's maps of {len(kept)} images: {kept.nbytes / 2**20:.0f} MiB in {folder}")
    return KeptMaps(folder)


def kept_split(
    model: AttributeEmbedder, data: RunData, split: str, config: RunConfig, accelerator: Accelerator
) -> KeptMaps | None:
    """Maps of a split for evaluation, without mirror images; None where the trunk learns."""
    if not can_keep_maps(model, config.data):
        return None
    return keep_maps(model, data.splits[split], config.data, maps_dir(config), accelerator, mirrored=False)


@torch.no_grad()
def _make(
    model: AttributeEmbedder,
    dataset: datasets.Dataset,
    config: DataConfig,
    folder: Path,
    accelerator: Accelerator,
    mirrored: bool,
) -> None:
    rank, world_size = accelerator.process_index, accelerator.num_processes
    building = folder.with_name(f".building-{folder.name}")
    size = config.detail_size
    probe = model.keep(torch.zeros(1, 3, size, size, dtype=torch.uint8, device=accelerator.device))
    shapes = [(dataset.num_rows, *stage.shape[1:]) for stage in probe.stages]
    names = ["stage", *(["mirrored"] if mirrored else [])]
    if accelerator.is_main_process:
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        for name in names:
            for number, shape in enumerate(shapes):
                open_memmap(building / f"{name}{number}.npy", "w+", np.float16, shape).flush()
    accelerator.wait_for_everyone()
    files = {
        name: [np.load(building / f"{name}{number}.npy", mmap_mode="r+") for number in range(len(shapes))]
        for name in names
    }
    rows = np.arange(dataset.num_rows)
    rows = rows[len(rows) * rank // world_size : len(rows) * (rank + 1) // world_size]
    nothing = np.empty(0, dtype=np.int64)
    plans = [BatchPlan(rows[i : i + _BATCH], nothing, nothing, nothing) for i in range(0, len(rows), _BATCH)]
    loader = DataLoader(
        BatchDataset(dataset, size), sampler=plans, batch_size=None, num_workers=config.num_workers,
        prefetch_factor=2 if config.num_workers else None,
    )  # fmt: skip
    modes = model.training
    model.eval()
    for batch in tqdm(loader, desc="maps of the trunk", leave=False, disable=not accelerator.is_main_process):
        images, mine = batch["images"].to(accelerator.device), batch["rows"].numpy()
        for name in names:
            with fast_precision(accelerator):
                maps = model.keep(images.flip(-1) if name == "mirrored" else images, with_images=False)
            for file, stage in zip(files[name], maps.stages, strict=True):
                file[mine] = stage.to(torch.float16).cpu().numpy()
    model.train(modes)
    for file in (file for group in files.values() for file in group):
        file.flush()
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        building.rename(folder)
    accelerator.wait_for_everyone()


def fast_precision(accelerator: Accelerator) -> AbstractContextManager:
    """bfloat16 where the processor computes in it, which is twice as fast for a trunk without gradients; else the run's.

    On a CPU without such instructions it would be slower than float32.
    """
    if accelerator.device.type != "cpu":
        return accelerator.autocast()
    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    if known.get("avx512_bf16") or known.get("amx_bf16"):
        return torch.autocast("cpu", torch.bfloat16)
    return nullcontext()


def _name(model: AttributeEmbedder, dataset: datasets.Dataset, config: DataConfig, mirrored: bool) -> str:
    """A name that differs wherever the maps would."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.trunk.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    facts = [
        str(model.trunk.stage), model.image_size, config.detail_size, dataset._fingerprint, dataset.num_rows, mirrored,
    ]  # fmt: skip
    digest.update(repr(facts).encode())
    return f"{dataset.split}-{digest.hexdigest()[:16]}"
