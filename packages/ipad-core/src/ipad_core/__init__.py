"""Networks and losses of IPAD: attribute-aware fashion similarity learning."""

from __future__ import annotations

from ipad_core._registry import create_model, list_models, model_options, register_model
from ipad_core.checkpoints import load_published
from ipad_core.export import export_onnx, export_program
from ipad_core.feature_maps import FeatureMaps
from ipad_core.models import IPAD, AttributeEmbedder
from ipad_core.models.value_posteriors import ValuePosteriors
from ipad_core.output import EmbeddingOutput
from ipad_core.weights import WeightsNotFoundError, describe_weights

__all__ = [
    "IPAD",
    "AttributeEmbedder",
    "EmbeddingOutput",
    "FeatureMaps",
    "ValuePosteriors",
    "WeightsNotFoundError",
    "create_model",
    "describe_weights",
    "export_onnx",
    "export_program",
    "list_models",
    "load_published",
    "model_options",
    "register_model",
]
