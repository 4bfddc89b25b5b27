"""What makes two configurations the same run: their hash, and the keys in which they differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ipad_train.config import RunConfig

# What may change between two starts of one run: where it writes, how it logs and saves, how images are read.
_FREE = ("output_dir", "loop", "rerank")
_FREE_OF_DATA = ("num_workers", "eval_batch_size", "keep_maps", "maps_dir")


def run_facts(config: RunConfig | Mapping[str, Any]) -> dict[str, Any]:
    """All that the steps of a run depend on, as JSON would hold it."""
    tree = config.to_dict() if isinstance(config, RunConfig) else config
    facts = json.loads(json.dumps(tree))
    for key in _FREE:
        facts.pop(key, None)
    for key in _FREE_OF_DATA:
        facts["data"].pop(key, None)
    return facts


def config_hash(config: RunConfig | Mapping[str, Any]) -> str:
    """SHA-256 of :func:`run_facts`: the same for two starts that make the same run."""
    return hashlib.sha256(json.dumps(run_facts(config), sort_keys=True).encode()).hexdigest()


def different_keys(
    saved: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = ""
) -> dict[str, tuple[Any, Any]]:
    """By dotted key, both values where two nested mappings differ; a key that one of them lacks counts as None there."""
    found: dict[str, tuple[Any, Any]] = {}
    for key in {**saved, **wanted}:
        first, second = saved.get(key), wanted.get(key)
        if isinstance(first, Mapping) and isinstance(second, Mapping):
            found |= different_keys(first, second, f"{prefix}{key}.")
        elif first != second:
            found[f"{prefix}{key}"] = (first, second)
    return found
