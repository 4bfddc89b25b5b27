"""The two branches of IPAD: IP-SP looks at the whole image, IP-SE at the crop of where it looked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from ipad_core.backbones import HybridTokens, Trunk, ViTTokens
from ipad_core.layers import AttributeCrossAttention, IterativeAttention, PatchAttention, PositionMix, ResidualMLP


@dataclass(frozen=True)
class SpatialFeatures:
    """``embedding (B, d)``, ``background (B, d)`` or None, ``maps (B, iterations, h, w)``."""

    embedding: Tensor
    background: Tensor | None
    maps: Tensor


class SpatialBranch(nn.Module):
    """IP-SP: trunk, iterative attention, residual MLP (Eq. 1 to 6)."""

    def __init__(self, trunk: Trunk, attention: IterativeAttention, embed_dim: int, position_channels: bool) -> None:
        super().__init__()
        self.trunk = trunk
        self.mix = PositionMix(trunk.num_features) if position_channels else nn.Identity()
        self.attention = attention
        self.head = ResidualMLP(attention.out_dim, embed_dim)

    def forward(
        self, feature_map: Tensor, attribute_ids: Tensor, image_index: Tensor, background: bool
    ) -> SpatialFeatures:
        feature_map = self.mix(feature_map)  # of the trunk, once per image
        tokens = feature_map.flatten(2).transpose(1, 2)  # (N, L, c)
        grid = tuple(feature_map.shape[2:])
        attended = self.attention(tokens, attribute_ids, image_index, background, grid)
        maps = attended.maps.unflatten(2, grid)
        back = None if attended.background is None else self.head(attended.background).float()
        return SpatialFeatures(self.head(attended.foreground).float(), back, maps)


class SemanticBranch(nn.Module):
    """IP-SE: a vision transformer on the crop, read by the attribute (Eq. 7 to 9).

    Crops come with the trunk's mean and standard deviation taken out; a pretrained ViT gets those that it was trained with.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self, tokens: ViTTokens | HybridTokens, attention: AttributeCrossAttention | PatchAttention, trunk: Trunk
    ) -> None:
        super().__init__()
        self.tokens = tokens
        self.attention = attention
        own = tokens.trunk  # whose statistics the crops get, in place of those of ``trunk``
        self.register_buffer("scale", trunk.std / own.std, persistent=False)
        self.register_buffer("shift", (trunk.mean - own.mean) / own.std, persistent=False)

    @property
    def crop_trunk(self) -> Trunk:
        """What runs over the crops first."""
        return self.tokens.trunk

    def keep(self, crops: Tensor) -> list[Tensor]:
        """The maps of the stages of :attr:`crop_trunk`; a frozen one never answers other ones for these crops."""
        return self.crop_trunk.stage_maps(self.inputs(crops))

    def inputs(self, crops: Tensor | Sequence[Tensor]) -> Tensor | Sequence[Tensor]:
        """Crops with the pixel statistics of their trunk; what :meth:`keep` made of them as it is."""
        return crops * self.scale + self.shift if isinstance(crops, Tensor) else crops

    def forward(self, crops: Tensor | Sequence[Tensor], attribute_ids: Tensor) -> Tensor:
        """Embed crops, or what :meth:`keep` made of them."""
        return self.attention(self.tokens(self.inputs(crops)), attribute_ids).float()
