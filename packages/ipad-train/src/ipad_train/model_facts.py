"""What the card of a delivered model says about its training: data and their terms, what was measured, and how."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ipad_core import AttributeEmbedder
from ipad_train.checkpoint import replace_folder
from ipad_train.config import RunConfig
from ipad_train.config_identity import config_hash
from ipad_train.data import RunData
from ipad_train.run_folder import SCORE, RunFolder


def model_facts(run_dir: Path, config: RunConfig, data: RunData, results: Mapping[str, Any]) -> dict[str, Any]:
    """Facts as :attr:`ipad_core.AttributeEmbedder.about` takes them.

    Args:
        run_dir: Folder of the run.
        config: Of the run.
        data: What it was trained on; its licence is what the dataset itself says.
        results: Of the run's end, on validation.
    """
    row = next(row for row in results["rows"] if row["name"] == results["delivered"])
    split = results["split"]
    maps = {"all queries": row["overall"], **row["attributes"]}
    entries = data.train_entries
    facts: dict[str, Any] = {
        "dataset": f"{config.data.name}: {len(set(entries.rows.tolist()))} images with {len(entries)} labels, seed "
        f"{config.seed}, stages {', '.join(f'{name} ({stage.steps} steps)' for name, stage in config.stages())}, "
        f"configuration {config_hash(config)[:16]}",
        "metrics": {f"{split} MAP of {name}, %": round(value, 2) for name, value in maps.items()},
        "metrics_command": f"ipad-train evaluate {shlex.quote(run_dir.name)} --split {split}",
    }
    if terms := data.splits["train"].info.license:
        facts["dataset_terms"] = f"Terms of the data: {terms}."
    return facts


def describe_delivered(run_dir: Path, facts: Mapping[str, Any]) -> None:
    """Write the facts into the card and the configuration of the model that a run delivers; its weights stay."""
    best = RunFolder(run_dir).best
    model = AttributeEmbedder.from_pretrained(best)
    model.about = dict(facts)

    def write(folder: Path) -> None:
        model.save_pretrained(folder)
        shutil.copy2(best / SCORE, folder / SCORE)

    replace_folder(best, write)
