"""The configuration of a run: frozen, validated dataclasses, each key with its meaning.

`config_files.py` reads them from YAML presets and command-line overrides.
"""

from ipad_train.config.data import DataConfig, ModelConfig
from ipad_train.config.loop import BATCH_NORMS, PRECISIONS, LoopConfig, RerankConfig
from ipad_train.config.losses import QUEUE_DTYPES, ClusterConfig, LossConfig
from ipad_train.config.run import RunConfig
from ipad_train.config.stage import SAMPLERS, STAGE_NAMES, StageConfig

__all__ = [
    "BATCH_NORMS",
    "PRECISIONS",
    "QUEUE_DTYPES",
    "SAMPLERS",
    "STAGE_NAMES",
    "ClusterConfig",
    "DataConfig",
    "LoopConfig",
    "LossConfig",
    "ModelConfig",
    "RerankConfig",
    "RunConfig",
    "StageConfig",
]
