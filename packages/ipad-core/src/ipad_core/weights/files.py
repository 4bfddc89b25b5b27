"""Files of weights: what they hold, read without running anything that is in them."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ipad_core._timm import timm

# Where checkpoints keep their state dict; the averaged weights come first, as in timm.
_CONTAINERS = ("state_dict_ema", "model_ema", "state_dict", "model")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a ``.safetensors`` file, or of a state dict or checkpoint that ``torch.save`` wrote.

    Prefixes that data-parallel and compiled networks leave behind (``module.``, ``_orig_mod.``) are taken off.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, holds Python objects beside tensors, or holds no tensors.
    """
    if not path.is_file():
        raise FileNotFoundError(f"weights: there is no file {path}")
    try:
        content = load_file(path) if path.suffix == ".safetensors" else _read_torch(path)
    except Exception as error:  # whatever the bytes provoke in the two readers
        raise ValueError(f"weights: {path} {_what_is_wrong(error)}") from None
    for key in _CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    tensors = {}
    if isinstance(content, Mapping):
        tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ValueError(f"weights: {path} holds no named tensors; a state dict or a .safetensors file is wanted")
    return timm.models.clean_state_dict(tensors)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_torch(path: Path) -> Any:
    # timm's training script puts its arguments, an argparse.Namespace, beside the weights.
    allow = getattr(torch.serialization, "safe_globals", lambda names: contextlib.nullcontext())
    with allow([argparse.Namespace]):
        return torch.load(path, map_location="cpu", weights_only=True)


def _what_is_wrong(error: Exception) -> str:
    objects = re.findall(r"GLOBAL ([\w.]+)", str(error))
    if objects:
        return (
            f"holds Python objects ({', '.join(dict.fromkeys(objects))}), and nothing is ever unpickled; save its state "
            "dict alone, best as .safetensors"
        )
    first = str(error).strip().split("\n")[0] or type(error).__name__
    return f"is damaged, incomplete or no file of weights: {first}"
