"""Losses: tensors in, a scalar out."""

from ipad_core.losses.cluster_center import ClusterCenterLoss
from ipad_core.losses.foreground_background import ForegroundBackgroundLoss
from ipad_core.losses.triplet import BatchAllTripletLoss, TripletLoss

__all__ = ["BatchAllTripletLoss", "ClusterCenterLoss", "ForegroundBackgroundLoss", "TripletLoss"]
