"""Pretrained weights of timm's networks: where they are found, how they are read, and the record of what was taken."""

from ipad_core.weights.finding import FoundWeights, WeightsNotFoundError, find_weights
from ipad_core.weights.fitting import load_weights
from ipad_core.weights.record import WeightsRecord, describe_weights, random_weights

__all__ = [
    "FoundWeights",
    "WeightsNotFoundError",
    "WeightsRecord",
    "describe_weights",
    "find_weights",
    "load_weights",
    "random_weights",
]
