"""IPAD: iterative positioning in space (IP-SP), then in semantics (IP-SE) on what it attended to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ipad_core._registry import register_model
from ipad_core.backbones import HybridTokens, Trunk, build_tokens, build_trunk
from ipad_core.feature_maps import FeatureMaps
from ipad_core.layers import (
    AttributeCrossAttention,
    IterativeAttention,
    attention_boxes,
    crop_regions,
    fuse_branches,
)
from ipad_core.layers.fusion import FUSIONS
from ipad_core.layers.iterative_attention import READINGS
from ipad_core.models.branches import SemanticBranch, SpatialBranch
from ipad_core.models.embedder import AttributeEmbedder
from ipad_core.models.entries import check_entries
from ipad_core.output import EmbeddingOutput


@register_model
class IPAD(AttributeEmbedder):
    """Both branches of IPAD and their fusion.

    In words: the attribute asks the trunk's map where it lies and which channels tell about it, several rounds, each from
    what the last one wrote (Eq. 1 to 4, :class:`IterativeAttention`); a residual MLP embeds what was found, and the rest
    of the map as background (Eq. 5, 6). The last attention map cuts a crop from the image; a vision transformer reads it,
    and the attribute reads its tokens (Eq. 7 to 9, :class:`AttributeCrossAttention`). The two embeddings are added, weighed
    by beta (Eq. 21, :func:`fuse_branches`).

    Args:
        num_attributes: A.
        embed_dim: d of each branch.
        image_size: Side of the trunk's input, px; the crops are cut from the images as they come, so give larger ones.
        trunk: As in :class:`TripletNetwork`.
        position_channels: Mix position channels into the map, see :class:`PositionMix`.
        latent_dim: c' of the attention.
        iterations: Iter.
        reduction: r.
        reading: How Eq. 1 to 4 are read: ``default``, ``soft``, ``mlp_xy``, ``literal`` or ``public_code``;
            see ``READINGS``.
        attention: Options of :class:`IterativeAttention` over those of the reading.
        semantic: Whether there is a second branch. Without it the embedding is IP-SP's.
        spatial: Whether there is a first branch. Without it IP-SE sees whole images, and its embedding is the answer.
        semantic_trunk: A timm ViT, described as ``trunk`` is; or ``hybrid``: a copy of the trunk as stem and a small
            transformer on its map, with ``embed_dim, depth, num_heads, mlp_ratio`` of :class:`HybridTokens` as ``options``.
        semantic_heads: Heads of the attribute cross-attention.
        crop_size: Side of a crop, px.
        crop_threshold, crop_min_side, crop_margin: See :func:`attention_boxes`.
        fusion: ``sum`` (Eq. 21) or ``concat``.
        beta: Weight of IP-SP in the fusion; may be set later.

    Raises:
        ValueError: unknown reading or fusion, beta or a crop option out of range, a second branch on vectors; others from
            the layers.

    References:
        Wan et al. 2025, sections 3.1 and 3.4. Each deviation is an option above or of :class:`IterativeAttention`. The
        ViT's tokens come without a class token; the public code adds learned type embeddings, which the text does not
        mention and we leave out.
    """

    architecture = "ipad"

    def __init__(
        self,
        num_attributes: int,
        embed_dim: int = 1024,
        image_size: int = 224,
        trunk: str | Mapping[str, Any] = "resnet50",
        position_channels: bool = False,
        latent_dim: int = 512,
        iterations: int = 3,
        reduction: int = 2,
        reading: str = "default",
        attention: dict[str, Any] | None = None,
        semantic: bool = True,
        semantic_trunk: str | Mapping[str, Any] = "vit_base_patch16_224",
        semantic_heads: int = 8,
        crop_size: int = 224,
        crop_threshold: float = 0.1,
        crop_min_side: float = 0.0,
        crop_margin: float = 0.0,
        fusion: str = "sum",
        beta: float = 0.4,
        spatial: bool = True,
    ) -> None:
        super().__init__()
        if reading not in READINGS:
            raise ValueError(f"reading must be one of {', '.join(READINGS)}, got {reading!r}")
        self.set_fusion(image_size, crop_size, crop_threshold, crop_min_side, crop_margin, fusion, beta)
        built = build_trunk(trunk, image_size)
        if not (spatial or semantic):
            raise ValueError("spatial and semantic are both false: there would be no branch")
        self.spatial: SpatialBranch | None = None
        if spatial:
            iterative = IterativeAttention(
                num_attributes,
                built.num_features,
                latent_dim,
                iterations,
                reduction,
                **{**READINGS[reading], **(attention or {})},
            )
            self.spatial = SpatialBranch(built, iterative, embed_dim, position_channels)
        self.semantic: SemanticBranch | None = None
        if semantic:
            tokens = build_tokens(semantic_trunk, crop_size, built, trunk)
            cross = AttributeCrossAttention(num_attributes, tokens.num_features, embed_dim, semantic_heads)
            self.semantic = SemanticBranch(tokens, cross, built if spatial else tokens.trunk)

    def set_fusion(
        self,
        image_size: int,
        crop_size: int,
        threshold: float,
        min_side: float,
        margin: float,
        fusion: str,
        beta: float,
    ) -> None:
        """How the crops are cut and the branches fused; networks with other branches call it as well."""
        if fusion not in FUSIONS:
            raise ValueError(f"fusion must be one of {', '.join(FUSIONS)}, got {fusion!r}")
        _share("crop_threshold", threshold)
        _share("crop_min_side", min_side)
        if margin < 0:
            raise ValueError(f"crop_margin must not be negative, got {margin}")
        self.image_size, self.crop_size = image_size, crop_size
        self.crop = {"threshold": threshold, "min_side": min_side, "margin": margin}
        self.fusion = fusion
        self._beta = _share("beta", beta)

    @property
    def trunk(self) -> Trunk:
        """The trunk of IP-SP; without that branch, of IP-SE."""
        return self.semantic.tokens.trunk if self.spatial is None else self.spatial.trunk

    def trunks(self) -> dict[str, Trunk]:
        alone = self.spatial is None or self.semantic is None
        semantic = {} if alone else {"semantic": self.semantic.tokens.trunk}
        return {**super().trunks(), **semantic}

    @property
    def beta(self) -> float:
        """Weight of IP-SP in the fusion (Eq. 21); saved with the model."""
        return self._beta

    @beta.setter
    def beta(self, value: float) -> None:
        self._beta = _share("beta", value)
        self.options["beta"] = value

    def initialize_semantic(self, stage1: IPAD | None = None) -> None:
        """Make the second branch ready for training: take over IP-SP of a stage-1 model, copy the trunk into the stem.

        Args:
            stage1: A trained model of the same options, with or without a second branch; None to keep this IP-SP.

        Raises:
            ValueError: there is no second branch, or ``stage1`` has another IP-SP.

        A stem that reads other stages than the trunk takes over the layers that both have.
        """
        self.take_over_spatial(stage1)
        if isinstance(self.semantic.tokens, HybridTokens):
            self.semantic.tokens.trunk.take_over(self.trunk)

    def take_over_spatial(self, stage1: IPAD | None) -> None:
        """IP-SP of a stage-1 model, where there is one; an error where there is no second branch to train."""
        if self.semantic is None or self.spatial is None:
            lacking = "first" if self.spatial is None else "second"
            raise ValueError(f"this model has no {lacking} branch; create it with spatial=True and semantic=True")
        if stage1 is not None:
            try:
                self.spatial.load_state_dict(stage1.spatial.state_dict())
            except RuntimeError as error:
                raise ValueError(f"the stage-1 model has another IP-SP: {error}") from None
            self.trunk.started_from = dict(stage1.trunk.started_from)

    def forward(
        self,
        images: Tensor | FeatureMaps,
        attribute_ids: Tensor,
        image_index: Tensor | None = None,
        branches: str = "both",
        background: bool = False,
        maps: bool = False,
        boxes: Tensor | None = None,
        crops: Sequence[Tensor] | None = None,
    ) -> EmbeddingOutput:
        """Embed entries, see :meth:`AttributeEmbedder.forward`.

        Args:
            branches: ``both``, or ``spatial`` to leave the second branch out.
            background: Compute the background features as well (Eq. 6).
            maps: Answer the map of every iteration.
            boxes: ``(B, 4)`` crops to use instead of those of the attention.
            crops: Maps of each entry's crop, as :meth:`SemanticBranch.keep` made them, instead of cutting it again.
        """
        if branches not in ("both", "spatial"):
            raise ValueError(f"branches must be 'both' or 'spatial', got {branches!r}")
        image_index = check_entries(images, attribute_ids, image_index, self.options["num_attributes"])
        if self.spatial is None:
            return self._semantic_alone(images, attribute_ids, image_index, boxes)
        feature_map = self.feature_map(images)
        spatial = self.spatial(feature_map, attribute_ids, image_index, background)
        attention = self.location(spatial.maps)
        semantic = None
        if branches == "both" and self.semantic is not None:
            if crops is None:
                boxes = self.boxes(spatial.maps) if boxes is None else boxes
                crops = self.crops(images, boxes, image_index)
            semantic = self.semantic(crops, attribute_ids)
        return EmbeddingOutput(
            embedding=self.fuse(spatial.embedding, semantic),
            spatial=spatial.embedding,
            semantic=semantic,
            background=spatial.background,
            attention=attention,
            attention_maps=spatial.maps if maps else None,
            boxes=boxes if semantic is not None else None,
        )

    def crops(self, images: Tensor | FeatureMaps, boxes: Tensor, image_index: Tensor) -> Tensor:
        """``(B, 3, crop_size, crop_size)`` regions of the images, normalized.

        Raises:
            ValueError: maps that were kept without their images.
        """
        if isinstance(images, FeatureMaps):
            if images.images is None:
                raise ValueError("images must be kept with the maps: the second branch cuts its crops from them")
            images = images.images
        return crop_regions(self.normalized(images), boxes, image_index, self.crop_size)

    def _semantic_alone(
        self, images: Tensor | FeatureMaps, attribute_ids: Tensor, image_index: Tensor, boxes: Tensor | None
    ) -> EmbeddingOutput:
        if boxes is None:
            corner = torch.zeros(attribute_ids.shape[0], 2, device=attribute_ids.device)
            boxes = torch.cat([corner, corner + 1], dim=1)  # the whole image
        semantic = self.semantic(self.crops(images, boxes, image_index), attribute_ids)
        return EmbeddingOutput(F.normalize(semantic, dim=1), boxes=boxes)

    def boxes(self, maps: Tensor) -> Tensor:
        """``(B, 4)`` crops of ``(B, iterations, h, w)`` maps, see :meth:`location`."""
        return attention_boxes(self.location(maps), resolution=self.image_size // 2, **self.crop)

    def location(self, maps: Tensor) -> Tensor:
        """Where the rounds together looked: ``(B, iterations, h, w)`` maps to ``(B, h, w)`` of sum one.

        The last map, which is the cumulative one where the rounds carry it as a product. Where Eq. 3 is taken literally
        the feature is a sum over the product of all maps, and the last one alone is nearly uniform: then that product.
        """
        if self.spatial.attention.carry not in ("literal", "scaled"):
            return maps[:, -1]
        product = maps.clamp_min(1e-12).log().sum(dim=1)
        return product.flatten(1).softmax(dim=1).view_as(product)

    def embedding_parts(self, width: int) -> tuple[int, ...]:
        alone = self.spatial is None or self.semantic is None or self.fusion == "sum"
        return (width,) if alone else (width // 2, width // 2)

    def is_whole(self, output: EmbeddingOutput) -> bool:
        return self.spatial is None or self.semantic is None or output.semantic is not None

    def fuse(self, spatial: Tensor, semantic: Tensor | None, beta: float | None = None) -> Tensor:
        """Eq. 21, or the unit-length spatial embedding where there is no other."""
        if semantic is None:
            return F.normalize(spatial, dim=1)
        return fuse_branches(spatial, semantic, self.beta if beta is None else beta, self.fusion)


def _share(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be within [0, 1], got {value}")
    return value
