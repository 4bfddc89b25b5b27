"""What lies in the folder that a report is asked for: one run, or the runs of a comparison."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipad_train.config import RunConfig
from ipad_train.config_files import load_run_config
from ipad_train.run_folder import COMPARISON, CONFIG, RunFolder


@dataclass(frozen=True)
class ReportedRun:
    """A run to report on.

    Args:
        dir: The folder that was asked for.
        main: The run whose model is looked at: the folder itself, or the configured network of a comparison.
        methods: Name -> run, of all runs whose curves are drawn; ``main`` is the last.
        config: Of ``main``.
        results: MAP rows, as :func:`ipad_train.evaluate.evaluate_split` returns them.
        results_file: Where they were read.
        warnings: What the run said loudly at its end, such as a stage that lost what the one before knew.
        made_with: What it ran on and with, by name: the machine, versions of packages; empty where the run does not say.
    """

    dir: Path
    main: Path
    methods: dict[str, Path]
    config: RunConfig
    results: dict[str, Any]
    results_file: Path
    warnings: list[str]
    made_with: dict[str, str]

    def starts(self) -> dict[str, dict[str, int]]:
        """By method, the steps of its run before each stage."""
        return {name: stage_starts(load_run_config(path)) for name, path in self.methods.items()}


def read_run_folder(folder: Path, split: str, overrides: Iterable[str] = ()) -> ReportedRun:
    """Find the model, the curves and the MAP of a run or a comparison.

    Results of ``split`` are preferred; where it was not evaluated, those that there are stand in (their own split is in
    them).

    Raises:
        FileNotFoundError: no such folder, no run in it, no model or no results yet.
        ValueError: results that are not JSON of an evaluation.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; a report needs the folder of a run or of a comparison")
    overrides = list(overrides)
    if RunFolder(folder).is_configured:
        main, methods = folder, {folder.resolve().name: folder}
    else:
        main, methods = _comparison(folder)
    if not RunFolder(main).best.is_dir():
        raise FileNotFoundError(f"{main} holds no model yet: it has no folder 'best'; train it to the end first")
    results, results_file = _results(folder, main, split)
    config, ended = load_run_config(main, overrides), _ended(main)
    said, made_with = ended.get("warnings", []), ended.get("made_with", {})
    return ReportedRun(folder, main, methods, config, results, results_file, said, made_with)


def stage_starts(config: RunConfig) -> dict[str, int]:
    """Steps of a run before each of its stages. A stage that ended early counts with all of its steps."""
    stages = config.stages()
    return {name: sum(stage.steps for _, stage in stages[:place]) for place, (name, _) in enumerate(stages)}


def _comparison(folder: Path) -> tuple[Path, dict[str, Path]]:
    runs = sorted(path.parent for path in folder.glob(f"*/{CONFIG}"))
    if not runs:  # a comparison over seeds: the first one's is looked at
        first = min(folder.glob(f"seed-*/*/{CONFIG}"), default=None, key=lambda path: _seed_of(path.parents[1]))
        runs = sorted(path.parent for path in first.parents[1].glob(f"*/{CONFIG}")) if first else []
    if not runs:
        raise FileNotFoundError(
            f"{folder} is neither a run (it has no {CONFIG}) nor a comparison (none of its folders has one)"
        )
    main = max(runs, key=_rank_as_main)
    return main, {run.name: run for run in [*(run for run in runs if run != main), main]}


def _seed_of(folder: Path) -> int:
    number = folder.name.removeprefix("seed-")
    return int(number) if number.isdigit() else 0


def _rank_as_main(run: Path) -> tuple[bool, int]:
    """The network that was compared alone goes through stages 0 and 2 and re-ranking."""
    config = load_run_config(run)
    return config.rerank.enabled, len(config.stages())


def _results(folder: Path, main: Path, split: str) -> tuple[dict[str, Any], Path]:
    own = RunFolder(main)
    name = own.evaluation(split).name
    paths = [folder / COMPARISON, folder / name, own.evaluation(split), own.validation]
    found = [(_read_results(path), path) for path in dict.fromkeys(paths) if path.is_file()]
    if not found:
        raise FileNotFoundError(
            f"{folder} has no results yet: neither {COMPARISON}, {name} nor validation.json; run "
            f"`ipad-train evaluate {main} --split {split}`"
        )
    return next((pair for pair in found if pair[0]["split"] == split), found[0])


def _ended(main: Path) -> dict[str, Any]:
    """What the run wrote at its end; empty where it has not ended."""
    path = RunFolder(main).validation
    return _read_results(path) if path.is_file() else {}


def _read_results(path: Path) -> dict[str, Any]:
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        if results["rows"] and results["split"] and all("attributes" in row for row in results["rows"]):
            return results
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        pass
    raise ValueError(f"{path} is not the JSON of an evaluation: it must hold 'split' and 'rows'")
