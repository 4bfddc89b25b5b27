"""Embed photos shard by shard, on all processes, at the memory of one shard each.

A shard is so many photos in their order, embedded by one process in the same batches whatever the number of processes.
Processes share the shards that are not done yet; they meet at the beginning and at the end only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from accelerate import Accelerator
from tqdm.auto import tqdm

from ipad_core import AttributeEmbedder
from ipad_train.config import DataConfig
from ipad_train.distributed import is_distributed
from ipad_train.embed import embed_batch
from ipad_train.embedding.decoding import Decoded, PhotoBatches, photo_loader
from ipad_train.embedding.options import EmbedOptions
from ipad_train.embedding.photos import Photos
from ipad_train.embedding.shard_folder import Shard, ShardFolder
from ipad_train.vectors import SplitVectors

_PATIENCE = timedelta(days=30)  # the first process to be done waits for the last


@dataclass(frozen=True)
class ShardEmbedder:
    """Writes the embeddings of photos into a folder of shards.

    Args:
        model: In evaluation mode, on its device.
        photos: What is embedded.
        folder: Where to; begun.
        config: Size of the images, batch and workers, and what to do about an unreadable photo.
        accelerator: The processes.
        options: Photos of a shard, which of the model's embeddings, and the type of the numbers in the files.
        maps: What the model reads in place of images, or None.
    """

    model: AttributeEmbedder
    photos: Photos
    folder: ShardFolder
    config: DataConfig
    accelerator: Accelerator
    options: EmbedOptions
    maps: SplitVectors | None = None

    @torch.inference_mode()
    def run(self) -> None:
        """Embed what is not done yet.

        Raises:
            ValueError: an unreadable photo, unless ``data.on_error=skip``; the model has no such branch.
            OSError: the disk is full; finished shards stay.
        """
        # No process begins before all have looked, and none ends the run before all are done.
        todo = [number for number in range(self.folder.count) if not self.folder.is_done(number)]
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        barrier = _patient_barrier(self.accelerator)
        barrier()
        mine = todo[rank::processes]
        order = [batch for number in mine for batch in self._batches(number)]
        side, pinned = self.config.detail_size, self.accelerator.device.type == "cuda"
        batches = PhotoBatches(self.photos, side, with_images=self.maps is None)
        decoded = iter(photo_loader(batches, order, self.config.num_workers, pinned))
        with tqdm(
            total=sum(map(len, order)),
            desc="embedding",
            unit="photo",
            leave=False,
            disable=not self.accelerator.is_main_process,
        ) as bar:
            for number in mine:
                self._write(number, decoded, bar)
        barrier()

    def _range(self, number: int) -> range:
        start = number * self.options.shard_photos
        return range(start, min(start + self.options.shard_photos, len(self.photos)))

    def _batches(self, number: int) -> list[range]:
        photos, size = self._range(number), self.config.eval_batch_size
        return [photos[start : start + size] for start in range(0, len(photos), size)]

    def _write(self, number: int, decoded: Iterator[Decoded], bar: tqdm) -> None:
        parts: list[np.ndarray] = []
        columns: dict[str, list[np.ndarray]] = {}
        shard = Shard()
        for batch in self._batches(number):
            part = next(decoded)
            if part.problems and self.config.on_error == "raise":
                raise ValueError(f"{part.problems[0][1]}. data.on_error=skip leaves such photos out and lists them")
            shard.unreadable += [
                (self.photos.id(photo), self.photos.name(photo), reason) for photo, reason in part.problems
            ]
            shard.files += [(self.photos.id(photo), self.photos.name(photo)) for photo in part.photos.tolist()]
            if len(part.photos):
                embeddings, known = self._embed(part)
                parts.append(embeddings)
                for name, column in known.items():
                    columns.setdefault(name, []).append(column)
            bar.update(len(batch))
        if parts:
            shard.embeddings = np.concatenate(parts)
            shard.columns = {name: np.concatenate(column) for name, column in columns.items()}
        self.folder.write(number, shard)

    def _embed(self, part: Decoded) -> tuple[np.ndarray, Mapping[str, np.ndarray]]:
        photos, device = part.photos.numpy(), self.accelerator.device
        entries = self.photos.entries(photos)
        batch: dict[str, Any] = {
            "image_index": torch.from_numpy(entries.image_index).to(device),
            "attribute_ids": torch.from_numpy(np.ascontiguousarray(entries.attribute_ids)).to(device),
            "rows": torch.from_numpy(self.photos.rows(photos)),
        }
        if part.images is not None:
            batch["images"] = part.images.to(device, non_blocking=True)
        alone = self.options.branch == "spatial" and "spatial" in self.model.branches
        options = {"branches": "spatial"} if alone else {}
        output = embed_batch(self.model, batch, self.accelerator, self.maps, **options)
        vectors = output.embedding if self.options.branch == "fused" else getattr(output, self.options.branch)
        if vectors is None:
            raise ValueError(f"--branch must be one that the model has, and it has no {self.options.branch!r} branch")
        return vectors.to(getattr(torch, self.options.dtype)).cpu().numpy(), entries.columns


def _patient_barrier(accelerator: Accelerator) -> Any:
    """A barrier that waits for days, as one process may be done long before another; it still fails when one is gone."""
    if not is_distributed():
        return accelerator.wait_for_everyone
    group = dist.new_group(backend="gloo", timeout=_PATIENCE)
    return lambda: dist.barrier(group)
