"""Weights into a network: timm's own converters, then a check that leaves nothing unsaid."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ipad_core._timm import timm

if TYPE_CHECKING:
    from ipad_core.weights.finding import FoundWeights

Shapes = dict[str, tuple[int, ...]]
# Networks that a file of another one is compared with.
_WELL_KNOWN = (
    "resnet18", "resnet34", "resnet50", "resnet101", "convnext_tiny", "convnext_base", "tf_efficientnet_lite0",
    "efficientnet_b0", "mobilenetv3_large_100", "vit_small_patch16_224", "vit_base_patch16_224", "vit_large_patch16_224",
    "vit_base_patch32_clip_224", "vit_base_patch16_clip_224", "vit_base_patch16_siglip_224", "vit_small_patch14_dinov2",
    "vit_base_patch14_dinov2",
)  # fmt: skip
_SHOWN = 4  # names of each kind that a message lists


def in_timm_names(tensors: dict[str, Tensor], network: nn.Module, where: str) -> dict[str, Tensor]:
    """Tensors under timm's names, by timm's converter for the network's family where it has one.

    For vision transformers that covers the image towers of open_clip's CLIP and SigLIP files; position embeddings and
    patch sizes are resized.

    Raises:
        ValueError: the converter fails on them.
    """
    module = sys.modules[timm.models.model_entrypoint(network.pretrained_cfg["architecture"]).__module__]
    converter = getattr(module, "checkpoint_filter_fn", None) or getattr(module, "_filter_fn", None)
    if converter is None:
        return tensors
    try:
        alone = len(inspect.signature(converter).parameters) == 1
        return converter(tensors) if alone else converter(tensors, network)
    except Exception as error:  # converters take the names and sizes of their family for granted
        raise ValueError(_misfit(network, where, [f"timm cannot convert it ({error!r})"], tensors)) from None


def shapes_of(network: nn.Module) -> Shapes:
    """Name -> shape of every tensor of a network's state."""
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def load_weights(network: nn.Module, found: FoundWeights, whole: Shapes) -> None:
    """Load weights into a network that was cut to a trunk.

    Args:
        network: The trunk; every one of its tensors must be there (counts of batches aside).
        found: The weights. Beyond the trunk they may hold what the whole network holds, and any classifier.
        whole: :func:`shapes_of` the network before it was cut.

    Raises:
        ValueError: names that are missing or unexpected, or shapes that differ; the message lists the first ones.
    """
    own, tensors = network.state_dict(), found.tensors
    missing = [name for name in own if name not in tensors and not name.endswith("num_batches_tracked")]
    given = [name for name in tensors if not _is_classifier(name, network.pretrained_cfg.get("classifier"))]
    unexpected = [name for name in given if name not in whole]
    differing = [
        f"{name} {tuple(tensors[name].shape)} instead of {whole[name]}"
        for name in given
        if name in whole and whole[name] != tuple(tensors[name].shape)
    ]
    if missing or unexpected or differing:
        told = ["it fits no tensor of it"] if not any(name in whole for name in given) else []
        told += [
            f"{title}: {', '.join(names[:_SHOWN])}{f' and {len(names) - _SHOWN} more' if len(names) > _SHOWN else ''}"
            for title, names in (("missing", missing), ("unexpected", unexpected), ("other shapes", differing))
            if names
        ]
        raise ValueError(_misfit(network, found.where, told, tensors))
    network.load_state_dict({name: tensors.get(name, tensor) for name, tensor in own.items()})


def _is_classifier(name: str, classifier: str | Iterable[str] | None) -> bool:
    heads = (classifier,) if isinstance(classifier, str) else classifier or ()
    return any(name.startswith(f"{head}.") for head in heads)


def _misfit(network: nn.Module, where: str, told: list[str], tensors: dict[str, Tensor]) -> str:
    message = f"{where} does not fit the network {network.pretrained_cfg['architecture']!r}: {'; '.join(told)}"
    guess = _looks_like(tensors)
    return f"{message}. It looks like {guess}." if guess else message


def _looks_like(tensors: dict[str, Tensor]) -> str | None:
    """What nine tenths of a file's tensors fit, or what its names give away."""
    if any("trunk.features." in name for name in tensors):
        return "a saved model of ipad-core, whose trunk AttributeEmbedder.load_trunk takes over"
    tower = "visual.trunk."  # what open_clip calls an image tower of timm
    inside = {name.removeprefix(tower): tensor for name, tensor in tensors.items() if name.startswith(tower)}
    shapes = {name: tuple(tensor.shape) for name, tensor in (inside or tensors).items()}
    shares = {}
    for name in filter(timm.is_model, _WELL_KNOWN):
        with torch.device("meta"):
            known = shapes_of(timm.create_model(name))
        shares[name] = sum(known.get(key) == shape for key, shape in shapes.items()) / max(len(shapes), len(known))
    best = max(shares, key=shares.__getitem__)
    if shares[best] >= 0.9:
        return f"timm's {best!r}" + (" as the image tower of an open_clip model" if inside else "")
    if any(name.startswith("vision_model.") for name in tensors):
        return "a CLIP or SigLIP of transformers; take the open_clip or timm file of the same network"
    if any(name.startswith(("visual.", "module.visual.")) for name in tensors):
        return "an open_clip model with another image tower"
    return None
