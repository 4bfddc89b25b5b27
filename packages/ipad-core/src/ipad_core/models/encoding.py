"""Embedding of any images for any attributes, a batch at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ipad_core.feature_maps import FeatureMaps
from ipad_core.models.entries import check_within
from ipad_core.models.images import ImageBatches
from ipad_core.models.schema import attribute_numbers
from ipad_core.output import EmbeddingOutput

if TYPE_CHECKING:
    from ipad_core.models.embedder import AttributeEmbedder


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode; afterwards every part has the mode that it had, also where that differs inside."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def floating_type(dtype: str | torch.dtype) -> torch.dtype:
    """A floating type by itself or by its name.

    Raises:
        ValueError: no such type.
    """
    kind = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(kind, torch.dtype) or not kind.is_floating_point:
        raise ValueError(f"dtype must be a floating type such as 'bfloat16' or torch.float16, got {dtype!r}")
    return kind


def computing_in(model: AttributeEmbedder, dtype: str | torch.dtype | None) -> AbstractContextManager[Any]:
    """Within it the model computes in a type; None is that of its weights, which never change.

    Raises:
        ValueError: a type that autocast does not know, and that is not the weights'.
    """
    own = next((tensor.dtype for tensor in model.parameters()), torch.float32)
    kind = own if dtype is None else floating_type(dtype)
    if kind == own:
        return nullcontext()
    if kind not in (torch.bfloat16, torch.float16):
        raise ValueError(
            f"dtype must be bfloat16, float16, or that of the weights, {own}, got {dtype!r}; for other weights use "
            "model.to(dtype) or from_pretrained(..., dtype=...)"
        )
    return torch.autocast(model.trunk.mean.device.type, kind)


def entries_of(
    model: AttributeEmbedder, count: int, attribute_ids: Any, image_index: Any, attribute: Any, attributes: Any
) -> tuple[Tensor, Tensor]:
    """Attribute and image of every entry, ``(B,)`` each, from what :meth:`AttributeEmbedder.encode` was asked.

    Raises:
        ValueError: more or less than one of the three ways to ask, shapes that do not fit, ids out of range.
    """
    asked = {"attribute_ids": attribute_ids, "attribute": attribute, "attributes": attributes}
    given = [name for name, value in asked.items() if value is not None]
    if len(given) != 1:
        raise ValueError(f"give one of attribute_ids, attribute and attributes, got {' and '.join(given) or 'none'}")
    number = model.options["num_attributes"]
    ids = attribute_numbers(asked[given[0]], model.schema, number, given[0])
    if given[0] != "attribute_ids":
        if image_index is not None:
            raise ValueError(f"image_index goes with attribute_ids; {given[0]} is asked of every image")
        if given[0] == "attribute" and len(ids) != 1:
            raise ValueError(f"attribute must be one number or name, got {attribute!r}; give attributes for several")
        return ids.repeat(count), torch.arange(count).repeat_interleave(len(ids))
    if image_index is None:
        if len(ids) != count:
            raise ValueError(
                f"without image_index every image has one entry: got {count} images and {len(ids)} attribute_ids"
            )
        return ids, torch.arange(count)
    index = torch.as_tensor(image_index).cpu()
    if index.shape != ids.shape:
        raise ValueError(f"image_index must be {tuple(ids.shape)}, got {tuple(index.shape)}")
    if index.is_floating_point() or index.dtype == torch.bool:
        raise ValueError(f"image_index must be whole numbers, got {index.dtype}")
    check_within("image_index", index, count)
    return ids, index.long()


def encode_entries(
    model: AttributeEmbedder,
    images: FeatureMaps | ImageBatches,
    attribute_ids: Tensor,
    image_index: Tensor,
    batch_size: int,
    progress: bool,
    options: dict[str, Any],
) -> EmbeddingOutput:
    """Outputs of all entries in their order, ``batch_size`` images at a time; images that nobody asks for are left out."""
    device = model.trunk.mean.device
    order = image_index.argsort(stable=True)
    starts = range(0, len(images), batch_size)
    bounds = torch.searchsorted(image_index[order], torch.tensor([*starts, len(images)])).tolist()
    outputs = []
    batches = zip(starts, itertools.pairwise(bounds), strict=True)
    for start, (first, last) in tqdm(batches, total=len(starts), desc="encoding", disable=not progress):
        entries, stop = order[first:last], start + batch_size
        if not len(entries):
            continue
        batch = images[start:stop] if isinstance(images, FeatureMaps) else images.take(start, stop)
        ids, index = attribute_ids[entries].to(device), (image_index[entries] - start).to(device)
        outputs.append(model(batch.to(device), ids, index, **options))
    back = order.argsort().to(device)
    parts = {name: [getattr(output, name) for output in outputs] for name in EmbeddingOutput.__dataclass_fields__}
    return EmbeddingOutput(
        **{name: None if some[0] is None else torch.cat(some)[back] for name, some in parts.items()}
    )
