"""What a run came to, in the lines that it ends with: its stages, where its time went, what went wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ipad_train.clock import in_words
from ipad_train.part_times import BETWEEN_STEPS, PARTS


@dataclass(frozen=True)
class StageTime:
    """Where the time of a stage went.

    ``seconds`` by part, in the order of :data:`ipad_train.part_times.PARTS`, with ``other`` for what none of them counts;
    ``elapsed`` of the clock; ``steps`` that were timed; ``images_per_second`` over all steps, or None; ``gpu_memory``, the
    most that was taken of the main process's GPU, GiB, or None.
    """

    name: str
    steps: int
    elapsed: float
    seconds: dict[str, float]
    images_per_second: float | None
    gpu_memory: float | None = None


def stage_times(timings: Sequence[Mapping[str, Any]]) -> list[StageTime]:
    """Rows of ``timings.jsonl`` added up by stage."""
    found = []
    for name in dict.fromkeys(row["stage"] for row in timings):
        rows = [row for row in timings if row["stage"] == name]
        seconds = {part: sum(row["seconds"].get(part, 0.0) for row in rows) for part in PARTS}
        elapsed = sum(row["elapsed"] for row in rows)
        # On a GPU, waiting for the loader overlaps with the device's parts: then nothing else is left.
        seconds["other"] = max(0.0, elapsed - sum(seconds.values()))
        fast = [row for row in rows if row.get("images_per_second")]
        spent = sum(_stepping(row) for row in fast)
        images = sum(row["images_per_second"] * _stepping(row) for row in fast)
        kept = {part: value for part, value in seconds.items() if value > 0}
        speed = images / spent if spent else None
        memory = max((row["gpu_memory"] for row in rows if "gpu_memory" in row), default=None)
        found.append(StageTime(name, sum(row["steps"] for row in rows), elapsed, kept, speed, memory))
    return found


def run_summary(
    results: Mapping[str, Any], timings: Sequence[Mapping[str, Any]], skipped: Mapping[str, int], finishing: float
) -> list[str]:
    """Lines for the user.

    Args:
        results: Of :func:`ipad_train.finishing.finish_run`.
        timings: Rows of ``timings.jsonl``.
        skipped: Steps that were left out, by stage.
        finishing: Seconds of the last evaluation and of re-ranking.
    """
    lines = ["summary:"]
    times = {time.name: time for time in stage_times(timings)}
    for name, score in results["stages"].items():
        line = f"  {name}: best validation MAP {score['map']:.2f} %, at step {score['step']} of the run"
        if time := times.get(name):
            line += f"; {time.steps} steps in {in_words(time.elapsed)}"
            line += f", {time.images_per_second:.3g} images/s" if time.images_per_second else ""
            line += f", {time.gpu_memory:.1f} GiB of the GPU" if time.gpu_memory else ""
        lines.append(f"{line}; {skipped[name]} steps skipped" if skipped.get(name) else line)
    total = {part: sum(time.seconds.get(part, 0.0) for time in times.values()) for part in (*PARTS, "other")}
    total["end of the run"] = finishing
    whole = sum(total.values())
    shares = [f"{part} {100 * value / whole:.0f} %" for part, value in total.items() if value >= 0.005 * whole]
    lines.append(f"  time: {in_words(whole)}, of which {', '.join(shares)}")
    lines.append(f"  at chance: {', '.join(results['stuck']) or 'no attribute'}")
    return lines


def skipped_steps(metrics: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Steps that were left out by stage, of the rows of ``metrics.jsonl``."""
    found: dict[str, int] = {}
    for row in metrics:
        if "skipped_steps" in row:
            found[row["stage"]] = found.get(row["stage"], 0) + int(row["skipped_steps"])
    return found


def _stepping(row: Mapping[str, Any]) -> float:
    return row["elapsed"] - sum(row["seconds"].get(part, 0.0) for part in BETWEEN_STEPS)
