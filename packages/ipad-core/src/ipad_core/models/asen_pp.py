"""ASEN++: ASEN on the image, and again on the crop of where it looked (Dong et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ipad_core._registry import register_model
from ipad_core.backbones import Trunk, build_trunk, check_has_images, without_weights
from ipad_core.layers import AttributeAttention, PositionMix
from ipad_core.models.branches import SpatialFeatures
from ipad_core.models.embedder import AttributeEmbedder
from ipad_core.models.ipad import IPAD


class AttendingBranch(nn.Module):
    """ASEN's second version as a branch; on crops it has one attribute an image."""

    def __init__(
        self,
        trunk: Trunk,
        num_attributes: int,
        embed_dim: int,
        position_channels: bool,
        latent_dim: int,
        reduction: int,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.mix = PositionMix(trunk.num_features) if position_channels else nn.Identity()
        self.attention = AttributeAttention(num_attributes, trunk.num_features, latent_dim, reduction)
        self.project = nn.Linear(trunk.num_features, embed_dim)


class GlobalBranch(AttendingBranch):
    """On the whole image, for IPAD's forward pass."""

    def forward(
        self,
        feature_map: Tensor,
        attribute_ids: Tensor,
        image_index: Tensor,
        background: bool,
    ) -> SpatialFeatures:
        if background:
            raise ValueError("background must be False: ASEN++ has no background feature")
        feature_map = self.mix(feature_map)
        attended = self.attention(feature_map.flatten(2).transpose(1, 2))
        entries = image_index, attribute_ids
        maps = attended.maps[entries].unflatten(1, feature_map.shape[2:]).unsqueeze(1)
        return SpatialFeatures(self.project(attended.gated[entries]).float(), None, maps)


class LocalBranch(AttendingBranch):
    """On crops, one per entry."""

    @property
    def crop_trunk(self) -> Trunk:
        """What runs over the crops first."""
        return self.trunk

    def keep(self, crops: Tensor) -> list[Tensor]:
        """The maps of the trunk's stages; a frozen one never answers other ones for these crops."""
        return self.trunk.stage_maps(self.inputs(crops))

    def inputs(self, crops: Tensor | Sequence[Tensor]) -> Tensor | Sequence[Tensor]:
        """Crops as they are: the trunk is of the kind that they were normalized for."""
        return crops

    def forward(self, crops: Tensor | Sequence[Tensor], attribute_ids: Tensor) -> Tensor:
        """Embed crops, or what :meth:`keep` made of them."""
        tokens = self.mix(self.trunk(crops)).flatten(2).transpose(1, 2)
        return self.project(self.attention(tokens, attribute_ids).gated[:, 0]).float()


@register_model
class ASENpp(IPAD):
    """A global and a local branch of one architecture; the local one sees the crop of the global one's attention.

    The global branch is trained first, then both (:meth:`initialize_semantic` starts the local branch from it). Crops, the
    fusion and the forward pass are those of :class:`IPAD`, and ``spatial`` and ``semantic`` of the answer are the global and
    the local embedding. The equations of a branch are those of :class:`AttributeAttention` and :class:`ASEN`.

    Args:
        num_attributes: A.
        embed_dim: d of each branch.
        image_size, trunk, position_channels: As in :class:`TripletNetwork`; both branches have such a trunk.
        latent_dim, reduction: As in :class:`ASEN`.
        semantic: Whether there is a local branch.
        crop_size, crop_threshold, crop_min_side, crop_margin, fusion, beta: As in :class:`IPAD`.

    Raises:
        ValueError: as :class:`IPAD`; ``background`` is asked for, which this network does not have.

    References:
        Dong et al. 2021 (ASEN++). It is known to us as the IPAD paper describes it. Our reading: ASEN's second version in
        both branches, without shared weights, embeddings side by side with equal weight.
    """

    architecture = "asen_pp"

    def __init__(
        self,
        num_attributes: int,
        embed_dim: int = 1024,
        image_size: int = 224,
        trunk: str | Mapping[str, Any] = "resnet50",
        position_channels: bool = False,
        latent_dim: int = 512,
        reduction: int = 2,
        semantic: bool = True,
        crop_size: int = 224,
        crop_threshold: float = 0.1,
        crop_min_side: float = 0.0,
        crop_margin: float = 0.0,
        fusion: str = "concat",
        beta: float = 0.5,
    ) -> None:
        AttributeEmbedder.__init__(self)
        self.set_fusion(image_size, crop_size, crop_threshold, crop_min_side, crop_margin, fusion, beta)
        sizes = num_attributes, embed_dim, position_channels, latent_dim, reduction
        self.spatial = GlobalBranch(build_trunk(trunk, image_size), *sizes)
        self.semantic = None
        if semantic:
            check_has_images(self.trunk)
            stem = build_trunk(without_weights({"trunk": trunk})["trunk"], crop_size)
            if self.trunk.started_from["source"] != "random":
                stem.take_over(self.trunk)
            self.semantic = LocalBranch(stem, *sizes)

    def trunks(self) -> dict[str, Trunk]:
        local = {} if self.semantic is None else {"semantic": self.semantic.trunk}
        return {"trunk": self.trunk, **local}

    def location(self, maps: Tensor) -> Tensor:
        return maps[:, -1]

    def initialize_semantic(self, stage1: IPAD | None = None) -> None:
        """Take over the global branch of a stage-1 model, and start the local branch from the global one.

        Raises:
            ValueError: as :meth:`IPAD.initialize_semantic`.
        """
        self.take_over_spatial(stage1)
        self.semantic.load_state_dict(self.spatial.state_dict())
        self.semantic.trunk.started_from = dict(self.trunk.started_from)
