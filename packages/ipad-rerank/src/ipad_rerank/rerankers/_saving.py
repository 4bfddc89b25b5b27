"""A folder with config.json and model.safetensors. Nothing is unpickled."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

T = TypeVar("T")
FORMAT = "ipad-rerank feature reasoning"
VERSION = 1


def save_folder(folder: str | Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write both files; each is written beside and renamed into place."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    part = folder / "model.safetensors.part"
    save_file(weights, part)
    part.replace(folder / "model.safetensors")
    part = folder / "config.json.part"
    part.write_text(json.dumps({"format": FORMAT, "version": VERSION} | config, indent=2) + "\n", encoding="utf-8")
    part.replace(folder / "config.json")


def load_folder(folder: str | Path, restore: Callable[[dict[str, Any], dict[str, Tensor]], T]) -> T:
    """Give both files' content to ``restore``.

    Raises:
        FileNotFoundError: the folder or one of the files is missing.
        ValueError: another program's folder, a newer version, or damaged content.
    """
    folder = Path(folder)
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder} holds no {name}; save_pretrained writes config.json and model.safetensors"
            )
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(config, dict) or config.pop("format", None) != FORMAT:
        raise ValueError(f'{path} was not written by ipad-rerank: it lacks "format": "{FORMAT}"')
    version = config.pop("version", None)
    if version != VERSION:
        raise ValueError(f"{path} has version {version}, this release reads version {VERSION}")
    path = folder / "model.safetensors"
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} is not a readable safetensors file: {error}") from error
    broken = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise ValueError(f"{path} holds NaN or infinite values in {', '.join(broken)}")
    try:
        return restore(config, tensors)
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        raise ValueError(f"{folder} is damaged, config.json and model.safetensors do not fit: {error}") from error
