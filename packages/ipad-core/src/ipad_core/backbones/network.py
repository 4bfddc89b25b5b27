"""Whole networks of timm, built for the size of the images that they will see."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import torch
from torch import nn

from ipad_core._timm import timm


def create_network(name: str, image_size: int, options: Mapping[str, Any] | None = None) -> nn.Module:
    """A network of timm from random weights, with its classifier.

    One whose position embeddings are made for one size gets them resized to that of each image where timm can
    (``dynamic_img_size``), so that its tensors do not depend on ``image_size``; else they are made for ``image_size``.

    Args:
        name: Its name, with or without the tag of its weights, e.g. ``resnet50`` or ``resnet50.tv_in1k``.
        image_size: Side of the images, px.
        options: Further arguments of ``timm.create_model``.

    Raises:
        ValueError: timm knows no such network or tag, or cannot read it stage by stage.
        TypeError: an option that the network does not take.
    """
    check_name(name)
    given = dict(options or {})
    if "file" in (given.get("pretrained_cfg_overlay") or {}):
        raise ValueError("the trunk's file of weights is given as `weights`, not in `pretrained_cfg_overlay`")
    sizes: list[dict[str, Any]] = []
    if getattr(timm.get_pretrained_cfg(name), "fixed_input_size", False):
        sizes = [{"dynamic_img_size": True}, {"img_size": image_size}]
    try:
        network = _create(name, given, [size for size in sizes if not set(size) & set(given)])
    except TypeError as error:
        raise TypeError(f"timm's {name!r} cannot be built with the options {given}: {error}") from error
    if not hasattr(network, "forward_intermediates"):
        raise ValueError(f"timm {timm.__version__} cannot read {name!r} stage by stage; take another network")
    return network


def _create(name: str, options: dict[str, Any], sizes: list[dict[str, Any]]) -> nn.Module:
    """The network with the first of ``sizes`` that its constructor takes, or with none."""
    for size in sizes:
        try:
            return timm.create_model(name, **size, **options)
        except TypeError as error:
            if not any(key in str(error) for key in size):
                raise
    return timm.create_model(name, **options)


def check_name(name: str) -> None:
    """Raise a ValueError with the nearest names if timm knows no such network, or no such tag of one."""
    architecture, _, tag = name.partition(".")
    if ":" in name or not timm.is_model(architecture):
        near = get_close_matches(architecture, timm.list_models(), n=4)
        raise ValueError(
            f"timm knows no network {name!r}; did you mean one of: {', '.join(near) or 'timm.list_models()'}?"
        )
    if tag and name not in timm.list_pretrained(f"{architecture}.*"):
        tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
        raise ValueError(f"timm knows no weights {name!r}; {architecture} has the tags: {', '.join(tags) or 'none'}")


def register_statistics(module: nn.Module, config: Mapping[str, Any] | None) -> None:
    """Give a module the mean and standard deviation of timm's configuration as buffers ``(1, 3, 1, 1)``."""
    for statistic, default in (("mean", (0.485, 0.456, 0.406)), ("std", (0.229, 0.224, 0.225))):
        value = torch.tensor((config or {}).get(statistic) or default).view(1, 3, 1, 1)
        module.register_buffer(statistic, value, persistent=False)
