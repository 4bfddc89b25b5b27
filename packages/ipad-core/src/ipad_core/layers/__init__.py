"""Layers that the networks are wired from."""

from ipad_core.layers.adaptive_mix import AdaptiveMix
from ipad_core.layers.adaptive_suppression import suppress
from ipad_core.layers.attribute_attention import AttributeAttention, HierarchicalAttention, OneHotAttention
from ipad_core.layers.attribute_embedding import AttributeEmbedding
from ipad_core.layers.channel_attention import ChannelAttention
from ipad_core.layers.condition_mask import ConditionMask
from ipad_core.layers.cross_attention import AttributeCrossAttention
from ipad_core.layers.fusion import fuse_branches
from ipad_core.layers.iterative_attention import IterativeAttention
from ipad_core.layers.patch_attention import PatchAttention
from ipad_core.layers.position_mix import PositionMix
from ipad_core.layers.pre_norm_mlp import PreNormMLP
from ipad_core.layers.query_update import QueryUpdate
from ipad_core.layers.region_crop import attention_boxes, crop_regions
from ipad_core.layers.residual_mlp import ResidualMLP
from ipad_core.layers.spatial_attention import SpatialAttention

__all__ = [
    "AdaptiveMix",
    "AttributeAttention",
    "AttributeCrossAttention",
    "AttributeEmbedding",
    "ChannelAttention",
    "ConditionMask",
    "HierarchicalAttention",
    "IterativeAttention",
    "OneHotAttention",
    "PatchAttention",
    "PositionMix",
    "PreNormMLP",
    "QueryUpdate",
    "ResidualMLP",
    "SpatialAttention",
    "attention_boxes",
    "crop_regions",
    "fuse_branches",
    "suppress",
]
