"""What the commands beside ``train`` do with a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ipad_core import AttributeEmbedder
from ipad_train.checkpoint import write_json
from ipad_train.data import load_data
from ipad_train.evaluate import evaluate_split, map_table
from ipad_train.launch import make_accelerator
from ipad_train.reranking import load_reasoner
from ipad_train.training import load_run_config


def evaluate_run(
    run_dir: Path, split: str, overrides: Iterable[str], announce: Callable[[str], None]
) -> dict[str, Any]:
    """Evaluate a run's best model on a split; writes ``evaluation-SPLIT.json`` and ``.md`` into the run.

    Raises:
        FileNotFoundError: the folder is no run, or holds no model yet.
    """
    config = load_run_config(run_dir, overrides)
    accelerator = make_accelerator(config)
    with accelerator.main_process_first():
        data = load_data(config.data)
    model = AttributeEmbedder.from_pretrained(run_dir / "best").to(accelerator.device)
    results = evaluate_split(model, data, split, config, accelerator, reasoner=load_reasoner(run_dir))
    if accelerator.is_main_process:
        table = map_table(results, title=f"{split} MAP, %")
        write_json(run_dir / f"evaluation-{split}.json", results)
        (run_dir / f"evaluation-{split}.md").write_text(table + "\n", encoding="utf-8")
        announce(table)
    return results
