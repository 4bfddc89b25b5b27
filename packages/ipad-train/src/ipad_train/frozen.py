"""What a user would pick instead of training: the pretrained trunk as it is, and a lens on it in closed form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from ipad_core import AttributeEmbedder, create_model
from ipad_data import EvaluationPlans
from ipad_train.checkpoint import replace_folder
from ipad_train.config import RunConfig
from ipad_train.data import RunData, evaluation_batches
from ipad_train.networks import network_options


def frozen_trunk(config: RunConfig, data: RunData) -> AttributeEmbedder | None:
    """A lens that is not fitted: pooled features of the pretrained trunk. None where the trunk has no pretrained weights."""
    options = network_options(config, data)
    trunk = {key: value for key, value in options["trunk"].items() if key != "stage"}  # a lens takes the last one
    if not (trunk.get("pretrained") or trunk.get("weights")):
        return None
    count = len(data.schema.attributes)
    return create_model("lens", num_attributes=count, image_size=options["image_size"], trunk=trunk).eval()


def fitted_lens(
    lens: AttributeEmbedder, folder: Path, config: RunConfig, data: RunData, accelerator: Accelerator
) -> AttributeEmbedder:
    """The lens fitted on the training split and saved in ``folder``, or the one that is there already."""
    if (folder / "config.json").is_file():
        return AttributeEmbedder.from_pretrained(folder).to(accelerator.device)
    lens.schema = data.schema.values
    lens.fit(*_training_features(lens, config, data, accelerator))
    if accelerator.is_main_process:
        folder.parent.mkdir(parents=True, exist_ok=True)
        replace_folder(folder, lens.save_pretrained)
    accelerator.wait_for_everyone()
    return lens


@torch.no_grad()
def _training_features(
    lens: AttributeEmbedder, config: RunConfig, data: RunData, accelerator: Accelerator
) -> tuple[np.ndarray, ...]:
    """Pooled features of all training images, and the image index, attribute and value of every entry.

    Every process goes through all of them, so that all fit the same lens.
    """
    split = data.splits["train"]
    plans = EvaluationPlans(split, min(64, split.num_rows), roles=("train",))
    features, indices, others, count = [], [], [], 0
    for batch in evaluation_batches(split, config.data, plans, config.data.on_error):
        pooled = lens.pooled(batch["images"].to(accelerator.device)).cpu()
        features.append(pooled)
        indices.append(batch["image_index"] + count)
        others.append(torch.stack([batch["attribute_ids"], batch["value_ids"]]))
        count += len(pooled)
    attribute_ids, value_ids = torch.cat(others, dim=1).numpy()
    return torch.cat(features).numpy(), torch.cat(indices).numpy(), attribute_ids, value_ids
