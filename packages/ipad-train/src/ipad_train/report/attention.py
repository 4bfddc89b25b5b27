"""Where a network looks: the attention of every iteration, laid over images (as Fig. 7 of the paper)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ipad_core import IPAD, AttributeEmbedder
from ipad_data import AttributeSchema
from ipad_train.embed import EntryEmbeddings, attention_peak
from ipad_train.report.pictures import SplitPictures, data_uri, draw_boxes, heat_overlay

MAX_EXAMPLES = 36  # over all attributes: what keeps the page small


@dataclass(frozen=True)
class AttendedImage:
    """An entry and where the network looked: ``image`` with the boxes, ``maps`` one picture an iteration, data URIs.

    ``hit`` says whether the last map's peak lies in a true box; None where the dataset has no boxes. ``cropped`` says
    whether the crop of a second branch is drawn; ``file`` is None where the image has no file of its own.
    """

    image_id: int
    file: str | None
    value: str
    image: str
    maps: list[str]
    hit: bool | None
    cropped: bool


@torch.no_grad()
def attended_images(
    model: AttributeEmbedder,
    pictures: SplitPictures,
    image_ids: np.ndarray,
    attribute_id: int,
    values: list[str],
    detail_size: int,
) -> list[AttendedImage]:
    """Entries of one attribute with their attention; empty where the network has none.

    Args:
        image_ids: ``(n,)``, few: they are decoded together.
        values: What each shows, for the caption.
        detail_size: Side of the images that the network gets, px.
    """
    decoded = [pictures.decode(int(i), detail_size) for i in image_ids]
    images = torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).contiguous()
    maps, crops = _maps_and_crops(model, images, attribute_id)
    if maps is None:
        return []
    peaks = attention_peak(maps[:, -1]).numpy()
    attended = []
    for i, image_id in enumerate(map(int, image_ids)):
        true = pictures.true_boxes(image_id, attribute_id)
        crop = None if crops is None else crops[i].numpy()
        layers = [heat_overlay(decoded[i], layer.numpy()) for layer in maps[i]]
        drawn = [
            draw_boxes(
                layer,
                true,
                None if crop is None or n < len(layers) - 1 else crop,
                peaks[i] if n == len(layers) - 1 else None,
            )
            for n, layer in enumerate(layers)
        ]
        hit = None if true is None else in_boxes(peaks[i], true)
        plain = data_uri(draw_boxes(decoded[i], true, crop))
        maps_drawn, file = [data_uri(picture) for picture in drawn], pictures.file_name(image_id)
        attended.append(AttendedImage(image_id, file, values[i], plain, maps_drawn, hit, crop is not None))
    return attended


def attention_examples(
    model: AttributeEmbedder,
    pictures: SplitPictures,
    entries: EntryEmbeddings,
    schema: AttributeSchema,
    detail_size: int,
    seed: int,
    count: int = 4,
) -> dict[str, list[AttendedImage]]:
    """``count`` images of every attribute (fewer where there are many attributes), drawn at random, values in turn.

    Nothing is chosen by how it turned out. Empty for a network without attention.
    """
    if entries.peak is None:
        return {}
    count = max(1, min(count, MAX_EXAMPLES // len(schema.attributes)))
    examples = {}
    for attribute_id, attribute in enumerate(schema.attributes):
        chosen = _spread(entries, attribute_id, count, np.random.default_rng([seed, attribute_id]))
        if len(chosen):
            values = [value_name(schema, int(value)) for value in entries.value_ids[chosen]]
            examples[attribute] = attended_images(
                model, pictures, entries.image_ids[chosen], attribute_id, values, detail_size
            )
    return examples


def in_boxes(point: np.ndarray, boxes: np.ndarray) -> bool:
    """Whether x, y lies in one of ``(n, 4)`` boxes."""
    return bool((_distances(point, boxes) == 0).any())


def distance_to_boxes(point: np.ndarray, boxes: np.ndarray) -> float:
    """From x, y to the nearest of ``(n, 4)`` boxes, in sides of the image; 0 within one."""
    return float(_distances(point, boxes).min(initial=np.inf))


def value_name(schema: AttributeSchema, value_id: int) -> str:
    """Name of a value without its attribute's, spelled with spaces."""
    return schema.value_names[value_id].partition("/")[2].replace("_", " ")


def _distances(point: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    outside = np.maximum(np.maximum(boxes[:, :2] - point, point - boxes[:, 2:]), 0)  # (n, 2)
    return np.hypot(outside[:, 0], outside[:, 1])


def _maps_and_crops(
    model: AttributeEmbedder, images: torch.Tensor, attribute_id: int
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """``(n, iterations, h, w)`` maps and ``(n, 4)`` crops on the CPU."""
    device = next(model.parameters()).device
    images = images.to(device)
    attribute_ids = torch.full((len(images),), attribute_id, device=device)
    if isinstance(model, IPAD):
        output = model(images, attribute_ids, maps=True)
        crops = None if output.boxes is None else output.boxes.float().cpu()
        return output.attention_maps.float().cpu(), crops
    attention = model(images, attribute_ids).attention
    return (None if attention is None else attention.float().cpu()[:, None]), None


def _spread(entries: EntryEmbeddings, attribute_id: int, count: int, random: np.random.Generator) -> np.ndarray:
    """Indices of entries of an attribute in random order, each value once before any comes again."""
    mine = random.permutation(np.flatnonzero(entries.attribute_ids == attribute_id))
    seen: dict[int, int] = {}
    turn = np.empty(len(mine), dtype=np.int64)
    for i, value in enumerate(entries.value_ids[mine].tolist()):
        turn[i] = seen[value] = seen.get(value, -1) + 1
    return mine[np.argsort(turn, kind="stable")][:count]
