"""Online clustering of momentum features (section 3.2)."""

from ipad_core.clustering.cluster_centers import ClusterCenters
from ipad_core.clustering.feature_queue import FeatureQueue
from ipad_core.clustering.momentum_encoder import MomentumEncoder

__all__ = ["ClusterCenters", "FeatureQueue", "MomentumEncoder"]
