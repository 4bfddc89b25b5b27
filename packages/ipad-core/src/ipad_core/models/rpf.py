"""RPF: a region branch on the image, a patch branch on what it attended to (Dong et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ipad_core._registry import register_model
from ipad_core.backbones import HybridTokens, Trunk, ViTTokens, build_tokens, build_trunk
from ipad_core.layers import PatchAttention, PositionMix, PreNormMLP, SpatialAttention
from ipad_core.models.branches import SemanticBranch, SpatialFeatures
from ipad_core.models.embedder import AttributeEmbedder
from ipad_core.models.ipad import IPAD


class RegionBranch(nn.Module):
    """Trunk, layer norm over channels, one spatial attention, residual MLP; the background likewise."""

    def __init__(
        self,
        trunk: Trunk,
        attribute: nn.Embedding,
        embed_dim: int,
        position_channels: bool,
        latent_dim: int,
        reduction: int,
        dropout: float,
    ) -> None:
        super().__init__()
        dim = trunk.num_features
        self.trunk = trunk
        self.mix = PositionMix(dim) if position_channels else nn.Identity()
        self.attribute = attribute
        self.map_norm = nn.LayerNorm(dim, eps=1e-6)
        self.attribute_norm = nn.LayerNorm(attribute.embedding_dim, eps=1e-6)
        self.attention = SpatialAttention(dim, latent_dim, attribute_dim=attribute.embedding_dim)
        self.project = nn.Linear(dim, embed_dim)
        self.mlp = PreNormMLP(embed_dim, reduction, "relu", shared_norm=True, dropout=dropout)

    def forward(
        self,
        feature_map: Tensor,
        attribute_ids: Tensor,
        image_index: Tensor,
        background: bool,
    ) -> SpatialFeatures:
        feature_map = self.mix(feature_map)
        tokens = self.map_norm(feature_map.flatten(2).transpose(1, 2))  # (N, L, c)
        attributes = self.attribute_norm(self.attribute.weight).expand(
            tokens.shape[0], -1, -1
        )  # (N, A, .): all of them
        activation = self.attention(self.attention.keys(tokens), attributes)
        maps = activation.to(torch.promote_types(activation.dtype, torch.float32)).softmax(dim=2)  # (N, A, L)
        entries = image_index, attribute_ids
        pooled = maps.to(tokens.dtype) @ tokens  # (N, A, c)
        back = None
        if background:
            others = max(1, tokens.shape[1] - 1)
            behind = (tokens.sum(dim=1, keepdim=True) - pooled) / others
            back = self.mlp(self.project(behind[entries])).float()
        foreground = self.mlp(self.project(pooled[entries])).float()
        return SpatialFeatures(foreground, back, maps[entries].unflatten(1, feature_map.shape[2:]).unsqueeze(1))


class _OfTheRegion:
    """The attribute vectors, which the region branch owns and saves; a copy of the patch branch alone reads the same."""

    def __init__(self, module: nn.Embedding) -> None:
        self.module = module

    def __deepcopy__(self, memo: dict[int, Any]) -> _OfTheRegion:
        return _OfTheRegion(memo.get(id(self.module), self.module))


class PatchBranch(SemanticBranch):
    """A vision transformer on the crop, filtered by the attribute."""

    def __init__(
        self, tokens: ViTTokens | HybridTokens, attribute: nn.Embedding, attention: PatchAttention, trunk: Trunk
    ) -> None:
        super().__init__(tokens, attention, trunk)
        self._attribute = _OfTheRegion(attribute)

    def forward(self, crops: Tensor | Sequence[Tensor], attribute_ids: Tensor) -> Tensor:
        attribute = self._attribute.module(attribute_ids).to(self.attention.types.dtype)
        return self.attention(self.tokens(self.inputs(crops)), attribute).float()


@register_model
class RPF(IPAD):
    """Both branches of RPF side by side; crops, fusion and the forward pass are those of :class:`IPAD`.

    In words: a layer norm on map and attribute, one attention of ASEN's form, and a residual MLP give the region
    feature, and the rest of the map the background; the patches of the attended crop are filtered by the same attribute
    vector. ``spatial`` and ``semantic`` of the answer are the region's and the patches' embedding.

    Args:
        num_attributes: A.
        embed_dim: d of each branch.
        image_size, trunk, position_channels: As in :class:`TripletNetwork`.
        attribute_dim: Width of the attribute vector, which both branches read.
        latent_dim: c' of the attention.
        reduction: r of the residual MLPs.
        dropout: Of the residual MLPs.
        semantic, semantic_trunk, semantic_heads: The patch branch, as in :class:`IPAD`.
        crop_size, crop_threshold, crop_min_side, crop_margin, fusion, beta: As in :class:`IPAD`.

    References:
        Dong et al. 2023 (RPF), with the sizes of its public release. Deviations: the release leaves the background out of
        the linear projection, which its paper shares with the foreground as we do; a pretrained ViT keeps its last norm
        here, which the release does not build (``semantic_trunk={"options": {"final_norm": False}}`` does without).
    """

    architecture = "rpf"

    def __init__(
        self,
        num_attributes: int,
        embed_dim: int = 1024,
        image_size: int = 224,
        trunk: str | Mapping[str, Any] = "resnet50",
        position_channels: bool = False,
        attribute_dim: int = 512,
        latent_dim: int = 512,
        reduction: int = 2,
        dropout: float = 0.1,
        semantic: bool = True,
        semantic_trunk: str | Mapping[str, Any] = "vit_base_patch16_224",
        semantic_heads: int = 12,
        crop_size: int = 224,
        crop_threshold: float = 0.1,
        crop_min_side: float = 0.0,
        crop_margin: float = 0.0,
        fusion: str = "concat",
        beta: float = 0.4,
    ) -> None:
        AttributeEmbedder.__init__(self)
        self.set_fusion(image_size, crop_size, crop_threshold, crop_min_side, crop_margin, fusion, beta)
        built = build_trunk(trunk, image_size)
        attribute = nn.Embedding(num_attributes, attribute_dim)
        self.spatial = RegionBranch(built, attribute, embed_dim, position_channels, latent_dim, reduction, dropout)
        self.semantic = None
        if semantic:
            tokens = build_tokens(semantic_trunk, crop_size, built, trunk)
            width = attribute_dim, tokens.num_features, embed_dim
            self.semantic = PatchBranch(
                tokens, attribute, PatchAttention(*width, semantic_heads, reduction, dropout), built
            )

    def location(self, maps: Tensor) -> Tensor:
        return maps[:, -1]
