"""Embed every (image, attribute) entry of a split, on all processes, each image once."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, fields
from typing import Any

import datasets
import numpy as np
import torch
from accelerate import Accelerator
from tqdm.auto import tqdm

from ipad_core import AttributeEmbedder, EmbeddingOutput, FeatureMaps
from ipad_data import EntryTable, EvaluationPlans
from ipad_data.roles import ROLES
from ipad_train.config import DataConfig
from ipad_train.data import evaluation_batches
from ipad_train.distributed import gather_entries
from ipad_train.freed_memory import give_back_freed_memory
from ipad_train.kept_crops import KeptCrops
from ipad_train.launch import step_precision
from ipad_train.map_files import KeptMaps
from ipad_train.vectors import SplitVectors, vectors_of


@dataclass(frozen=True)
class EntryEmbeddings:
    """Embeddings of entries, and what each entry is, in the order of the split's rows.

    ``fused (E, D)``; ``spatial`` and ``semantic`` ``(E, d)`` or None; ``peak (E, 2)`` attention peak x, y in [0, 1] or
    None; ``image_ids``, ``attribute_ids``, ``value_ids (E,)``; ``roles (E,)`` indices into ``ipad_data.roles.ROLES``;
    ``plain (E, C)`` what ``fused`` is without probabilities of values, None for a model that has none.
    """

    fused: np.ndarray
    spatial: np.ndarray | None
    semantic: np.ndarray | None
    peak: np.ndarray | None
    image_ids: np.ndarray
    attribute_ids: np.ndarray
    value_ids: np.ndarray
    roles: np.ndarray
    plain: np.ndarray | None = None

    def select(self, keep: np.ndarray) -> EntryEmbeddings:
        """Entries of a mask or of indices."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return EntryEmbeddings(**{name: None if value is None else value[keep] for name, value in values.items()})

    def with_role(self, role: str) -> EntryEmbeddings:
        """Entries of one role: train, query or gallery."""
        return self.select(self.roles == ROLES.index(role))


@torch.no_grad()
def embed_split(
    model: AttributeEmbedder,
    dataset: datasets.Dataset,
    config: DataConfig,
    accelerator: Accelerator,
    *,
    batch_size: int | None = None,
    roles: tuple[str, ...] = ("query", "gallery"),
    description: str = "embedding",
    maps: KeptMaps | SplitVectors | None = None,
    crops: KeptCrops | None = None,
    **options: Any,
) -> EntryEmbeddings:
    """Embed the entries of the given roles; the model's mode is restored afterwards.

    Processes take batches in turn; the parts are put back into the order of the split. The batches are those of one process,
    so that the result is the same to the bit for any number of them, with as many threads each. ``batch_size`` counts
    images; by default it is ``data.eval_batch_size``. ``options`` go to the model, such as ``branches="spatial"``. Kept
    ``maps`` of the split spare its trunk, kept ``crops`` its second branch's. Images that cannot be read are left out under
    ``data.on_error=skip``, with a warning that counts them: a smaller gallery flatters.

    Raises:
        ValueError: an image that cannot be read, under ``data.on_error=raise``; no entry has one of the roles.
    """
    rank, world_size = accelerator.process_index, accelerator.num_processes
    maps = vectors_of(model, dataset, config) if maps is None else maps
    batch_size = batch_size or config.eval_batch_size
    everything = EvaluationPlans(dataset, batch_size, roles=roles)
    plans = EvaluationPlans(dataset, batch_size, roles=roles, rank=rank, world_size=world_size)
    if idle := not len(plans):
        plans = [next(iter(everything))]  # embedded for the shapes of its tensors, and left out
    cuts = "semantic" in model.branches and options.get("branches") != "spatial" and crops is None
    loader = evaluation_batches(dataset, config, plans, config.on_error, with_images=cuts or maps is None)
    was_training = model.training
    model.eval()
    parts: list[dict[str, torch.Tensor]] = []
    skipped = 0
    for number, batch in enumerate(
        tqdm(loader, desc=description, total=len(plans), leave=False, disable=not accelerator.is_main_process)
    ):
        batch = {key: value.to(accelerator.device) for key, value in batch.items()}
        skipped += 0 if idle else int(batch.get("skipped", 0))
        output = embed_batch(model, batch, accelerator, maps, crops, **options)
        part = {"fused": output.embedding, "spatial": output.spatial, "semantic": output.semantic}
        part["plain"] = output.plain
        part["peak"] = None if output.attention is None else attention_peak(output.attention)
        part = {name: value.float().cpu() for name, value in part.items() if value is not None}
        part |= {name: batch[name].cpu() for name in ("image_ids", "attribute_ids", "value_ids")}
        part["batch"] = torch.full_like(part["image_ids"], number * world_size + rank)
        parts.append({name: value[:0] if idle else value for name, value in part.items()})
    model.train(was_training)
    if skipped:
        warnings.warn(f"{description}: {skipped} images cannot be read and are left out", stacklevel=2)
    joined = _join(parts, everything, dataset, accelerator)
    del parts
    give_back_freed_memory()
    return joined


def embed_batch(
    model: AttributeEmbedder,
    batch: dict[str, torch.Tensor],
    accelerator: Accelerator,
    maps: KeptMaps | SplitVectors | None = None,
    crops: KeptCrops | None = None,
    **options: Any,
) -> EmbeddingOutput:
    """The model's answer to a batch on its device, in the run's precision.

    Args:
        batch: ``image_index`` and ``attribute_ids`` ``(B,)``; ``images (N, 3, S, S)``, or with maps or crops the
            ``rows (N,)`` of the split that they are read for.
        maps, crops: As in :func:`embed_split`.
    """
    device, images = accelerator.device, batch.get("images")
    if maps is not None:
        images = FeatureMaps([stage.to(device) for stage in maps.read(batch["rows"])], images)
    if crops is not None:
        cut = crops.read(batch["rows"][batch["image_index"]], batch["attribute_ids"])
        options["crops"] = [stage.to(device).float() for stage in cut]
    with step_precision(accelerator):
        return model(images, batch["attribute_ids"], batch["image_index"], **options)


def attention_peak(attention: torch.Tensor) -> torch.Tensor:
    """Center of the strongest cell of ``(B, h, w)`` maps: ``(B, 2)`` x, y in [0, 1]."""
    height, width = attention.shape[1:]
    cell = attention.flatten(1).argmax(dim=1)
    return torch.stack([(cell % width + 0.5) / width, (cell // width + 0.5) / height], dim=1)


def _join(
    parts: list[dict[str, torch.Tensor]], plans: EvaluationPlans, dataset: datasets.Dataset, accelerator: Accelerator
) -> EntryEmbeddings:
    names = sorted(parts[0])
    joined = {name: torch.cat([part[name] for part in parts]) for name in names}
    if accelerator.num_processes > 1:
        on_device = [joined[name].to(accelerator.device) for name in names]
        joined = {name: value.cpu() for name, value in zip(names, gather_entries(*on_device), strict=True)}
    order = joined.pop("batch").argsort(stable=True)
    arrays = {name: value[order].numpy() for name, value in joined.items()}
    complete = len(arrays["image_ids"]) == len(plans.roles)
    arrays["roles"] = plans.roles if complete else _roles_of(arrays, EntryTable.from_dataset(dataset))
    return EntryEmbeddings(**{field.name: arrays.get(field.name) for field in fields(EntryEmbeddings)})


def _roles_of(arrays: dict[str, np.ndarray], entries: EntryTable) -> np.ndarray:
    """Roles of the entries that are left where images were skipped."""
    names = ("image_ids", "attribute_ids", "value_ids")
    known = zip(*(getattr(entries, name).tolist() for name in names), strict=True)
    roles = dict(zip(known, entries.roles.tolist(), strict=True))
    left = zip(*(arrays[name].tolist() for name in names), strict=True)
    return np.array([roles[entry] for entry in left], dtype=np.int64)
