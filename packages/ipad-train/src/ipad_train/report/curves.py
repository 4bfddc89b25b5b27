"""Loss, learning-rate and MAP curves of runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ipad_train.chance import stuck_attributes
from ipad_train.config import STAGE_NAMES
from ipad_train.report.plots import Series, is_flattened, plot
from ipad_train.step_numbers import ACTIVE, BY_ATTRIBUTE, COSINE

_NOT_A_LOSS = (
    "step",
    "stage",
    "event",
    "accuracy",
    "skipped_images",
    "skipped_steps",
    "gradient_norm",
    "loss_scale",
)
_MAP, _STUCK = "validation/MAP", "validation/stuck"
_RATE = "learning_rate"
_KINDS = ("validation/", "random/", _RATE, "queues_filled/", *BY_ATTRIBUTE)
_MEANINGS = {
    "naming": "naming values from the embedding (not in the paper)",
    "naming_spatial": "naming values from IP-SP (not in the paper)",
    "naming_semantic": "naming values from IP-SE (not in the paper)",
    "triplet": "triplets (Eq. 14)",
    "triplet_spatial": "triplets of IP-SP (Eq. 14)",
    "triplet_semantic": "triplets of IP-SE (Eq. 14)",
    "contrast": "both branches against backgrounds (Eq. 15)",
    "centers_spatial": "cluster centers of IP-SP (Eq. 16)",
    "centers_semantic": "cluster centers of IP-SE (Eq. 16)",
}


@dataclass(frozen=True)
class Curve:
    """A plot: its ``title``, the ``svg``, and a ``note`` below it."""

    title: str
    svg: str
    note: str = ""


def run_curves(metrics: list[dict[str, Any]], starts: Mapping[str, int] | None = None) -> list[Curve]:
    """Losses of every stage of a run, what it skipped, its accuracy in stage 0, learning rate and validation MAP.

    Args:
        metrics: Rows of ``metrics.jsonl``, by the steps of the run.
        starts: Steps of the run before each stage; a plot of one stage counts its own, as the stage's messages do.
    """
    curves, starts = [], starts or {}
    for stage in STAGE_NAMES:
        start, label = starts.get(stage, 0), f"step of {stage}"
        rows = [{**row, "step": row["step"] - start} for row in metrics if row["stage"] == stage]
        events = [(row["step"], row["event"]) for row in rows if "event" in row]
        losses = _series(rows, lambda key: key not in _NOT_A_LOSS and not key.startswith(_KINDS))
        if losses:
            notes = ["loss: the weighted sum of the others"] if len(losses) > 1 else []
            notes += [f"{_name(key)}: {_MEANINGS[key]}" for key in losses if key in _MEANINGS]
            notes += [f"step {step} (dotted line): {text}" for step, text in events]
            named = {_name(key): line for key, line in losses.items()}
            svg = plot(named, f"loss of {stage}", "loss", [step for step, _ in events], label, is_flattened(named))
            curves.append(Curve(f"Losses of {stage}", svg, "; ".join(notes)))
        if accuracy := _series(rows, lambda key: key == "accuracy"):
            shown = {"training batches": (accuracy["accuracy"][0], [100 * y for y in accuracy["accuracy"][1]])}
            svg = plot(shown, f"accuracy of {stage}", "accuracy, %", (), label)
            curves.append(Curve(f"Accuracy of {stage}", svg))
        if active := _series(rows, lambda key: key.startswith(ACTIVE)):
            shown = {
                _name(key): (steps, [None if y is None else 100 * y for y in ys])
                for key, (steps, ys) in active.items()
            }
            note = "Triplets that still have a loss. Near 100 % without falling: the attribute has not taken off."
            svg = plot(shown, f"active triplets of {stage}", "active triplets, %", (), label)
            curves.append(Curve(f"Active triplets of {stage}", svg, note))
        if alike := _series(rows, lambda key: key.startswith(COSINE)):
            shown = {_name(key): line for key, line in alike.items()}
            note = "Of two images of a batch. Near 1: the attribute's embeddings have collapsed into one."
            svg = plot(shown, f"mean cosine of embeddings in {stage}", "mean cosine", (), label)
            curves.append(Curve(f"How alike embeddings are in {stage}", svg, note))
        skipped = _series(rows, lambda key: key == "skipped_images")
        if any(any(values) for _, values in skipped.values()):
            named = {_name(key): line for key, line in skipped.items()}
            svg = plot(named, f"skipped in {stage}", "images a step", (), label)
            curves.append(Curve(f"Unreadable images of {stage}", svg))
    if rates := _learning_rates(metrics):
        svg = plot(rates, "learning rate", _RATE.replace("_", " "), log=is_flattened(rates))
        curves.append(Curve("Learning rate", svg))
    validation = _series(metrics, lambda key: key.startswith("validation/"))
    stuck = validation.pop(_STUCK, None)
    if validation:
        shown = {"overall": validation.pop(_MAP), **validation} if _MAP in validation else validation
        shown = {_name(name): line for name, line in shown.items()}
        ends = _stage_starts(metrics)
        note = "Dotted lines: a stage begins, with its own embedding, so the MAP may jump." if ends else ""
        curves.append(Curve("Validation MAP", plot(shown, "validation MAP", "MAP, %", ends), note))
    if stuck and any(stuck[1]):
        svg = plot({"stuck attributes": stuck}, "stuck attributes", "attributes", _stage_starts(metrics))
        curves.append(Curve("Attributes at chance", svg, _when_stuck(metrics)))
    return curves


def method_curves(metrics: dict[str, list[dict[str, Any]]], starts: Mapping[str, int] | None = None) -> list[Curve]:
    """Stage-1 loss and validation MAP of several runs over the steps of that stage.

    Args:
        metrics: By the name of the run, rows of its ``metrics.jsonl``.
        starts: Steps of each run before its stage 1.
    """
    losses, maps = {}, {}
    for name, rows in metrics.items():
        mine = [row for row in rows if row["stage"] == "stage1"]
        before = (starts or {}).get(name, 0)
        for series, key in ((losses, "loss"), (maps, _MAP)):
            for steps, values in _series(mine, lambda k, key=key: k == key).values():
                series[name] = ([step - before for step in steps], values)
    curves = []
    if losses:
        svg = plot(losses, "stage-1 loss of all methods", "loss", (), "step of stage1", is_flattened(losses))
        curves.append(Curve("Stage-1 loss of all methods", svg))
    if any(len(steps) > 1 for steps, _ in maps.values()):  # single points are in the table
        svg = plot(maps, "validation MAP of all methods in stage 1", "MAP, %", (), "step of stage1")
        curves.append(Curve("Validation MAP of all methods", svg))
    return curves


def _series(rows: list[dict[str, Any]], wanted: Callable[[str], bool]) -> Series:
    names = dict.fromkeys(key for row in rows for key in row if wanted(key))
    lines = {name: [(row["step"], row[name]) for row in rows if name in row] for name in names}
    order = sorted(lines, key=lambda name: name != "loss")  # the sum first
    return {name: tuple(map(list, zip(*lines[name], strict=True))) for name in order}


def _learning_rates(metrics: list[dict[str, Any]]) -> Series:
    """A line for each stage, and one for the rate of its IP-SP where that has its own."""
    rates: Series = {}
    for stage in STAGE_NAMES:
        rows = [row for row in metrics if row["stage"] == stage]
        for key, line in _series(rows, lambda key: key.startswith(_RATE)).items():
            rates[f"{stage}, IP-SP" if "/" in key else stage] = line
    return rates


def _stage_starts(metrics: list[dict[str, Any]]) -> list[int]:
    """Last step before each stage but the first."""
    last = {
        stage: max((row["step"] for row in metrics if row["stage"] == stage), default=None) for stage in STAGE_NAMES
    }
    ends = [step for step in last.values() if step is not None]
    return ends[:-1]


def _when_stuck(metrics: list[dict[str, Any]]) -> str:
    """Which attributes each evaluation found at chance; of equal ones in a row the first."""
    said: list[str] = []
    before = None
    for row in metrics:
        if _STUCK in row:
            random = {key.removeprefix("random/"): value for key, value in row.items() if key.startswith("random/")}
            stuck = stuck_attributes({name: row[f"validation/{name}"] for name in random}, random)
            if stuck != before:
                said.append(f"step {row['step']} ({row['stage']}): {', '.join(map(_name, stuck)) or 'none'}")
            before = stuck
    return "; ".join(said)


def _name(key: str) -> str:
    return key.rpartition("/")[2].replace("_", " ")
