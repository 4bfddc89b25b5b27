"""Networks with sizes filled in: the paper's, and a tiny one that two CPU cores train in minutes.

A ``trunk`` given to one of them is merged over its own, see :func:`ipad_core.backbones.overlay_options`.
"""

from __future__ import annotations

from typing import Any

from ipad_core._registry import register_model
from ipad_core.backbones import overlay_options
from ipad_core.models.asen import ASEN, ASENv2
from ipad_core.models.asen_pp import ASENpp
from ipad_core.models.attn_fashion import AttnFashion
from ipad_core.models.attribute_classifier import AttributeClassifier
from ipad_core.models.csn import ConditionalSimilarityNetwork
from ipad_core.models.haen import HAEN
from ipad_core.models.ipad import IPAD
from ipad_core.models.isln import ISLN
from ipad_core.models.rpf import RPF
from ipad_core.models.triplet import TripletNetwork

TINY_TRUNK: dict[str, Any] = {
    "image_size": 96,
    "trunk": {
        "name": "resnet10t",
        "stage": 3,
        "options": {"channels": [24, 48, 96, 192], "stem_width": 16, "output_stride": 8},
    },
}
TINY_HEAD: dict[str, Any] = {**TINY_TRUNK, "embed_dim": 128, "position_channels": True}
TINY_ATTENTION: dict[str, Any] = {**TINY_HEAD, "latent_dim": 64, "reduction": 4}
TINY_CROP: dict[str, Any] = {"crop_size": 64, "crop_min_side": 0.25, "crop_margin": 0.15}
TINY_TOKENS: dict[str, Any] = {
    "semantic_heads": 4,
    "semantic_trunk": {
        "name": "hybrid",
        "options": {"embed_dim": 128, "depth": 2, "num_heads": 4, "mlp_ratio": 2.0},
    },
}


@register_model
def ipad_tiny(**options: Any) -> IPAD:
    """96 px, a narrow ResNet-10 at stride 8, d = 128, two transformer blocks on a copy of the trunk."""
    return IPAD(**overlay_options({**TINY_ATTENTION, **TINY_CROP, **TINY_TOKENS}, options))


@register_model
def ipad_resnet50_vitb16(**options: Any) -> IPAD:
    """The paper's sizes: ResNet-50 to its third stage, ViT-B/16, d = 1024, c' = 512, r = 2, three iterations.

    The tags are those of the weights that the authors used: torchvision's first ResNet-50, and Google's original ViT-B/16
    from ImageNet-21k. They are read with ``trunk={"pretrained": True}, semantic_trunk={"pretrained": True}``.
    """
    trunks = {
        "trunk": {"name": "resnet50.tv_in1k", "stage": 3},
        "semantic_trunk": {"name": "vit_base_patch16_224.orig_in21k"},
    }
    return IPAD(**overlay_options(trunks, options))


@register_model
def triplet_tiny(**options: Any) -> TripletNetwork:
    """The triplet network at the tiny sizes."""
    return TripletNetwork(**overlay_options(TINY_HEAD, options))


@register_model
def csn_tiny(**options: Any) -> ConditionalSimilarityNetwork:
    """CSN at the tiny sizes."""
    return ConditionalSimilarityNetwork(**overlay_options(TINY_HEAD, options))


@register_model
def attribute_classifier_tiny(**options: Any) -> AttributeClassifier:
    """Stage 0 at the tiny sizes."""
    return AttributeClassifier(**overlay_options(TINY_TRUNK, options))


@register_model
def asen_tiny(**options: Any) -> ASEN:
    """ASEN at the tiny sizes."""
    return ASEN(**overlay_options(TINY_ATTENTION, options))


@register_model
def asen_v2_tiny(**options: Any) -> ASENv2:
    """The second version of ASEN at the tiny sizes."""
    return ASENv2(**overlay_options(TINY_ATTENTION, options))


@register_model
def attn_fashion_tiny(**options: Any) -> AttnFashion:
    """AttnFashion at the tiny sizes."""
    return AttnFashion(**overlay_options(TINY_ATTENTION, options))


@register_model
def isln_tiny(**options: Any) -> ISLN:
    """ISLN at the tiny sizes."""
    return ISLN(**overlay_options(TINY_ATTENTION, options))


@register_model
def haen_tiny(**options: Any) -> HAEN:
    """HAEN at the tiny sizes."""
    return HAEN(**overlay_options(TINY_ATTENTION, options))


@register_model
def asen_pp_tiny(**options: Any) -> ASENpp:
    """ASEN++ at the tiny sizes."""
    return ASENpp(**overlay_options({**TINY_ATTENTION, **TINY_CROP}, options))


@register_model
def rpf_tiny(**options: Any) -> RPF:
    """RPF at the tiny sizes."""
    return RPF(**overlay_options({**TINY_ATTENTION, **TINY_CROP, **TINY_TOKENS, "attribute_dim": 64}, options))


@register_model
def ipad_photos(**options: Any) -> IPAD:
    """For a few thousand photographs: heads on a frozen EfficientNet-Lite0 whose stages 3 and 4 are read together, 320 px.

    IP-SE reads the map that the network's classifier pools, of a crop cut from the larger photo. Give
    ``trunk={"pretrained": True}``: on random weights a frozen trunk is worth nothing.
    """
    sizes = {
        "image_size": 320,
        "trunk": {"name": "tf_efficientnet_lite0", "stage": [3, 4], "freeze": "all"},
        "embed_dim": 256,
        "latent_dim": 128,
        "reduction": 4,
        "semantic_heads": 4,
        "semantic_trunk": {
            "name": "hybrid",
            "stage": "last",
            "options": {"embed_dim": 256, "depth": 0, "num_heads": 4},
        },
        "crop_size": 160,
        "crop_threshold": 0.3,
        "crop_min_side": 0.25,
        "crop_margin": 0.15,
        "fusion": "concat",
    }
    return IPAD(**overlay_options(sizes, options))
