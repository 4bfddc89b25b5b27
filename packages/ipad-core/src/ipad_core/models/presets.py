"""Networks with sizes filled in: the paper's, and a tiny one that two CPU cores train in minutes."""

from __future__ import annotations

from typing import Any

from ipad_core._registry import register_model
from ipad_core.models.attribute_classifier import AttributeClassifier
from ipad_core.models.csn import ConditionalSimilarityNetwork
from ipad_core.models.ipad import IPAD
from ipad_core.models.triplet import TripletNetwork

TINY_TRUNK: dict[str, Any] = {
    "image_size": 96,
    "backbone": "resnet10t",
    "backbone_options": {"channels": [24, 48, 96, 192], "stem_width": 16, "output_stride": 8},
}
TINY_HEAD: dict[str, Any] = {**TINY_TRUNK, "embed_dim": 128, "position_channels": True}


@register_model
def ipad_tiny(**options: Any) -> IPAD:
    """96 px, a narrow ResNet-10 at stride 8, d = 128, two transformer blocks on a copy of the trunk."""
    sizes = {
        "latent_dim": 64, "reduction": 4, "semantic_backbone": "hybrid", "semantic_heads": 4,
        "semantic_options": {"embed_dim": 128, "depth": 2, "num_heads": 4, "mlp_ratio": 2.0},
        "crop_size": 64, "crop_min_side": 0.25, "crop_margin": 0.15,
    }  # fmt: skip
    return IPAD(**{**TINY_HEAD, **sizes, **options})


@register_model
def ipad_resnet50_vitb16(**options: Any) -> IPAD:
    """The paper's sizes: ResNet-50 to its third stage, ViT-B/16, d = 1024, c' = 512, r = 2, three iterations."""
    return IPAD(**options)


@register_model
def triplet_tiny(**options: Any) -> TripletNetwork:
    """The triplet network at the tiny sizes."""
    return TripletNetwork(**{**TINY_HEAD, **options})


@register_model
def csn_tiny(**options: Any) -> ConditionalSimilarityNetwork:
    """CSN at the tiny sizes."""
    return ConditionalSimilarityNetwork(**{**TINY_HEAD, **options})


@register_model
def attribute_classifier_tiny(**options: Any) -> AttributeClassifier:
    """Stage 0 at the tiny sizes."""
    return AttributeClassifier(**{**TINY_TRUNK, **options})
