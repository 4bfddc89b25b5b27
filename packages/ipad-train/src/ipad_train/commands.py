"""What the commands beside ``train`` do with a run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ipad_core import AttributeEmbedder, create_model
from ipad_rerank import write_embeddings
from ipad_train.analyze import analysis_table, analyze, explain
from ipad_train.checkpoint import write_json
from ipad_train.config import RunConfig
from ipad_train.config_files import load_run_config
from ipad_train.distributed import on_main_process
from ipad_train.embed import embed_split
from ipad_train.embedding.options import EmbedOptions
from ipad_train.embedding.run import chosen_model
from ipad_train.evaluate import random_row
from ipad_train.frozen import frozen_rows, pooled_features
from ipad_train.networks import network_options
from ipad_train.result_tables import map_table
from ipad_train.run_context import RunContext
from ipad_train.run_folder import RunFolder, model_folder
from ipad_train.run_results import evaluate_stages
from ipad_train.trained_runs import check_settings
from ipad_train.vectors import photo_keys, write_vectors


def evaluate_run(
    run_dir: Path, split: str, overrides: Iterable[str], announce: Callable[[str], None]
) -> dict[str, Any]:
    """Evaluate a run's stages, and what it delivers, on a split; writes ``evaluation-SPLIT.json`` and ``.md`` into the run.

    Raises:
        FileNotFoundError: the folder is no run, or holds no model yet.
    """
    config = load_run_config(run_dir, overrides)
    context = RunContext.open(config, announce)
    results = evaluate_stages(run_dir, context, split)
    if context.accelerator.is_main_process:
        table = map_table(results, title=f"{split} MAP, %")
        write_json(RunFolder(run_dir).evaluation(split), results)
        RunFolder(run_dir).evaluation(split, "md").write_text(table + "\n", encoding="utf-8")
        announce(table)
        announce(f"the run delivers: {results['final']}")
    return results


def embed_run(
    run_dir: Path, out: Path, options: EmbedOptions, overrides: Iterable[str], announce: Callable[[str], None]
) -> None:
    """Write the embeddings of a split as a file that ``ipad-rerank`` reads.

    Labels are flat value ids, group ids are attribute ids; roles are 0 train, 1 query, 2 gallery.

    Raises:
        FileNotFoundError: the folder is no run, or holds no model yet; ``out`` lies in no folder.
        ValueError: unknown split, a stage that the run does not have, or a branch that the model does not have.
    """
    config = load_run_config(run_dir, overrides)
    if not out.parent.is_dir() or not os.access(out.parent, os.W_OK):
        raise FileNotFoundError(f"--out {out}: {out.parent} is no folder that can be written to")
    context = RunContext.open(config, announce)
    split, branch, accelerator = options.split or "test", options.branch, context.accelerator
    dataset, folder = context.data.split(split), chosen_model(run_dir, options.stage)
    model = AttributeEmbedder.from_pretrained(folder).to(accelerator.device)
    roles = ("train",) if split == "train" else ("query", "gallery")
    parts = {"branches": "spatial"} if branch == "spatial" and branch in model.branches else {}  # no crops
    embedded = embed_split(model, dataset, config.data, accelerator, roles=roles, **parts)
    vectors = getattr(embedded, branch)
    if vectors is None:
        raise ValueError(
            f"branch must be one that the model has, and {folder} has no {branch!r} branch; stages of the run: "
            f"{', '.join(RunFolder(run_dir).trained_stages()) or 'unknown'}"
        )
    if accelerator.is_main_process:
        write_embeddings(
            out,
            vectors.astype(np.float32),
            labels=embedded.value_ids,
            group_ids=embedded.attribute_ids,
            ids=embedded.image_ids,
            roles=embedded.roles,
            metadata={"run": run_dir.name, "split": split, "branch": branch},
        )
        announce(f"{out}: {len(vectors)} embeddings of {vectors.shape[1]} numbers")


def analyze_network(source: str, attributes: int, image_size: int | None, announce: Callable[[str], None]) -> None:
    """Say what a network costs, branch by branch.

    Args:
        source: A run's folder, or a name of ``ipad_core.list_models()``.
        attributes: Of a network by name.
        image_size: Side of the image, px; None for what the network takes.
        announce: Receives the lines.

    Raises:
        ValueError: neither a run nor a network; numbers that are not positive.
    """
    if attributes < 1 or (image_size is not None and image_size < 1):
        raise ValueError(f"attributes and image-size must be positive, got {attributes} and {image_size}")
    folder = Path(source)
    if folder.is_dir():
        model = AttributeEmbedder.from_pretrained(model_folder(folder))
    else:
        model = create_model(source, num_attributes=attributes).eval()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    parts = analyze(model.to(device), image_size or model.detail_size)
    announce(analysis_table(model, parts, device))
    for line in explain(model, parts):
        announce(f"\n{line}")


def write_features(config: RunConfig, trunk: Mapping[str, Any], out: Path, announce: Callable[[str], None]) -> None:
    """Pooled features of every photo of a dataset by any trunk, as a file that ``data.vectors`` takes.

    Args:
        config: Which dataset, and the size of the images where its network has one.
        trunk: As ``model.options.trunk``; its stage is ``last`` where none is given.
        out: ``.npy`` or ``.safetensors``.
        announce: Receives a line for the user.

    Raises:
        ValueError: another kind of file, or a trunk that timm does not know.
        WeightsNotFoundError: no pretrained weights are to be had.
    """
    if out.suffix not in (".npy", ".safetensors"):
        raise ValueError(f"--out must end in .npy or .safetensors, got {out}")
    context = RunContext.open(config, announce)
    data, accelerator = context.data, context.accelerator
    size = network_options(config, data).get("image_size", 224)
    lens = create_model("lens", num_attributes=1, image_size=size, trunk=dict(trunk)).to(accelerator.device).eval()
    parts, names = [], []
    for split in data.splits.values():
        parts.append(pooled_features(lens, split, config.data))
        names += photo_keys(split)
    if accelerator.is_main_process:
        array = np.concatenate(parts)
        write_vectors(out, array, names)
        announce(
            f"{out}: {len(array)} vectors of {array.shape[1]} numbers; train any head on them with data.vectors={out} "
            f"model.options.trunk='{{name: vectors, options: {{dim: {array.shape[1]}}}}}'"
        )
    accelerator.wait_for_everyone()


def fit_lens(config: RunConfig, split: str, announce: Callable[[str], None]) -> dict[str, Any]:
    """Fit a lens on the frozen trunk of a configuration, or on its vectors, and evaluate it beside the trunk as it is.

    The lens lies in ``lens/best`` of the output folder, and loads with ``AttributeEmbedder.from_pretrained``.

    Raises:
        ValueError: an unknown split, a trunk from random weights, or other settings than those the folder was made with.
    """
    context = RunContext.open(config, announce)
    dataset, accelerator, out = context.data.split(split), context.accelerator, context.folder
    on_main_process(accelerator, lambda: check_settings(out, config, command="lens"))
    rows = frozen_rows(out, context, split)
    if not rows:
        raise ValueError(
            "a lens needs a pretrained trunk or vectors: set model.options.trunk.pretrained=true, or data.vectors=FILE and "
            "model.options.trunk='{name: vectors, options: {dim: N}}'"
        )
    for row in rows:
        row.pop("precisions")
    results = {"split": split, "rows": [random_row(dataset, context.data.schema), *rows]}
    if accelerator.is_main_process:
        write_json(out / f"lens-{split}.json", results)
        announce(map_table(results, title=f"{split} MAP, %"))
        announce(f"the lens lies in {out / 'lens' / 'best'}")
    return results
