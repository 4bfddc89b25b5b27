"""Networks, one method a file; importing this registers them."""

from ipad_core.models.asen import ASEN, ASENv2
from ipad_core.models.asen_pp import ASENpp
from ipad_core.models.attn_fashion import AttnFashion
from ipad_core.models.attribute_classifier import AttributeClassifier
from ipad_core.models.csn import ConditionalSimilarityNetwork
from ipad_core.models.embedder import AttributeEmbedder
from ipad_core.models.haen import HAEN, attribute_types
from ipad_core.models.ipad import IPAD
from ipad_core.models.isln import ISLN
from ipad_core.models.lens import Lens
from ipad_core.models.presets import (
    asen_pp_tiny,
    asen_tiny,
    asen_v2_tiny,
    attn_fashion_tiny,
    attribute_classifier_tiny,
    csn_tiny,
    haen_tiny,
    ipad_photos,
    ipad_resnet50_vitb16,
    ipad_tiny,
    isln_tiny,
    rpf_tiny,
    triplet_tiny,
)
from ipad_core.models.rpf import RPF
from ipad_core.models.triplet import TripletNetwork

__all__ = [
    "ASEN",
    "HAEN",
    "IPAD",
    "ISLN",
    "RPF",
    "ASENpp",
    "ASENv2",
    "AttnFashion",
    "AttributeClassifier",
    "AttributeEmbedder",
    "ConditionalSimilarityNetwork",
    "Lens",
    "TripletNetwork",
    "asen_pp_tiny",
    "asen_tiny",
    "asen_v2_tiny",
    "attn_fashion_tiny",
    "attribute_classifier_tiny",
    "attribute_types",
    "csn_tiny",
    "haen_tiny",
    "ipad_photos",
    "ipad_resnet50_vitb16",
    "ipad_tiny",
    "isln_tiny",
    "rpf_tiny",
    "triplet_tiny",
]
