"""What a user would pick instead of training: the pretrained trunk as it is, and a lens on it in closed form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch

from ipad_core import AttributeEmbedder, FeatureMaps, create_model
from ipad_core.backbones import VECTORS
from ipad_data import BatchPlan, EvaluationPlans
from ipad_train.checkpoint import replace_folder, write_json
from ipad_train.config import DataConfig, RunConfig
from ipad_train.costs import model_costs
from ipad_train.data import RunData, evaluation_batches
from ipad_train.evaluate import evaluate_split
from ipad_train.networks import network_options
from ipad_train.run_context import RunContext
from ipad_train.vectors import vectors_of


def frozen_rows(folder: Path, context: RunContext, split: str) -> list[dict[str, Any]]:
    """The rows ``frozen trunk`` and ``lens`` of a split with ``precisions`` and ``costs``; none without pretrained weights.

    No seed changes them: they are made once and kept in ``folder / "lens"``, for all that share the folder.
    """
    kept = folder / "lens" / f"{split}.json"
    arrays = kept.with_suffix(".npz")
    if not kept.is_file():
        accelerator, trunk = context.accelerator, frozen_trunk(context.config, context.data)
        if trunk is None:
            return []
        trunk = trunk.to(accelerator.device)
        rows = _evaluated(trunk, context, split)
        rows += _evaluated(fitted_lens(trunk, folder / "lens" / "best", context), context, split)
        if not accelerator.is_main_process:
            accelerator.wait_for_everyone()
            return rows
        np.savez(arrays, **{row["name"]: row.pop("precisions") for row in rows})
        write_json(kept, {"rows": rows})
        accelerator.wait_for_everyone()
    rows = json.loads(kept.read_text(encoding="utf-8"))["rows"]
    with np.load(arrays) as precisions:
        return [{**row, "precisions": precisions[row["name"]]} for row in rows]


def _evaluated(model: AttributeEmbedder, context: RunContext, split: str) -> list[dict[str, Any]]:
    model = model.to(context.accelerator.device)
    rows = evaluate_split(model, context, split, keep_precisions=True)["rows"][1:]
    costs = {**model_costs(model, context.config.data.detail_size)._asdict(), "images_per_second": None}
    return [{**row, "costs": costs} for row in rows]


def frozen_trunk(config: RunConfig, data: RunData) -> AttributeEmbedder | None:
    """A lens that is not fitted: pooled features of a pretrained trunk, or vectors; None for a trunk from random weights."""
    options = network_options(config, data)
    trunk = {key: value for key, value in options["trunk"].items() if key != "stage"}  # a lens takes the last one
    if not (trunk.get("pretrained") or trunk.get("weights") or trunk["name"] == VECTORS):
        return None
    count = len(data.schema.attributes)
    return create_model("lens", num_attributes=count, image_size=options["image_size"], trunk=trunk).eval()


def fitted_lens(lens: AttributeEmbedder, folder: Path, context: RunContext) -> AttributeEmbedder:
    """The lens fitted on the training split and saved in ``folder``, or the one that is there already."""
    accelerator = context.accelerator
    if (folder / "config.json").is_file():
        return AttributeEmbedder.from_pretrained(folder).to(accelerator.device)
    lens.schema = context.data.schema.values
    lens.fit(*_training_features(lens, context.config, context.data))
    if accelerator.is_main_process:
        folder.parent.mkdir(parents=True, exist_ok=True)
        replace_folder(folder, lens.save_pretrained)
    accelerator.wait_for_everyone()
    return lens


def pooled_features(lens: AttributeEmbedder, dataset: datasets.Dataset, config: DataConfig) -> np.ndarray:
    """``(N, C)`` pooled features of every image of a split, in its order, or the vectors that the lens reads."""
    every = np.arange(dataset.num_rows)
    nothing = np.empty(0, dtype=np.int64)
    size = config.eval_batch_size
    plans = [BatchPlan(every[i : i + size], nothing, nothing, nothing) for i in range(0, len(every), size)]
    return _pooled(lens, dataset, config, plans)[0]


def _training_features(lens: AttributeEmbedder, config: RunConfig, data: RunData) -> tuple[np.ndarray, ...]:
    """Pooled features of all training images, and the image index, attribute and value of every entry.

    Every process goes through all of them, so that all fit the same lens.
    """
    split = data.splits["train"]
    plans = EvaluationPlans(split, min(config.data.eval_batch_size, split.num_rows), roles=("train",))
    return _pooled(lens, split, config.data, plans)


@torch.no_grad()
def _pooled(
    lens: AttributeEmbedder, dataset: datasets.Dataset, config: DataConfig, plans: Any
) -> tuple[np.ndarray, ...]:
    vectors = vectors_of(lens, dataset, config)
    device = lens.trunk.mean.device
    features, indices, others, count = [], [], [], 0
    for batch in evaluation_batches(dataset, config, plans, config.on_error, with_images=vectors is None):
        images = batch["images"] if vectors is None else FeatureMaps(vectors.read(batch["rows"]))
        pooled = lens.pooled(images.to(device)).cpu()
        features.append(pooled)
        indices.append(batch["image_index"] + count)
        others.append(torch.stack([batch["attribute_ids"], batch["value_ids"]]))
        count += len(pooled)
    attribute_ids, value_ids = torch.cat(others, dim=1).numpy()
    return torch.cat(features).numpy(), torch.cat(indices).numpy(), attribute_ids, value_ids
