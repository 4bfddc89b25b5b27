"""Saved re-rankers: a folder with ``config.json`` and, where there are weights, one file of them.

``config.json`` names the file of weights that belongs to it, and is replaced last, in one step: an interrupted save
leaves what was there before. Nothing is unpickled, and nothing is allocated that the files do not hold.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from ipad_rerank.rerankers.protocols import Reranker
from ipad_rerank.search.vectors import one_of

if TYPE_CHECKING:
    from ipad_rerank.rerankers.base import BaseReranker

FORMAT = "ipad-rerank"
VERSION = 3
Tensors: TypeAlias = dict[str, Tensor]
Config: TypeAlias = dict[str, Any]
"""Settings by name, as JSON values."""


def pack(reranker: Reranker) -> tuple[Config, Tensors]:
    """Kind and configuration of a re-ranker, and its weights.

    Raises:
        TypeError: a re-ranker that is not of this package.
    """
    names = {cls: name for name, cls in kinds().items()}
    if type(reranker) not in names:
        raise TypeError(f"cannot save {reranker!r}; known are {', '.join(names.values())}")
    return {"kind": names[type(reranker)]} | reranker.to_config(), reranker.tensors()


def unpack(config: Config, tensors: Tensors) -> BaseReranker:
    """The re-ranker of :func:`pack`."""
    config = dict(config)
    kind = one_of(kinds(), config.pop("kind", None), "kind")
    return kinds()[kind].from_config(config, tensors)


def kinds() -> dict[str, type[BaseReranker]]:
    """All that can be saved, by name: classes with ``to_config`` and ``from_config``, and with weights ``tensors``."""
    from ipad_rerank.rerankers.chain import Chain  # here, since a chain saves its steps by this module
    from ipad_rerank.rerankers.feature_reasoning import FeatureReasoning
    from ipad_rerank.rerankers.guard import Guard
    from ipad_rerank.rerankers.registry import RERANKERS

    return {"feature_reasoning": FeatureReasoning, "chain": Chain, "guard": Guard, **RERANKERS}


def save(reranker: Reranker, folder: str | Path) -> None:
    """Write a re-ranker of this package into ``folder``: what re-ranker was saved there before is replaced."""
    config, tensors = pack(reranker)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = None
    if tensors:
        content = to_bytes({name: tensor.detach().cpu().clone() for name, tensor in tensors.items()})
        weights = _weights_name(content)
        _replace(folder / weights, content)
    config = {"format": FORMAT, "version": VERSION, "weights": weights} | config
    _replace(folder / "config.json", (json.dumps(config, indent=2) + "\n").encode())
    for old in folder.glob("weights-*.safetensors*"):
        if old.name != weights:
            old.unlink(missing_ok=True)


def load(folder: str | Path) -> BaseReranker:
    """Read any saved re-ranker: Feature Reasoning, a chain, or one with settings only.

    Args:
        folder: As ``save_pretrained`` and ``ipad-rerank fit`` wrote it.

    Raises:
        FileNotFoundError: the folder or one of its files is missing.
        ValueError: another program's folder, another version, or damaged content.
    """
    folder = Path(folder)
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no config.json; save_pretrained writes one")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(config, dict) or not str(config.pop("format", "")).startswith(FORMAT):
        raise ValueError(f'{path} was not written by ipad-rerank: it lacks "format": "{FORMAT}"')
    version = config.pop("version", None)
    if version != VERSION:
        raise ValueError(f"{path} has version {version}, this release reads version {VERSION}")
    name = config.pop("weights", None)
    tensors = {} if name is None else _read_weights(folder, name)
    try:
        reranker = unpack(config, tensors)
    except (AttributeError, TypeError, ValueError, KeyError, IndexError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{folder} is damaged, config.json and the weights do not fit: {error}") from error
    if name is not None and name != _weights_name((folder / name).read_bytes()):
        raise ValueError(f"{folder / name} is damaged: its content is not what was saved under this name")
    return reranker


def _read_weights(folder: Path, name: object) -> Tensors:
    path = folder / str(name)
    if path.parent != folder:
        raise ValueError(f"{folder} is damaged: weights must be a file in it, got {name!r}")
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no {name}; save_pretrained writes it beside config.json")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} is not a readable safetensors file: {error}") from error
    broken = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise ValueError(f"{path} holds NaN or infinite values in {', '.join(broken)}")
    return tensors


def _weights_name(content: bytes) -> str:
    return f"weights-{hashlib.blake2b(content, digest_size=6).hexdigest()}.safetensors"


def _replace(path: Path, content: bytes) -> None:
    """Write beside, to the disk, then rename into place."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    with contextlib.suppress(OSError):  # the directory's entry too, where the system can
        directory = os.open(path.parent, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)
