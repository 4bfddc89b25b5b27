"""Files of a frozen trunk's maps, half-precision numbers that are memory-mapped: how they are written and read."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from numpy.lib.format import open_memmap
from tqdm.auto import tqdm


class KeptMaps:
    """Maps of one split: rows of the dataset in, one tensor a stage of the trunk out.

    Args:
        folder: What :func:`write_maps` wrote.
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


def share_of(things: np.ndarray, size: int, accelerator: Accelerator) -> list[np.ndarray]:
    """The batches that this process makes: every ``num_processes``-th of those of ``size`` things, perhaps none.

    A thing is in the same batch for any number of processes, so that its maps are the same to the bit.
    """
    batches = [things[start : start + size] for start in range(0, len(things), size)]
    return batches[accelerator.process_index :: accelerator.num_processes]


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
    if not files:  # a process without a batch meets the others where they open the files
        for _ in names:
            accelerator.wait_for_everyone()
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


def digest_of(module: torch.nn.Module, facts: object) -> str:
    """Sixteen hexadecimal digits that differ wherever a module's tensors or the facts differ."""
    digest = hashlib.sha256(repr(facts).encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().float().numpy().tobytes())
    return digest.hexdigest()[:16]
