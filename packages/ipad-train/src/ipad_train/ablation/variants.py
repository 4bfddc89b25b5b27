"""What the figures of section 4.3 and the tables beside them change in a configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ipad_core.layers.iterative_attention import READINGS
from ipad_train.ablation.readings import attention_readings, fusion_readings
from ipad_train.budget import Budget
from ipad_train.config import RunConfig, StageConfig

Change = Callable[[RunConfig], RunConfig]
FIGURES = ("2", "3", "4", "5", "6")  # of the paper
TABLES = ("readings", "fusion")  # of what it leaves open


@dataclass(frozen=True)
class Figure:
    """A figure of the paper, or a table beside them.

    Args:
        title: What it shows.
        axis: Of a curve, the name of the horizontal axis; empty for bars.
        variants: Label -> what it changes.
    """

    title: str
    axis: str
    variants: Mapping[str, Change]


def figures(config: RunConfig, options: Mapping[str, Any]) -> dict[str, Figure]:
    """Figures 2 to 6 for a configured IPAD with both branches, and the tables of :mod:`ipad_train.ablation.readings`.

    Figures 2, 3 and 5 leave the attribute diverging out, as the paper does, figures 3 and 5 IP-SE as well. A variant with
    one branch trains as many steps as both stages have. Our readings: "w/o AS" is without suppression and "w/ IA" with the
    soft one, where the configuration has none; without the momentum encoder of a branch there are no centers for it, and
    its loss of Eq. 16 goes. Figure 6 sets beta on the trained "w/ ME" and trains nothing.

    Args:
        config: The run, lengths in steps.
        options: All options of its network.
    """
    both = config.stage1.steps + config.stage2.steps

    def changed(**changes: Any) -> Change:
        def change(run: RunConfig) -> RunConfig:
            model = dataclasses.replace(run.model, options={**run.model.options, **changes})
            run = _without_clusters(dataclasses.replace(run, model=model))
            if changes:  # one branch
                run = Budget("steps").apply(dataclasses.replace(run, stage2=StageConfig()), both)
            if changes.get("spatial") is False:  # the trunk sees whole images as IP-SE's input, which are not kept
                run = dataclasses.replace(run, data=dataclasses.replace(run.data, keep_maps=False))
            return run

        return change

    def attending(**attention: Any) -> Change:
        return changed(semantic=False, attention={**suppressing, **attention})

    suppressing = _suppressing(options, options["iterations"])
    own = {**READINGS[options["reading"]], **(options["attention"] or {})}
    plain = changed(semantic=False) if own.get("suppression", "none") == "none" else attending(suppression="none")
    rounds = {str(count): _rounds(count, options, changed) for count in range(1, 11)}
    with_momentum: Change = lambda run: run  # noqa: E731
    return {
        "2": Figure(
            "IP-SP and IP-SE",
            "",
            {"w/o SE": changed(semantic=False), "w/o SP": changed(spatial=False), "w/ IP": changed()},
        ),
        "3": Figure(
            "The components of IP-SP",
            "",
            {
                "w/o ISA": attending(spatial=False),
                "w/o ICA": attending(channel=False),
                "w/o AS": plain,
                "w/ IA": attending(),
            },
        ),
        "4": Figure(
            "The momentum encoder",
            "",
            {
                "w/o ME": _without_clusters,
                "w/o ME-SP": _weights(spatial_center_weight=0.0),
                "w/o ME-SE": _weights(semantic_center_weight=0.0),
                "w/ ME": with_momentum,
            },
        ),
        "5": Figure("Rounds of the attention", "Iter", rounds),
        "6": Figure("The fusion's weight", "beta", {"w/ ME": with_momentum}),
        "readings": Figure("Readings of Eq. 1 to 5, IP-SP alone", "", attention_readings(options)),
        "fusion": Figure("Readings of Eq. 15 and 21, both branches", "", fusion_readings(config)),
    }


def _without_clusters(run: RunConfig) -> RunConfig:
    return dataclasses.replace(run, clusters=dataclasses.replace(run.clusters, enabled=False))


def _weights(**weights: float) -> Change:
    return lambda run: dataclasses.replace(run, losses=dataclasses.replace(run.losses, **weights))


def _suppressing(options: Mapping[str, Any], iterations: int) -> dict[str, Any]:
    """Options of an attention with suppression: the configured one, or the soft one where that has none."""
    own = {**READINGS[options["reading"]], **(options["attention"] or {})}
    if own.get("suppression", "none") == "none":
        own |= {key: READINGS["soft"][key] for key in ("suppression", "suppression_ratio")}
    return {**(options["attention"] or {}), **_of_length(own, iterations)}


def _rounds(count: int, options: Mapping[str, Any], changed: Callable[..., Change]) -> Change:
    own = {**READINGS[options["reading"]], **(options["attention"] or {})}
    attention = {**(options["attention"] or {}), **(_of_length(own, count) if "suppression_ratio" in own else {})}
    return changed(semantic=False, iterations=count, attention=attention)


def _of_length(own: Mapping[str, Any], iterations: int) -> dict[str, Any]:
    """The suppression with a ratio for every round: the last one goes on."""
    ratio = own["suppression_ratio"]
    if not isinstance(ratio, (int, float)):
        ratio = [*ratio, *[ratio[-1]] * iterations][:iterations]
    return {"suppression": own["suppression"], "suppression_ratio": ratio}
