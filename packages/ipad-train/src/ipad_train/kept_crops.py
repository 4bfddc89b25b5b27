"""The crops of a second branch, kept: where IP-SP and the trunk of IP-SE are frozen, a crop's maps never change.

Each entry (image, attribute) has its own crop. Its pixels are decoded, cut and run through the trunk once; a step then costs
what is trained: the transformer and the attention on top. No mirror images are kept. On street photos they added nothing
that we could measure, and they cost as much again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from accelerate import Accelerator

from ipad_core import IPAD, AttributeEmbedder, FeatureMaps
from ipad_data import EntryTable
from ipad_data.samplers.plan import plan_from_rows
from ipad_train.config import RunConfig
from ipad_train.data import evaluation_batches
from ipad_train.folded_trunk import folded
from ipad_train.kept_maps import can_keep_maps, keep_maps, maps_dir
from ipad_train.map_files import KeptMaps, digest_of, fast_precision, share_of, write_maps
from ipad_train.run_context import RunContext
from ipad_train.run_folder import RunFolder

_BATCH = 32  # images
_KEYS = "keys.npy"


class KeptCrops:
    """Maps of the crops of one split: entries in, one tensor a stage out.

    Args:
        folder: What :func:`keep_crops` wrote.
        num_attributes: A.
    """

    def __init__(self, folder: Path, num_attributes: int) -> None:
        self.maps = KeptMaps(folder)
        self._keys, self._num_attributes = np.load(folder / _KEYS), num_attributes

    def read(self, rows: torch.Tensor, attribute_ids: torch.Tensor) -> list[torch.Tensor]:
        """Float16 maps ``(B, C, h, w)`` of each stage.

        Args:
            rows: ``(B,)`` row of each entry's image.
            attribute_ids: ``(B,)``.

        Raises:
            KeyError: an entry that the split does not have.
        """
        wanted = (rows * self._num_attributes + attribute_ids).cpu().numpy()
        index = np.searchsorted(self._keys, wanted).clip(max=len(self._keys) - 1)
        if len(absent := np.nonzero(self._keys[index] != wanted)[0]):
            row, attribute = divmod(int(wanted[absent[0]]), self._num_attributes)
            raise KeyError(f"row {row} has no crop of attribute {attribute} in {self.maps.folder}")
        return self.maps.read(torch.from_numpy(index))


def can_keep_crops(model: AttributeEmbedder, config: RunConfig) -> bool:
    """Whether stage 2 may read its crops' maps from files: all that is trained comes behind them."""
    if not isinstance(model, IPAD) or model.semantic is None or not can_keep_maps(model, config.data):
        return False
    return config.stage2.spatial_learning_rate == 0 and model.semantic.crop_trunk.is_frozen


def kept_inputs(model: AttributeEmbedder, context: RunContext, split: str) -> dict[str, Any]:
    """Maps and crops of a split that training goes through again and again, as arguments of ``embed_split``.

    The maps of the training split hold mirror images as well, so that they are the ones that training reads.
    """
    config, accelerator = context.config, context.accelerator
    if not can_keep_maps(model, config.data):
        return {}
    dataset, mirrored = context.data.split(split), split == "train"
    maps = keep_maps(model, dataset, config.data, maps_dir(config), accelerator, mirrored)
    if not can_keep_crops(model, config):
        return {"maps": maps}
    return {"maps": maps, "crops": keep_crops(model, dataset, maps, config, accelerator)}


@torch.no_grad()
def keep_crops(
    model: IPAD,
    dataset: datasets.Dataset,
    maps: KeptMaps,
    config: RunConfig,
    accelerator: Accelerator,
    announce: Callable[[str], None] = lambda line: None,
) -> KeptCrops:
    """Make the crops of all entries of a split, or find those of an equal IP-SP.

    Args:
        model: Its IP-SP says where to cut, its IP-SE's trunk makes the maps.
        dataset: The split.
        maps: Of the same split.
        config: Of the run, in whose folder they are kept.
        announce: Receives a line where something is made.
    """
    num_attributes = model.options["num_attributes"]
    facts = [model.crop, model.crop_size, maps.folder.name, digest_of(model.semantic.crop_trunk, "")]
    folder = RunFolder(Path(config.output_dir)).maps / f"{dataset.split}-crops-{digest_of(model.spatial, facts)}"
    accelerator.wait_for_everyone()
    if folder.is_dir():
        return KeptCrops(folder, num_attributes)
    table = EntryTable.from_dataset(dataset)
    keys = np.unique(table.rows * num_attributes + table.attribute_ids)
    rows, attributes = np.divmod(keys, num_attributes)
    plans = []
    for images in share_of(np.unique(rows), _BATCH, accelerator):
        chosen = np.isin(rows, images)
        plans.append(plan_from_rows(rows[chosen], attributes[chosen], attributes[chosen]))

    def batches() -> Iterator[tuple[np.ndarray, dict[str, torch.Tensor]]]:
        for batch in evaluation_batches(dataset, config.data, plans):
            owner = batch["rows"][batch["image_index"]].numpy()
            index = np.searchsorted(keys, owner * num_attributes + batch["attribute_ids"].numpy())
            yield index, batch

    trunk = folded(model.semantic.crop_trunk)

    def crops(batch: dict[str, torch.Tensor], mirror: bool) -> list[torch.Tensor]:
        device = accelerator.device
        stages = [stage.to(device) for stage in maps.read(batch["rows"])]
        kept = FeatureMaps(stages, batch["images"].to(device))
        index, ids = batch["image_index"].to(device), batch["attribute_ids"].to(device)
        spatial = model.spatial(model.feature_map(kept), ids, index, background=False)
        cut = model.crops(kept, model.boxes(spatial.maps), index)
        with fast_precision(accelerator):
            return trunk.stage_maps(model.semantic.inputs(cut))

    was_training = model.training
    model.eval()
    write_maps(folder, len(keys), batches(), len(plans), crops, False, accelerator, "crops", {_KEYS: keys})
    model.train(was_training)
    kept = KeptCrops(folder, num_attributes)
    announce(f"kept {len(keys)} crops of {dataset.split}: {kept.maps.nbytes / 2**20:.0f} MiB in {folder}")
    return kept
