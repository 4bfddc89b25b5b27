"""Stages of a timm network: which ones a trunk reads, and which modules belong to the first of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

LAST = "last"  # instead of a stage: the map that the network's classifier pools
_COARSEST = 16  # stride of the map where nobody chose a stage, px


def stages_of(network: nn.Module) -> list[dict[str, Any]]:
    """What timm says of each stage: ``num_chs``, ``reduction`` (stride, px) and ``module``."""
    return list(getattr(network.feature_info, "info", network.feature_info))


def is_isotropic(stages: Sequence[dict[str, Any]]) -> bool:
    """Whether every stage has one stride, as the blocks of a vision transformer have."""
    return len({stage["reduction"] for stage in stages}) == 1


def choose_stages(
    name: str, stages: Sequence[dict[str, Any]], wanted: int | str | Sequence[int | str] | None
) -> list[int]:
    """Indices of the stages to read, in the order given; ``len(stages)`` stands for ``last``.

    Without a wish it is the deepest stage of stride 16 or less, which is the last block of a vision transformer (of
    larger patches as well). There the last block is what ``last`` means, too.

    Raises:
        ValueError: the network has no such stage, or one is named twice.
    """
    if wanted is None:
        finest = min(stage["reduction"] for stage in stages)
        return [max(i for i, stage in enumerate(stages) if stage["reduction"] <= max(_COARSEST, finest))]
    known = range(len(stages))
    given = [wanted] if isinstance(wanted, (int, str)) else list(wanted)
    final = known[-1] if is_isotropic(stages) else len(stages)
    chosen = [final if i == LAST else i for i in given]
    unknown = any(i != LAST and (isinstance(i, bool) or i not in known) for i in given)
    if unknown or not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(
            f"stage of the trunk {name!r} must be within [0, {known[-1]}] or {LAST!r}, or a list of such without "
            f"repetition, got {wanted!r}"
        )
    return chosen


def leading_modules(network: nn.Module, stages: Sequence[dict[str, Any]], count: int) -> list[nn.Module]:
    """Modules of the first ``count`` stages and of what comes before them (the stem, embeddings), in order of use.

    The network itself, and a module that also holds later stages, are left out.

    Raises:
        ValueError: timm does not name the module that ends the stage.
    """
    last = stages[count - 1]["module"]
    named = list(network.named_modules())
    ends = [i for i, (name, _) in enumerate(named) if name and (name == last or name.startswith(f"{last}."))]
    if not ends:
        raise ValueError(f"freeze: timm does not say which modules end stage {count - 1}; freeze 0 stages")
    return [module for name, module in named[: max(ends) + 1] if name and not last.startswith(f"{name}.")]
