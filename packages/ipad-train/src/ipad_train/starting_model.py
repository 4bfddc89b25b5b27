"""A whole network that a run starts from, ``model.init``: what is taken over from it, and what is not."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import torch

from ipad_core import AttributeEmbedder
from ipad_core.backbones import without_weights
from ipad_train.config import RunConfig, StageConfig
from ipad_train.run_folder import model_folder

SECOND_BRANCH = "semantic."


def load_start(source: str) -> AttributeEmbedder:
    """The model of a run, a folder or a hub repository.

    Raises:
        FileNotFoundError: there is none; the message names the key.
        ValueError: its files do not fit each other.
    """
    folder = model_folder(Path(source))
    try:
        return AttributeEmbedder.from_pretrained(folder if folder.is_dir() else source)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"model.init={source}: {error}") from None


def without_own_weights(config: RunConfig) -> RunConfig:
    """The configuration with a network that looks for no weights of its own: ``model.init`` has them, stage 0's too.

    Raises:
        ValueError: a stage 0 that is to be trained in any case.
    """
    if config.stage0.is_trained and config.stage0.when == "always":
        raise ValueError(
            f"model.init={config.model.init} holds a trained trunk, and stage0 would train another; set stage0.steps=0"
        )
    model = dataclasses.replace(config.model, options=without_weights(config.model.options))
    return dataclasses.replace(config, model=model, stage0=StageConfig())


def take_over(model: AttributeEmbedder, other: AttributeEmbedder, source: str, branch: str | None = None) -> list[str]:
    """Copy every tensor that both networks have in the same shape; returns lines that name all others.

    Args:
        model: Is changed.
        other: Where the tensors come from.
        source: What the lines call it.
        branch: ``first`` or ``second``, to copy that one only; None for all.

    Raises:
        ValueError: not one tensor fits.
    """
    names = {None: lambda name: True, "second": _is_second, "first": lambda name: not _is_second(name)}[branch]
    mine = {name: tensor for name, tensor in model.state_dict().items() if names(name)}
    theirs = {name: tensor for name, tensor in other.state_dict().items() if names(name)}
    fitting = [name for name in mine if name in theirs and mine[name].shape == theirs[name].shape]
    if not fitting and branch != "second":
        raise ValueError(
            f"model.init={source} holds a {other.architecture!r} of which no tensor fits this {model.architecture!r}"
        )
    with torch.no_grad():
        for name in fitting:
            mine[name].copy_(theirs[name])
    for part, trunk in model.trunks().items():
        if part in other.trunks() and (branch is None or (branch == "second") == (part == SECOND_BRANCH.rstrip("."))):
            trunk.started_from = dict(other.trunks()[part].started_from)
    which = f"the {branch} branch" if branch else "the network"
    lines = [f"{which} starts from {source}: {len(fitting)} of its {len(mine)} tensors"]
    shaped = [name for name in mine if name in theirs and name not in fitting]
    for what, listed in (
        ("new, as they are of another shape there", [f"{n} {tuple(theirs[n].shape)}" for n in shaped]),
        ("new, as they are not there", _grouped(name for name in mine if name not in theirs)),
        ("not used from there", _grouped(name for name in theirs if name not in mine)),
    ):
        if listed:
            lines.append(f"  {what}: {', '.join(listed)}")
    return lines


def _is_second(name: str) -> bool:
    return name.startswith(SECOND_BRANCH)


def _grouped(names: Iterable[str]) -> list[str]:
    """Names by their first two parts, with their number."""
    counts = Counter(".".join(name.split(".")[:2]) for name in names)
    return [group if count == 1 else f"{group}.* ({count})" for group, count in counts.items()]
