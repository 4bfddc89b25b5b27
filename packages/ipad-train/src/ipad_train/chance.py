"""Which attributes never left chance: little better than a random ranking."""

from __future__ import annotations

from collections.abc import Mapping

STUCK_SHARE = 0.1  # of the way from the random expectation to a perfect ranking
STUCK_MEANS = "less than a tenth of the way from a random ranking to a perfect one"


def stuck_attributes(maps: Mapping[str, float], random: Mapping[str, float]) -> list[str]:
    """Attributes whose MAP is below ``random + 0.1 * (100 - random)``, in percent; those at 100 never are.

    Args:
        maps: MAP of each attribute, percent.
        random: Its expectation for a random ranking, percent.
    """
    return [name for name, value in maps.items() if value < min(100.0, chance_level(random[name]))]


def chance_level(random: float) -> float:
    """The MAP below which an attribute counts as stuck, percent."""
    return random + STUCK_SHARE * (100.0 - random)


def describe_stuck(maps: Mapping[str, float], random: Mapping[str, float]) -> list[str]:
    """Lines for the user on what is stuck and what to try; none where nothing is."""
    stuck = stuck_attributes(maps, random)
    if not stuck:
        return []
    named = ", ".join(f"{name} {maps[name]:.1f} (random {random[name]:.1f})" for name in stuck)
    return [
        f"still at chance on validation, {STUCK_MEANS}: {named}",
        "what to try for these: more stage1.epochs; a larger model.options.image_size and data.detail_size for what is "
        "small; a pretrained trunk (model.options.trunk); more labelled images of their rarer values; and look at their "
        "labels (`ipad-data doctor`) and at where the attention goes (`ipad-train report`)",
    ]
