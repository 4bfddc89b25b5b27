"""The maps of a frozen trunk, made once for every image of a split and its mirror image, and read by row ever after.

A trunk that does not learn gives an image the same map in every epoch, of every method, in every evaluation; and on a CPU it
is most of the work.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import datasets
import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader

from ipad_core import AttributeEmbedder
from ipad_data import BatchDataset, BatchPlan
from ipad_train.config import DataConfig, RunConfig
from ipad_train.folded_trunk import folded
from ipad_train.map_files import KeptMaps, digest_of, fast_precision, share_of, write_maps
from ipad_train.run_context import RunContext
from ipad_train.run_folder import RunFolder
from ipad_train.vectors import SplitVectors, reads_vectors, vectors_of

_BATCH = 32  # images


def maps_dir(config: RunConfig) -> Path:
    """Where a run's maps lie: ``data.maps_dir``, or ``maps`` in its folder."""
    return Path(config.data.maps_dir or RunFolder(Path(config.output_dir)).maps)


def forget_maps(config: RunConfig) -> None:
    """Delete what a run kept for itself: its crops, and its maps where no other run was told to share them."""
    own = RunFolder(Path(config.output_dir)).maps
    for folder in own.glob("*" if config.data.maps_dir is None else "*-crops-*"):
        shutil.rmtree(folder)
    if own.is_dir() and not any(own.iterdir()):
        own.rmdir()


def can_keep_maps(model: AttributeEmbedder, config: DataConfig) -> bool:
    """Whether a training may read its trunk's maps from files.

    The trunk must be frozen whole (``trunk: {freeze: all}``), and an image may change in training by a flip only. Vectors
    are read from their file, whatever is configured.
    """
    if reads_vectors(model):
        return True
    changes = bool(config.augmentation) or config.anchor_views or config.on_error != "raise"
    return config.keep_maps and model.trunk.is_frozen and not changes


def keep_maps(
    model: AttributeEmbedder,
    dataset: datasets.Dataset,
    config: DataConfig,
    root: Path,
    accelerator: Accelerator,
    mirrored: bool,
    announce: Callable[[str], None] = lambda line: None,
) -> KeptMaps | SplitVectors:
    """Make the maps of a split, or find those of an equal trunk, data and sizes.

    Each process makes its share of the images. What carries a final name is complete: a killed process leaves nothing that
    a later one would take for whole.

    Args:
        model: Its trunk makes the maps.
        dataset: The split.
        config: How its images are decoded.
        root: Holds one folder for each trunk, split and size.
        mirrored: Keep the maps of the mirror images, too.
        announce: Receives a line where something is made.

    Raises:
        OSError: the disk is full.
        ValueError: as :func:`ipad_train.vectors.vectors_of`.
    """
    if (vectors := vectors_of(model, dataset, config)) is not None:
        return vectors
    folder = root / _name(model, dataset, config, mirrored)
    accelerator.wait_for_everyone()
    if not folder.is_dir():
        _make(model, dataset, config, folder, accelerator, mirrored)
        kept = KeptMaps(folder)
        announce(f"kept the trunk's maps of {len(kept)} images: {kept.nbytes / 2**20:.0f} MiB in {folder}")
    return KeptMaps(folder)


def kept_split(model: AttributeEmbedder, context: RunContext, split: str) -> KeptMaps | SplitVectors | None:
    """Maps of a split for evaluation, without mirror images; None where the trunk learns, or no other run shares them.

    A run that is evaluated by itself leaves no files behind.
    """
    config, dataset = context.config, context.data.split(split)
    if reads_vectors(model):
        return vectors_of(model, dataset, config.data)
    if config.data.maps_dir is None or not can_keep_maps(model, config.data):
        return None
    return keep_maps(model, dataset, config.data, maps_dir(config), context.accelerator, mirrored=False)


@torch.no_grad()
def _make(
    model: AttributeEmbedder,
    dataset: datasets.Dataset,
    config: DataConfig,
    folder: Path,
    accelerator: Accelerator,
    mirrored: bool,
) -> None:
    nothing = np.empty(0, dtype=np.int64)
    rows = share_of(np.arange(dataset.num_rows), _BATCH, accelerator)
    plans = [BatchPlan(batch, nothing, nothing, nothing) for batch in rows]

    trunk = folded(model.trunk)

    def maps(batch: dict[str, torch.Tensor], mirror: bool) -> list[torch.Tensor]:
        images = batch["images"].to(accelerator.device)
        with fast_precision(accelerator):
            return trunk.stage_maps(model.trunk_input(model.normalized(images.flip(-1) if mirror else images)))

    def batches() -> Iterator[tuple[np.ndarray, dict[str, torch.Tensor]]]:
        images = BatchDataset(dataset, config.detail_size)
        for batch in DataLoader(
            images,
            sampler=plans,
            batch_size=None,
            num_workers=config.num_workers,
            prefetch_factor=2 if config.num_workers else None,
        ):
            yield batch["rows"].numpy(), batch

    was_training = model.training
    model.eval()
    write_maps(folder, dataset.num_rows, batches(), len(plans), maps, mirrored, accelerator, "maps of the trunk")
    model.train(was_training)


def _name(model: AttributeEmbedder, dataset: datasets.Dataset, config: DataConfig, mirrored: bool) -> str:
    """A name that differs wherever the maps would."""
    facts = [model.trunk.stage, model.image_size, config.detail_size, dataset._fingerprint, dataset.num_rows, mirrored]
    return f"{dataset.split}-{digest_of(model.trunk, facts)}"
