"""Vision transformers as sequences of patch tokens, without a class token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ipad_core._timm import timm
from ipad_core.backbones.trunk import Trunk
from ipad_core.backbones.trunk_mapping import build_trunk, trunk_mapping, without_weights
from ipad_core.backbones.vectors import Vectors


class ViTTokens(nn.Module):
    """Patch tokens of a vision transformer.

    Args:
        trunk: A vision transformer of timm, e.g. ``vit_base_patch16_224``.

    Shape:
        images ``(B, 3, S, S)``, normalized with ``mean`` and ``std`` of ``trunk``, or its stages' maps; returns
        ``(B, N, C)`` with C = ``num_features``.

    Raises:
        ValueError: the network is no vision transformer.
    """

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        if not hasattr(trunk.features, "num_prefix_tokens"):
            name = trunk.features.pretrained_cfg["architecture"]
            raise ValueError(f"{name!r} is no vision transformer; give 'hybrid' or e.g. 'vit_base_patch16_224'")
        self.trunk = trunk
        self.num_features = trunk.num_features

    def forward(self, images: Tensor | Sequence[Tensor]) -> Tensor:
        return self.trunk(images).flatten(2).transpose(1, 2)


class HybridTokens(nn.Module):
    """A small ViT over the feature map of another trunk: the form that learns from few images.

    Args:
        stem: Makes the map.
        image_size: Side of the input, px.
        embed_dim: Width of the tokens.
        depth: Number of transformer blocks; with 0 the attribute reads the stem's cells themselves.
        num_heads: Heads of each block.
        mlp_ratio: Hidden width of each block's MLP over ``embed_dim``.

    Shape:
        as :class:`ViTTokens`.
    """

    def __init__(
        self,
        stem: Trunk,
        image_size: int,
        embed_dim: int = 128,
        depth: int = 2,
        num_heads: int = 4,
        mlp_ratio: float = 2.0,
    ) -> None:
        super().__init__()
        side = -(-image_size // stem.stride)
        place = nn.Identity()  # timm's ViT initializes all that it holds, so the stem goes in when that is done
        place.num_features = stem.num_features
        embed = partial(timm.layers.HybridEmbed, backbone=place, feature_size=(side, side))
        with torch.no_grad():
            self.vit = timm.models.VisionTransformer(
                img_size=image_size,
                patch_size=1,
                embed_layer=embed,
                embed_dim=embed_dim,
                depth=depth,
                num_heads=num_heads,
                mlp_ratio=mlp_ratio,
                class_token=False,
                global_pool="",
                num_classes=0,
            )
        self.vit.patch_embed.backbone = stem
        self.num_features = embed_dim

    @property
    def trunk(self) -> Trunk:
        """The stem."""
        return self.vit.patch_embed.backbone

    def forward(self, images: Tensor | Sequence[Tensor]) -> Tensor:
        return self.vit.forward_features(images)


def check_has_images(trunk: Trunk | Vectors) -> None:
    """Raise a ValueError if there are no images from which a second branch could cut its crops."""
    if isinstance(trunk, Vectors):
        raise ValueError(
            "the trunk 'vectors' has no images, from which the second branch would cut its crops; leave that branch out "
            "with semantic=False, or give a network of timm as trunk"
        )


def build_tokens(
    semantic_trunk: str | Mapping[str, Any], crop_size: int, trunk: Trunk, mapping: str | Mapping[str, Any]
) -> ViTTokens | HybridTokens:
    """Tokens of the second branch.

    Args:
        semantic_trunk: A timm ViT, as for :func:`build_trunk`; or ``hybrid`` with ``options`` of :class:`HybridTokens`,
            whose stem is built as the trunk is and starts from the same weights; ``stage`` lets it read other stages.
        crop_size: Side of the crops, px.
        trunk: The trunk of the first branch.
        mapping: What it was built from.

    Raises:
        TypeError: a hybrid with other keys than ``name`` and ``options``.
        ValueError, FileNotFoundError: as :func:`check_has_images`, :class:`Trunk`, :class:`ViTTokens`.
    """
    check_has_images(trunk)
    wanted = trunk_mapping(semantic_trunk, "semantic_trunk")
    if wanted.get("name") != "hybrid":
        return ViTTokens(build_trunk({"name": "vit_base_patch16_224", **wanted}, crop_size))
    others = [key for key, value in wanted.items() if key not in ("name", "options", "stage") and value]
    if others:
        raise TypeError(
            f"a hybrid takes {others[0]!r} of its stem from the trunk; semantic_trunk is name, stage and options"
        )
    if wanted.get("stage") is not None:  # another cut of the network, which reads its weights itself
        stem = build_trunk({**trunk_mapping(mapping), "stage": wanted["stage"]}, crop_size)
        return HybridTokens(stem, crop_size, **(wanted.get("options") or {}))
    stem = build_trunk(without_weights({"trunk": mapping})["trunk"], crop_size)
    if trunk.started_from["source"] != "random":
        stem.take_over(trunk)
    return HybridTokens(stem, crop_size, **(wanted.get("options") or {}))
