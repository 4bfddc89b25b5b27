"""The crops of a second branch, kept: where IP-SP and the trunk of IP-SE are frozen, a crop's maps never change.

Each entry (image, attribute) has its own crop. Its pixels are decoded, cut and run through the trunk once; a step then costs
what is trained: the transformer and the attention on top.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import datasets
import numpy as np
import torch
from accelerate import Accelerator

from ipad_core import IPAD, AttributeEmbedder, FeatureMaps
from ipad_data import EntryTable
from ipad_data.samplers.plan import plan_from_rows
from ipad_train.config import RunConfig
from ipad_train.data import evaluation_batches
from ipad_train.kept_maps import KeptMaps, can_keep_maps, digest_of, fast_precision, share_of, write_maps

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

    def read(
        self, rows: torch.Tensor, attribute_ids: torch.Tensor, mirrored: torch.Tensor | None = None
    ) -> list[torch.Tensor]:
        """Float16 maps ``(B, C, h, w)`` of each stage.

        Args:
            rows: ``(B,)`` row of each entry's image.
            attribute_ids: ``(B,)``.
            mirrored: ``(B,)`` bool, whether the image is mirrored; none is when None.

        Raises:
            KeyError: an entry that the split does not have.
        """
        wanted = (rows * self._num_attributes + attribute_ids).cpu().numpy()
        index = np.searchsorted(self._keys, wanted).clip(max=len(self._keys) - 1)
        if len(absent := np.nonzero(self._keys[index] != wanted)[0]):
            row, attribute = divmod(int(wanted[absent[0]]), self._num_attributes)
            raise KeyError(f"row {row} has no crop of attribute {attribute} in {self.maps.folder}")
        return self.maps.read(torch.from_numpy(index), mirrored)


def can_keep_crops(model: AttributeEmbedder, config: RunConfig) -> bool:
    """Whether stage 2 may read its crops' maps from files: all that is trained comes behind them."""
    if not isinstance(model, IPAD) or model.semantic is None or not can_keep_maps(model, config.data):
        return False
    return config.stage2.spatial_learning_rate == 0 and model.semantic.tokens.trunk.is_frozen


@torch.no_grad()
def keep_crops(
    model: IPAD,
    dataset: datasets.Dataset,
    maps: KeptMaps,
    config: RunConfig,
    accelerator: Accelerator,
    mirrored: bool,
    announce: Callable[[str], None] = lambda line: None,
) -> KeptCrops:
    """Make the crops of all entries of a split, or find those of an equal IP-SP.

    Args:
        model: Its IP-SP says where to cut, its IP-SE's trunk makes the maps.
        dataset: The split.
        maps: Of the same split, with mirror images where ``mirrored``.
        config: Of the run, in whose folder they are kept.
        mirrored: Keep those of the mirror images, too.
        announce: Receives a line where something is made.
    """
    num_attributes = model.options["num_attributes"]
    facts = [model.crop, model.crop_size, maps.folder.name, mirrored, digest_of(model.semantic.tokens.trunk, "")]
    folder = Path(config.output_dir) / "maps" / f"{dataset.split}-crops-{digest_of(model.spatial, facts)}"
    accelerator.wait_for_everyone()
    if folder.is_dir():
        return KeptCrops(folder, num_attributes)
    table = EntryTable.from_dataset(dataset)
    keys = np.unique(table.rows * num_attributes + table.attribute_ids)
    rows, attributes = np.divmod(keys, num_attributes)
    images = np.unique(rows)
    mine = images[share_of(len(images), accelerator)]
    plans = []
    for start in range(0, len(mine), _BATCH):
        chosen = np.isin(rows, mine[start : start + _BATCH])
        plans.append(plan_from_rows(rows[chosen], attributes[chosen], attributes[chosen]))

    def batches() -> Iterator[tuple[np.ndarray, dict[str, torch.Tensor]]]:
        for batch in evaluation_batches(dataset, config.data, plans):
            owner = batch["rows"][batch["image_index"]].numpy()
            index = np.searchsorted(keys, owner * num_attributes + batch["attribute_ids"].numpy())
            yield index, batch

    def crops(batch: dict[str, torch.Tensor], mirror: bool) -> list[torch.Tensor]:
        device = accelerator.device
        pixels = batch["images"].to(device)
        turned = torch.full((len(pixels),), mirror) if mirrored else None
        kept = FeatureMaps(
            [stage.to(device) for stage in maps.read(batch["rows"], turned)], pixels.flip(-1) if mirror else pixels
        )
        index, ids = batch["image_index"].to(device), batch["attribute_ids"].to(device)
        spatial = model.spatial(model.feature_map(kept), ids, index, background=False)
        cut = model.crops(kept, model.boxes(spatial.maps), index)
        with fast_precision(accelerator):
            return model.semantic.keep(cut)

    model.eval()
    write_maps(folder, len(keys), batches(), len(plans), crops, mirrored, accelerator, "crops", {_KEYS: keys})
    kept = KeptCrops(folder, num_attributes)
    announce(f"kept {len(keys)} crops of {dataset.split}: {kept.maps.nbytes / 2**20:.0f} MiB in {folder}")
    return kept
