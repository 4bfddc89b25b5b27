"""Several methods on one dataset, from one start, in one table: what the quickstart runs."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from ipad_core import AttributeEmbedder
from ipad_train.chance import stuck_attributes
from ipad_train.checkpoint import write_json
from ipad_train.comparison import Precisions, differences, mean_results
from ipad_train.config import ModelConfig, RerankConfig, RunConfig, StageConfig
from ipad_train.config_files import load_run_config
from ipad_train.data import RunData, load_data
from ipad_train.evaluate import evaluate_split, map_table
from ipad_train.frozen import fitted_lens, frozen_trunk
from ipad_train.launch import make_accelerator
from ipad_train.networks import network_options
from ipad_train.reranking import load_reasoner
from ipad_train.run_results import evaluate_stages
from ipad_train.training import Training

# Options of the configured network that every method takes, so that they share its trunk and size.
SHARED_OPTIONS = ("image_size", "trunk", "embed_dim", "position_channels")
_RESULTS, _PRECISIONS = "comparison.json", "precisions.npz"


def compare_seeds(
    config: RunConfig, seeds: list[int], methods: list[str], split: str = "test",
    announce: Callable[[str], None] = print,
) -> dict[str, Any]:  # fmt: skip
    """:func:`compare` once a seed, in ``seed-N`` below ``config.output_dir``, and a table of the means.

    Seeds that are complete are not trained again.

    Returns:
        See :func:`ipad_train.comparison.mean_results`; written to ``comparison.json`` and ``.md``.

    Raises:
        ValueError: no seed, or one twice.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be different whole numbers, at least one, got {seeds}")
    out = Path(config.output_dir)
    config = _sharing_maps(config)
    results, precisions = [], []
    for seed in seeds:
        folder = out / f"seed-{seed}"
        done = folder / _RESULTS
        if done.is_file() and json.loads(done.read_text(encoding="utf-8"))["split"] == split:
            announce(f"{folder}: compared already")
        else:
            announce(f"=== seed {seed} ===")
            compare(dataclasses.replace(config, seed=seed, output_dir=str(folder)), methods, split, announce)
        results.append(json.loads(done.read_text(encoding="utf-8")))
        precisions.append(_read_precisions(folder))
    means = mean_results(results, seeds)
    means["differences"] = [difference._asdict() for difference in differences(results, precisions)]
    _write(out, means, make_accelerator(config), announce)
    return means


def compare(
    config: RunConfig, methods: list[str], split: str = "test", announce: Callable[[str], None] = print
) -> dict[str, Any]:
    """Train the configured network and each method beside it, evaluate all on a split, and write one table.

    All methods start from the same trunk, a pretrained one or that of the one stage 0, and train for the same stage 1, on
    the same batches. The configured network then goes through stage 2 and re-ranking. A pretrained trunk has two rows of its
    own: as it is, and as a lens. Runs that are complete already are not trained again, so an interrupted comparison
    continues where it was.

    Args:
        config: The run; its ``output_dir`` holds one folder a method.
        methods: Networks of ipad-core to train beside the configured one, e.g. ``csn``; they get its
            ``SHARED_OPTIONS``.
        split: Split to evaluate on.
        announce: Receives lines for the user.

    Returns:
        As :func:`ipad_train.run_results.evaluate_stages`, with the rows of all methods and the ``differences`` that
        matter; written to ``comparison.json`` and ``.md``.
    """
    started = time.monotonic()
    out = Path(config.output_dir)
    config = _sharing_maps(config)
    main = _train(dataclasses.replace(config, output_dir=str(out / config.model.name)), announce)
    config = load_run_config(main)  # with what its start decided: weights, lengths
    accelerator = make_accelerator(config)
    data = load_data(config.data)
    options = network_options(config, data)
    shared = {key: options[key] for key in SHARED_OPTIONS if key in options}
    stage0 = main / "stages" / "stage0"
    trunk = config.model.trunk_weights or (str(stage0) if stage0.is_dir() else None)
    runs = []
    for method in methods:
        peer = dataclasses.replace(
            config, output_dir=str(out / method), stage0=StageConfig(), stage2=StageConfig(),
            model=ModelConfig(name=method, options=shared, trunk_weights=trunk), rerank=RerankConfig(enabled=False),
        )  # fmt: skip
        runs.append(_train(peer, announce))
    results = evaluate_stages(main, data, split, config, accelerator, load_reasoner(main), keep_precisions=True)
    rows = results["rows"]
    peers = [
        row
        for run in runs
        for row in _rows(AttributeEmbedder.from_pretrained(run / "best"), data, split, config, accelerator)
    ]
    first = 1 + sum(row["name"] == "stage 0 alone" for row in rows)
    results["rows"] = rows = (
        rows[:1] + _frozen_rows(out, data, split, config, accelerator) + rows[1:first] + peers + rows[first:]
    )
    precisions = {row["name"]: row.pop("precisions") for row in rows[1:]}
    for row in rows:
        row["stuck"] = stuck_attributes(row["attributes"], rows[0]["attributes"])
    results["beta"] = getattr(AttributeEmbedder.from_pretrained(main / "best"), "beta", None)
    results["seconds"] = round(time.monotonic() - started)
    results["seed"] = config.seed
    results["device"] = _device_name(accelerator.device)
    results["differences"] = [difference._asdict() for difference in differences([results], [precisions])]
    if accelerator.is_main_process:
        np.savez(out / _PRECISIONS, **precisions)
    _write(out, results, accelerator, announce)
    return results


def _sharing_maps(config: RunConfig) -> RunConfig:
    """With one folder for all methods' maps of a frozen trunk, which are the same."""
    if config.data.maps_dir is not None:
        return config
    data = dataclasses.replace(config.data, maps_dir=str(Path(config.output_dir) / "maps"))
    return dataclasses.replace(config, data=data)


def _train(config: RunConfig, announce: Callable[[str], None]) -> Path:
    run_dir = Path(config.output_dir)
    if (run_dir / "validation.json").exists():
        announce(f"{run_dir}: trained already")
    else:
        announce(f"== {config.model.name} ==")
        Training(config, "auto", announce).run()
    return run_dir


def _frozen_rows(
    out: Path, data: RunData, split: str, config: RunConfig, accelerator: Accelerator
) -> list[dict[str, Any]]:
    lens = frozen_trunk(config, data)
    if lens is None:
        return []
    rows = _rows(lens, data, split, config, accelerator)
    fitted = fitted_lens(lens, out / "lens" / "best", config, data, accelerator)
    return rows + _rows(fitted, data, split, config, accelerator)


def _rows(
    model: AttributeEmbedder, data: RunData, split: str, config: RunConfig, accelerator: Accelerator
) -> list[dict[str, Any]]:
    model = model.to(accelerator.device)
    return evaluate_split(model, data, split, config, accelerator, keep_precisions=True)["rows"][1:]


def _write(out: Path, results: dict[str, Any], accelerator: Accelerator, announce: Callable[[str], None]) -> None:
    if accelerator.is_main_process:
        write_json(out / _RESULTS, results)
        table = map_table(results, title=f"{results['split']} MAP, %")
        (out / "comparison.md").write_text(table + "\n", encoding="utf-8")
        announce(table)
    accelerator.wait_for_everyone()


def _read_precisions(folder: Path) -> Precisions:
    with np.load(folder / _PRECISIONS) as file:
        return dict(file)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    count = torch.get_num_threads()
    return f"CPU, {count} thread{'s' * (count > 1)}"
