"""Clusters of features: online, of momentum features (section 3.2), and in closed form."""

from ipad_core.clustering.cluster_centers import ClusterCenters
from ipad_core.clustering.discriminant import Discriminant, fit_discriminant
from ipad_core.clustering.feature_queue import FeatureQueue
from ipad_core.clustering.momentum_encoder import MomentumEncoder

__all__ = ["ClusterCenters", "Discriminant", "FeatureQueue", "MomentumEncoder", "fit_discriminant"]
