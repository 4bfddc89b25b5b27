"""A network of timm as a trunk: images in, one feature map out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ipad_core.backbones.network import create_network, register_statistics
from ipad_core.backbones.stages import choose_stages, is_isotropic, leading_modules, stages_of
from ipad_core.backbones.steady_batches import in_steady_batches
from ipad_core.weights import WeightsRecord, find_weights, load_weights, random_weights
from ipad_core.weights.fitting import shapes_of

PIXELS_AT_ONCE = 2**20
"""Of images that pass through a trunk together on a CPU where no gradient is wanted: 4 of 512 px, 20 of 224."""


class Trunk(nn.Module):
    """Feature map of a timm network after one or several of its stages; what lies behind them is not built.

    A vision transformer's stages are its blocks; its map is that of the patch tokens after the network's last norm.

    Args:
        name: Any network of timm, e.g. ``resnet50``; a tag such as in ``resnet50.tv_in1k`` says which weights.
        stage: Index among timm's features; 3 is the third stage of a ResNet (stride 16). Several are resized to the
            first one's size, bilinearly, and concatenated: ``[3, 4]`` adds the meaning of the fourth stage to the detail of
            the third. ``last`` stands for the map that the network's classifier pools. None for the deepest stage of
            stride 16 or less; of a vision transformer that is its last block.
        options: Further arguments of ``timm.create_model``.
        pretrained: Start from timm's weights: from the hub, or from a package of the index where the hub is out of reach.
        weights: File to start from instead: ``.safetensors``, or what ``torch.save`` wrote, with timm's names or
            open_clip's (image towers of CLIP and SigLIP).
        freeze: So many leading stages stay as they are, and the stem with them: no gradient, always in evaluation mode.
            Stages count as timm counts features: 1 is the stem of a ResNet, 2 the stem and its first stage. ``all``: the
            whole trunk. :attr:`is_frozen` says so.
        freeze_norm: All running statistics of batch norm stay as they are; weights still learn.
        image_size: Side of the images, px.

    Shape:
        images ``(N, 3, H, W)``, normalized; returns ``(N, C, h, w)`` with C = ``num_features``, h = H / ``stride``
        rounded up.

    Attributes:
        stage: Indices of the stages that are read, in the order given.
        started_from: The record of the weights that it started from, see :data:`ipad_core.weights.WeightsRecord`.

    On the meta device, where tensors have no values, no weights are looked for.

    Raises:
        ValueError: timm knows no such network, it has no such stage, the size or ``freeze`` does not fit it, or
            the weights do not.
        FileNotFoundError: the file ``weights`` does not exist.
        WeightsNotFoundError: ``pretrained``, and there are no weights; the message says what to install.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str = "resnet50",
        stage: int | str | Sequence[int | str] | None = None,
        options: Mapping[str, Any] | None = None,
        pretrained: bool = False,
        weights: str | None = None,
        freeze: int | str = 0,
        freeze_norm: bool = False,
        image_size: int = 224,
    ) -> None:
        super().__init__()
        network = create_network(name, image_size, options)
        stages = stages_of(network)
        chosen = choose_stages(name, stages, stage)
        is_vit = is_isotropic(stages)
        final = {"num_chs": network.num_features, "reduction": stages[-1]["reduction"]}
        chosen_stages = [[*stages, final][index] for index in chosen]
        self.num_features = sum(stage["num_chs"] for stage in chosen_stages)
        self.stride: int = chosen_stages[0]["reduction"]
        if is_vit and image_size % self.stride:
            raise ValueError(f"the image size of {name!r} must be a multiple of {self.stride} px, got {image_size}")
        self.stage = list(chosen)
        self._indices = sorted(chosen)
        self._order = [self._indices.index(index) for index in chosen]
        self._norm = is_vit
        self._final = network.num_features if len(stages) in chosen else None
        found = None if next(network.parameters()).is_meta else find_weights(network, pretrained, weights)
        whole = shapes_of(network)
        if self._final is None:
            network.prune_intermediate_layers(self._indices, prune_norm=not is_vit, prune_head=True)
        else:
            network.reset_classifier(0)
        if found is not None:
            load_weights(network, found, whole)
        self.features = network
        self.started_from: WeightsRecord = random_weights(network.pretrained_cfg) if found is None else found.record
        register_statistics(self, network.pretrained_cfg)
        self._still = self._freeze(stages, freeze, freeze_norm)
        self.train(self.training)

    def forward(self, images: Tensor | Sequence[Tensor]) -> Tensor:
        """The map of normalized images, or of what :meth:`stage_maps` made of them."""
        return self.join(self.stage_maps(images) if isinstance(images, Tensor) else images)

    def stage_maps(self, images: Tensor) -> list[Tensor]:
        """The map ``(N, C_i, h_i, w_i)`` of every stage that is read, in the order of ``stage``.

        On a CPU, where no gradient is wanted, a few images at a time: that is faster, as more stays in the cache, and
        takes a fraction of the memory. On a GPU in batches of few sizes, see :mod:`ipad_core.backbones.steady_batches`.
        """
        if images.device.type == "cuda" and not torch.compiler.is_compiling():
            return in_steady_batches(self.features, self._stage_maps, images)
        alone = images.device.type == "cpu" and not (
            torch.is_grad_enabled() or self.training or torch.compiler.is_compiling()
        )
        size = max(1, PIXELS_AT_ONCE // (images.shape[-2] * images.shape[-1])) if alone else 0
        if not alone or len(images) <= size:
            return self._stage_maps(images)
        parts = zip(*map(self._stage_maps, images.split(size)), strict=True)
        return [torch.cat(maps) for maps in parts]

    def _stage_maps(self, images: Tensor) -> list[Tensor]:
        if images.device.type == "cpu":  # a quarter faster there; on other devices the layout is the caller's
            images = images.contiguous(memory_format=torch.channels_last)
        if self._final is None:
            maps = self.features.forward_intermediates(
                images, indices=self._indices, norm=self._norm, output_fmt="NCHW", intermediates_only=True
            )
        else:
            # One stage must be named even where only the final map is wanted; the sorted indices have that one last.
            wanted = self._indices[:-1] or [0]
            final, maps = self.features.forward_intermediates(images, indices=wanted, output_fmt="NCHW")
            channels_first = final.shape[1] == self._final
            maps = [*maps[: len(self._indices) - 1], final if channels_first else final.permute(0, 3, 1, 2)]
        return [maps[position] for position in self._order]

    @staticmethod
    def join(maps: Sequence[Tensor]) -> Tensor:
        """The maps of :meth:`stage_maps` at the first one's size, concatenated: what :meth:`forward` answers."""
        first, *others = maps
        if not others:
            return first
        size = tuple(first.shape[2:])
        return torch.cat([first, *(F.interpolate(other, size, mode="bilinear") for other in others)], dim=1)

    def train(self, mode: bool = True) -> Trunk:
        """Frozen stages and frozen norms stay in evaluation mode."""
        super().train(mode)
        for module in self._still:
            module.training = False
        return self

    def take_over(self, other: Trunk) -> None:
        """Copy another trunk's tensors, and the record of what they started from.

        Of a trunk that reads other stages of the same network it copies what both have.

        Raises:
            RuntimeError: the trunks differ.
        """
        if self.stage == other.stage:
            self.load_state_dict(other.state_dict())
        else:
            own, theirs = self.state_dict(), other.state_dict()
            self.load_state_dict({**own, **{name: tensor for name, tensor in theirs.items() if name in own}})
        self.started_from = dict(other.started_from)

    @property
    def is_frozen(self) -> bool:
        """Whether nothing of it ever changes, so that its maps of an image may be kept."""
        return self._is_frozen

    def _freeze(self, stages: list[dict[str, Any]], freeze: int | str, freeze_norm: bool) -> list[nn.Module]:
        """Take the gradients from the leading stages; the modules that never train."""
        count = min(self._indices[-1] + 1, len(stages))
        freeze = count if freeze == "all" else freeze
        if isinstance(freeze, str) or not 0 <= freeze <= count:
            raise ValueError(
                f"freeze must be within [0, {count}], the stages that the trunk runs, or 'all', got {freeze!r}"
            )
        self._is_frozen = freeze == count
        modules = list(self.features.modules())
        still = [module for module in modules if freeze_norm and getattr(module, "running_mean", None) is not None]
        if freeze:
            leading = modules if freeze == count else [self.features, *leading_modules(self.features, stages, freeze)]
            for module in leading:
                for parameter in module.parameters(recurse=False):
                    parameter.requires_grad_(False)
            still += leading
        return still
