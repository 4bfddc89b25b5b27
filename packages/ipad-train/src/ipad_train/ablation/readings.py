"""Tables beside the figures of section 4.3: what the paper leaves open, read one way and another."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from ipad_core.layers.iterative_attention import READINGS
from ipad_train.config import LossConfig, RunConfig, StageConfig

_SOFT = {key: READINGS["soft"][key] for key in ("suppression", "suppression_ratio")}
# Row -> options of IPAD that differ from the configured ones; ``attention`` is laid over the configured attention.
_ATTENTIONS: dict[str, dict[str, Any]] = {
    "as configured": {},
    "Eq. 1 to 5 as the text has them": {"reading": "literal"},
    "Eq. 1 to 5 as the public code has them": {"reading": "public_code"},
    "Eq. 1: the keys are the map as it is": {"attention": {"normalize_keys": False}},
    "Eq. 2: the peak is kept": {"attention": {"suppression": "keep_peak", "suppression_ratio": 0.95}},
    "Eq. 2: the peak is erased": {"attention": {"suppression": "erase_peak", "suppression_ratio": 0.95}},
    "Eq. 2: soft": {"attention": _SOFT},
    "Eq. 3: every round starts afresh": {"attention": {"carry": "none"}},
    "Eq. 3: the map shrinks, times h w": {"attention": {"carry": "scaled"}},
    "Eq. 4: one query for all rounds": {"attention": {"query": "fixed"}},
    "Eq. 4: the query learns what it saw, and where": {"attention": {"query": "mlp_xy"}},
    "Eq. 5 reads the query": {"attention": {"output": "query"}},
    "one round": {"iterations": 1},
    "one round, three times as sharp": {"iterations": 1, "attention": {"sharpness": 3.0}},
    "one round, three queries side by side": {"iterations": 1, "attention": {"num_queries": 3}},
}


def attention_readings(options: Mapping[str, Any]) -> dict[str, Callable[[RunConfig], RunConfig]]:
    """Eq. 1 to 5: IP-SP alone, trained as stage 1 is configured, by row of the table what changes in a run.

    A reading of all five takes the place of the configured one with its attention; a reading of one is laid over that.

    Args:
        options: All options of the configured network.
    """
    configured = dict(options["attention"] or {})

    def variant(row: Mapping[str, Any]) -> Callable[[RunConfig], RunConfig]:
        attention = {} if "reading" in row else {**configured, **row.get("attention", {})}
        changes = {**row, "attention": attention or None, "semantic": False}

        def change(run: RunConfig) -> RunConfig:
            model = dataclasses.replace(run.model, options={**run.model.options, **changes})
            clusters = dataclasses.replace(run.clusters, enabled=False)
            return dataclasses.replace(run, model=model, clusters=clusters, stage2=StageConfig())

        return change

    return {name: variant(row) for name, row in _ATTENTIONS.items()}


def fusion_readings(config: RunConfig) -> dict[str, Callable[[RunConfig], RunConfig]]:
    """Eq. 15 and 21: both branches, with the contrast between them and without, summed and side by side.

    Args:
        config: The configured run; where it has no contrast, the paper's weight stands in.
    """
    weight = config.losses.contrast_weight or LossConfig().contrast_weight

    def variant(contrast: float, fusion: str) -> Callable[[RunConfig], RunConfig]:
        def change(run: RunConfig) -> RunConfig:
            model = dataclasses.replace(run.model, options={**run.model.options, "fusion": fusion})
            losses = dataclasses.replace(run.losses, contrast_weight=contrast)
            return dataclasses.replace(run, model=model, losses=losses)

        return change

    return {
        "with Eq. 15, summed as in Eq. 21": variant(weight, "sum"),
        "with Eq. 15, side by side": variant(weight, "concat"),
        "without Eq. 15, summed as in Eq. 21": variant(0.0, "sum"),
        "without Eq. 15, side by side": variant(0.0, "concat"),
    }
