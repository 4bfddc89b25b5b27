"""A convolutional trunk of timm, cut after one stage."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from ipad_core._timm import timm


class Trunk(nn.Module):
    """Feature map of a timm network after one of its stages; what lies behind it is not built.

    Args:
        name: Any timm network with feature extraction, e.g. ``resnet50``.
        stage: Index among timm's features; 3 is the third stage of a ResNet (stride 16).
        pretrained: Load timm's weights (from the hub, or a file in ``pretrained_cfg_overlay``).
        options: Further arguments of ``timm.create_model``.

    Shape:
        images ``(N, 3, H, W)``, normalized; returns ``(N, C, h, w)`` with C = ``num_features``.

    Raises:
        ValueError: timm knows no such network, or the network has no such stage.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str = "resnet50", stage: int = 3, pretrained: bool = False, **options: Any) -> None:
        super().__init__()
        check_name(name)
        try:
            self.features = timm.create_model(
                name, pretrained=pretrained, features_only=True, out_indices=(stage,), **options
            )
        except (IndexError, AssertionError) as error:
            raise ValueError(f"backbone {name!r} has no stage {stage}: {error!r}") from error
        self.num_features: int = self.features.feature_info.channels()[-1]
        self.stride: int = self.features.feature_info.reduction()[-1]
        register_statistics(self, getattr(self.features, "pretrained_cfg", None))

    def forward(self, images: Tensor) -> Tensor:
        if images.device.type == "cpu":  # a quarter faster there; on other devices the layout is the caller's
            images = images.contiguous(memory_format=torch.channels_last)
        return self.features(images)[-1]


def check_name(name: str) -> None:
    """Raise a ValueError with the nearest names if timm knows no such network; ``hf-hub:`` and the like pass."""
    if ":" not in name and not timm.is_model(name):
        near = get_close_matches(name.split(".")[0], timm.list_models(), n=4)
        raise ValueError(
            f"timm knows no network {name!r}; did you mean one of: {', '.join(near) or 'timm.list_models()'}?"
        )


def register_statistics(module: nn.Module, config: dict[str, Any] | None) -> None:
    """Give a module the mean and standard deviation of timm's configuration as buffers ``(1, 3, 1, 1)``."""
    for statistic, default in (("mean", (0.485, 0.456, 0.406)), ("std", (0.229, 0.224, 0.225))):
        value = torch.tensor((config or {}).get(statistic) or default).view(1, 3, 1, 1)
        module.register_buffer(statistic, value, persistent=False)
