"""Several methods on one dataset, from one stage 0, in one table: what the quickstart runs."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ipad_core import AttributeEmbedder
from ipad_train.checkpoint import write_json
from ipad_train.config import ModelConfig, RerankConfig, RunConfig, StageConfig
from ipad_train.data import load_data
from ipad_train.evaluate import evaluate_split, map_table
from ipad_train.launch import make_accelerator
from ipad_train.reranking import load_reasoner
from ipad_train.run_results import evaluate_stages
from ipad_train.training import Training

# Options of the configured network that every method takes, so that they share its trunk and size.
SHARED_OPTIONS = ("image_size", "trunk", "embed_dim", "position_channels")
STUCK_BELOW = 1.25  # an attribute below this multiple of the random MAP counts as never having left chance


def compare(
    config: RunConfig, methods: list[str], split: str = "test", announce: Callable[[str], None] = print
) -> dict[str, Any]:
    """Train the configured network and each method beside it, evaluate all on a split, and write one table.

    Stage 0 is trained once; every method starts from its trunk and trains for the same number of stage-1 steps, on the
    same batches. The configured network then goes through stage 2 and re-ranking. Runs that are complete already are not
    trained again, so an interrupted comparison continues where it was.

    Args:
        config: The run; its ``output_dir`` holds one folder a method.
        methods: Networks of ipad-core to train beside the configured one, e.g. ``csn_tiny``.
        split: Split to evaluate on.
        announce: Receives lines for the user.

    Returns:
        As :func:`evaluate_split`, with the rows of all methods; written to ``comparison.json`` and ``.md``.
    """
    started = time.monotonic()
    out = Path(config.output_dir)
    main = _train(dataclasses.replace(config, output_dir=str(out / config.model.name)), announce)
    trunk = config.model.trunk_weights or str(main / "stages" / "stage0")
    shared = {key: value for key, value in config.model.options.items() if key in SHARED_OPTIONS}
    runs = []
    for method in methods:
        runs.append(
            _train(
                dataclasses.replace(
                    config, output_dir=str(out / method), stage0=StageConfig(), stage2=StageConfig(),
                    model=ModelConfig(name=method, options=shared, trunk_weights=trunk), rerank=RerankConfig(enabled=False),
                ),
                announce,
            )
        )  # fmt: skip
    accelerator = make_accelerator(config)
    data = load_data(config.data)
    results = evaluate_stages(main, data, split, config, accelerator, load_reasoner(main))
    rows = results["rows"]
    before = 1 + sum(row["name"] == "stage 0 alone" for row in rows)
    for run in reversed(runs):
        model = AttributeEmbedder.from_pretrained(run / "best").to(accelerator.device)
        rows[before:before] = evaluate_split(model, data, split, config, accelerator)["rows"][1:]
    random = rows[0]["attributes"]
    for row in rows:
        row["stuck"] = [name for name, value in row["attributes"].items() if value < STUCK_BELOW * random[name]]
    results["beta"] = getattr(AttributeEmbedder.from_pretrained(main / "best"), "beta", None)
    results["seconds"] = round(time.monotonic() - started)
    results["seed"] = config.seed
    results["device"] = _device_name(accelerator.device)
    if accelerator.is_main_process:
        write_json(out / "comparison.json", results)
        table = map_table(results, title=f"{split} MAP, %")
        (out / "comparison.md").write_text(table + "\n", encoding="utf-8")
        announce(table)
    return results


def _train(config: RunConfig, announce: Callable[[str], None]) -> Path:
    run_dir = Path(config.output_dir)
    if (run_dir / "validation.json").exists():
        announce(f"{run_dir}: trained already")
    else:
        announce(f"== {config.model.name} ==")
        Training(config, "auto", announce).run()
    return run_dir


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    count = torch.get_num_threads()
    return f"CPU, {count} thread{'s' * (count > 1)}"
