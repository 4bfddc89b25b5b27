"""The maps of a frozen trunk, made once for every image of a split and its mirror image, and read by row ever after.

A trunk that does not learn gives an image the same map in every epoch, of every method, in every evaluation; and on a CPU it
is most of the work. The files hold half-precision numbers and are memory-mapped.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
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
from ipad_train.folded_trunk import folded
from ipad_train.run_folder import RunFolder
from ipad_train.vectors import SplitVectors, reads_vectors, vectors_of

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
    return Path(config.data.maps_dir or RunFolder(Path(config.output_dir)).maps)


def forget_maps(config: RunConfig) -> None:
    """Delete what a run kept for itself: its crops, and its maps where no other run was told to share them."""
    own = RunFolder(Path(config.output_dir)).maps
    for folder in own.glob("*" if config.data.maps_dir is None else "*-crops-*"):
        shutil.rmtree(folder)
    if own.is_dir() and not any(own.iterdir()):
        own.rmdir()


def can_keep_maps(model: AttributeEmbedder, config: DataConfig) -> bool:
    """Whether a training may read its trunk's maps from files.

    The trunk must be frozen whole (``trunk: {freeze: all}``), and an image may change in training by a flip only. Vectors
    are read from their file, whatever is configured.
    """
    if reads_vectors(model):
        return True
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
) -> KeptMaps | SplitVectors:
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
        ValueError: as :func:`ipad_train.vectors.vectors_of`.
    """
    if (vectors := vectors_of(model, dataset, config)) is not None:
        return vectors
    folder = root / _name(model, dataset, config, mirrored)
    accelerator.wait_for_everyone()
    if not folder.is_dir():
        _make(model, dataset, config, folder, accelerator, mirrored)
        kept = KeptMaps(folder)
        announce(f"kept the trunk's maps of {len(kept)} images: {kept.nbytes / 2**20:.0f} MiB in {folder}")
    return KeptMaps(folder)


def kept_split(
    model: AttributeEmbedder, data: RunData, split: str, config: RunConfig, accelerator: Accelerator
) -> KeptMaps | SplitVectors | None:
    """Maps of a split for evaluation, without mirror images; None where the trunk learns, or no other run shares them.

    A run that is evaluated by itself leaves no files behind.
    """
    if reads_vectors(model):
        return vectors_of(model, data.splits[split], config.data)
    if config.data.maps_dir is None or not can_keep_maps(model, config.data):
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
    rows = share_of(dataset.num_rows, accelerator)
    nothing = np.empty(0, dtype=np.int64)
    plans = [BatchPlan(rows[i : i + _BATCH], nothing, nothing, nothing) for i in range(0, len(rows), _BATCH)]

    trunk = folded(model.trunk)

    def maps(batch: dict[str, torch.Tensor], mirror: bool) -> list[torch.Tensor]:
        images = batch["images"].to(accelerator.device)
        with fast_precision(accelerator):
            return trunk.stage_maps(model.trunk_input(model.normalized(images.flip(-1) if mirror else images)))

    def batches() -> Iterator[tuple[np.ndarray, dict[str, torch.Tensor]]]:
        images = BatchDataset(dataset, config.detail_size)
        for batch in DataLoader(
            images, sampler=plans, batch_size=None, num_workers=config.num_workers,
            prefetch_factor=2 if config.num_workers else None,
        ):  # fmt: skip
            yield batch["rows"].numpy(), batch

    was_training = model.training
    model.eval()
    write_maps(folder, dataset.num_rows, batches(), len(plans), maps, mirrored, accelerator, "maps of the trunk")
    model.train(was_training)


def share_of(count: int, accelerator: Accelerator) -> np.ndarray:
    """The numbers below ``count`` that this process takes.

    Raises:
        RuntimeError: there are fewer than processes, so that one would have nothing to write and the others wait for it.
    """
    rank, world_size = accelerator.process_index, accelerator.num_processes
    if count < world_size:
        raise RuntimeError(f"{count} images are too few to keep maps of with {world_size} processes; use fewer")
    return np.arange(count * rank // world_size, count * (rank + 1) // world_size)


def write_maps(
    folder: Path,
    count: int,
    batches: Iterator[tuple[np.ndarray, dict[str, torch.Tensor]]],
    length: int,
    maps: Callable[[dict[str, torch.Tensor], bool], list[torch.Tensor]],
    mirrored: bool,
    accelerator: Accelerator,
    description: str,
    beside: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write maps of ``count`` things into a folder; what carries its name is whole.

    Args:
        folder: Its final name.
        count: Maps of all processes.
        batches: Of this process: which of the things, and what ``maps`` makes them from.
        length: Number of batches.
        maps: Batch and whether to mirror it -> one tensor a stage.
        mirrored: Write mirror images as well.
        description: Of the progress bar.
        beside: File name -> array to write beside the maps.
    """
    building = folder.with_name(f".building-{folder.name}")
    names = ["stage", *(["mirrored"] if mirrored else [])]
    files: dict[str, np.ndarray] = {}
    bar = tqdm(batches, desc=description, total=length, leave=False, disable=not accelerator.is_main_process)
    for mine, batch in bar:
        for name in names:
            stages = [stage.to(torch.float16).cpu().numpy() for stage in maps(batch, name == "mirrored")]
            if not all(f"{name}{number}" in files for number in range(len(stages))):
                files |= _open(building, name, count, stages, accelerator, fresh=not files)
            for number, stage in enumerate(stages):
                files[f"{name}{number}"][mine] = stage
    for file in files.values():
        file.flush()
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        for name, array in (beside or {}).items():
            np.save(building / name, array)
        building.rename(folder)
    accelerator.wait_for_everyone()


def _open(
    building: Path, name: str, count: int, stages: list[np.ndarray], accelerator: Accelerator, fresh: bool
) -> dict[str, np.ndarray]:
    """Files for the stages' maps of all processes, made by the main one."""
    if accelerator.is_main_process:
        if fresh:
            shutil.rmtree(building, ignore_errors=True)
            building.mkdir(parents=True)
        for number, stage in enumerate(stages):
            open_memmap(building / f"{name}{number}.npy", "w+", np.float16, (count, *stage.shape[1:])).flush()
    accelerator.wait_for_everyone()
    return {
        f"{name}{number}": np.load(building / f"{name}{number}.npy", mmap_mode="r+") for number in range(len(stages))
    }


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
    facts = [model.trunk.stage, model.image_size, config.detail_size, dataset._fingerprint, dataset.num_rows, mirrored]
    return f"{dataset.split}-{digest_of(model.trunk, facts)}"


def digest_of(module: torch.nn.Module, facts: object) -> str:
    """Sixteen hexadecimal digits that differ wherever a module's tensors or the facts differ."""
    digest = hashlib.sha256(repr(facts).encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().float().numpy().tobytes())
    return digest.hexdigest()[:16]
