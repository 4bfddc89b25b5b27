"""Checkpoints that survive a kill: written beside, verified by digest, renamed into place, never unpickled.

``checkpoints/step-00000200/`` holds ``model/`` (loads with ``from_pretrained``), ``objective.safetensors`` (momentum
encoder, queues, centers), per process ``optimizer-0.safetensors`` and ``random-0.safetensors``, and ``state.json``
with the position of the run and the SHA-256 of every other file.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ipad_train.run_folder import RunFolder

_STATE = "state.json"


class CheckpointError(RuntimeError):
    """A checkpoint is missing, incomplete, damaged, or belongs to another configuration."""


def checkpoint_path(run_dir: Path, step: int) -> Path:
    """Folder of the checkpoint of a global step."""
    return RunFolder(run_dir).checkpoints / f"step-{step:08d}"


def write_checkpoint(
    run_dir: Path,
    step: int,
    state: dict[str, Any],
    write_shared: Callable[[Path], None],
    write_own: Callable[[Path], None],
    *,
    keep: int,
    is_main: bool,
    barrier: Callable[[], None],
) -> Path:
    """Write a checkpoint; at every moment, what carries a final name is complete.

    Args:
        state: JSON-able position of the run.
        write_shared: Called on the main process with the folder to fill.
        write_own: Called on every process with the same folder, after ``write_shared``.
        keep: Newest checkpoints to keep.
        is_main: Whether this process is the main one.
        barrier: Waits for all processes.

    Raises:
        OSError: the disk is full or not writable; the folder under construction is left out of every later search.
    """
    final = checkpoint_path(run_dir, step)
    building = final.with_name(f".building-{final.name}")
    if is_main:
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        write_shared(building)
    barrier()
    write_own(building)
    barrier()
    if is_main:
        digests = {str(f.relative_to(building)): _digest(f) for f in sorted(building.rglob("*")) if f.is_file()}
        write_json(building / _STATE, {**state, "step": step, "files": digests})
        for file in building.rglob("*"):
            _fsync(file)
        if final.exists():
            shutil.rmtree(final)
        building.rename(final)
        _fsync(final.parent)
        for old in _checkpoints(run_dir)[keep:]:
            shutil.rmtree(old)
    barrier()
    return final


def find_checkpoint(run_dir: Path) -> Path | None:
    """Newest whole checkpoint of a run; damaged ones are skipped with a warning that says why. None where there is none."""
    for path in _checkpoints(run_dir):
        try:
            read_state(path)
        except CheckpointError as error:
            warnings.warn(f"skipping a damaged checkpoint: {error}", stacklevel=2)
        else:
            return path
    return None


def read_state(path: Path) -> dict[str, Any]:
    """State of a checkpoint after checking every file's digest.

    Raises:
        CheckpointError: no checkpoint there, or a file is missing or altered; the message names it.
    """
    try:
        state = json.loads((path / _STATE).read_text(encoding="utf-8"))
        files = state["files"]
    except FileNotFoundError:
        raise CheckpointError(f"{path} is no checkpoint: it has no {_STATE}") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path / _STATE} cannot be read: {error!r}") from None
    for name, digest in files.items():
        if not (path / name).is_file():
            raise CheckpointError(f"{path / name} is missing")
        if _digest(path / name) != digest:
            raise CheckpointError(f"{path / name} is damaged: its SHA-256 is not the recorded one")
    return state


def replace_folder(final: Path, write: Callable[[Path], None]) -> None:
    """Fill a folder beside ``final``, then put it in its place; a kill in between leaves the old or the new one."""
    building, old = final.with_name(f".building-{final.name}"), final.with_name(f".old-{final.name}")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    write(building)
    if final.exists():
        shutil.rmtree(old, ignore_errors=True)
        final.rename(old)
    building.rename(final)
    shutil.rmtree(old, ignore_errors=True)


def recover_folder(final: Path) -> None:
    """Undo a :func:`replace_folder` that was killed between its two renames."""
    old = final.with_name(f".old-{final.name}")
    if not final.exists() and old.exists():
        old.rename(final)


def write_json(path: Path, value: Any) -> None:
    """Write JSON beside and rename it into place."""
    beside = path.with_name(f".{path.name}.partial")
    beside.write_text(json.dumps(value, indent=1, ensure_ascii=False), encoding="utf-8")
    beside.replace(path)


def _checkpoints(run_dir: Path) -> list[Path]:
    return sorted(RunFolder(run_dir).checkpoints.glob("step-*"), reverse=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
