"""Networks, one method a file; importing this registers them."""

from ipad_core.models.attribute_classifier import AttributeClassifier
from ipad_core.models.csn import ConditionalSimilarityNetwork
from ipad_core.models.embedder import AttributeEmbedder
from ipad_core.models.ipad import IPAD
from ipad_core.models.lens import Lens
from ipad_core.models.presets import attribute_classifier_tiny, csn_tiny, ipad_resnet50_vitb16, ipad_tiny, triplet_tiny
from ipad_core.models.triplet import TripletNetwork

__all__ = [
    "IPAD",
    "AttributeClassifier",
    "AttributeEmbedder",
    "ConditionalSimilarityNetwork",
    "Lens",
    "TripletNetwork",
    "attribute_classifier_tiny",
    "csn_tiny",
    "ipad_resnet50_vitb16",
    "ipad_tiny",
    "triplet_tiny",
]
