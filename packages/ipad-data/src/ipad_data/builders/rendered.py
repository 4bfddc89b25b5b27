"""The rendered dataset: garments drawn from a seed, with the true box of each attribute's region."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from datasets import DatasetInfo, SplitGenerator, Version

from ipad_data.builders._base import AttributeDatasetBuilder, AttributeDatasetConfig, make_row, row_features
from ipad_data.render import SCHEMA, RenderedImage, render_image
from ipad_data.render.nuisance import difficulty_level
from ipad_data.roles import GALLERY, QUERY, SPLITS, TRAIN

_SHARD_SIZE = 250


@dataclass
class RenderedConfig(AttributeDatasetConfig):
    """Options of the rendered dataset.

    Args:
        num_images: Images of all splits together, divided 8:1:1.
        num_train, num_validation, num_test: Size of a split, instead of its share of ``num_images``.
        seed: Seed of the images.
        size: Side of the stored images in pixels.
        difficulty: ``easy``, ``standard``, ``hard`` or a number in [0, 1]; see :func:`~ipad_data.render.render_image`.
    """

    num_images: int = 6250
    num_train: int | None = None
    num_validation: int | None = None
    num_test: int | None = None
    seed: int = 0
    size: int = 128
    difficulty: str | float = "standard"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data_dir is not None:
            raise ValueError(f"data_dir must be left out, the rendered dataset has no files; got {self.data_dir!r}")
        difficulty_level(self.difficulty)
        for name, least in (("num_images", 10), ("size", 32), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name in ("num_train", "num_validation", "num_test"):
            if (count := getattr(self, name)) is not None and count < 1:
                raise ValueError(f"{name} must be at least 1, got {count}")

    def split_ranges(self) -> dict[str, range]:
        """Image indices of each split: one after the other."""
        tenth = round(self.num_images / 10)
        counts = (
            self.num_images - 2 * tenth if self.num_train is None else self.num_train,
            tenth if self.num_validation is None else self.num_validation,
            tenth if self.num_test is None else self.num_test,
        )
        ranges, start = {}, 0
        for split, count in zip(SPLITS, counts, strict=True):
            ranges[split] = range(start, start + count)
            start += count
        return ranges


def split_role(split: str, position: int) -> int:
    """Role of the image at a position of its split: every fifth is a query (1:4), images being independent."""
    if split == "train":
        return TRAIN
    return QUERY if position % 5 == 0 else GALLERY


def rendered_entries(rendered: RenderedImage, role: int) -> list[tuple[int, int, int]]:
    """Entries ``(attribute id, flat value id, role)`` of a rendered image."""
    return [
        (SCHEMA.attribute_id(attribute), SCHEMA.value_id(attribute, value), role)
        for attribute, value in rendered.labels.items()
    ]


def encode_jpeg(rendered: RenderedImage) -> bytes:
    """JPEG bytes at quality 92 without chroma subsampling: thin coloured lines are evidence."""
    buffer = io.BytesIO()
    rendered.image.save(buffer, "JPEG", quality=92, subsampling=0)
    return buffer.getvalue()


class Rendered(AttributeDatasetBuilder):
    """Builder of the rendered dataset. Images are drawn one by one while the table is written."""

    BUILDER_CONFIG_CLASS = RenderedConfig
    VERSION = Version("1.1.0")  # raise it when an image of the same seed and index changes

    def _info(self) -> DatasetInfo:
        return DatasetInfo(description=__doc__, features=row_features(SCHEMA, boxes=True))

    def _split_generators(self, dl_manager: Any) -> list[SplitGenerator]:
        return [
            SplitGenerator(name=split, gen_kwargs={"split": split, "first": indices.start, "shards": _shards(indices)})
            for split, indices in self.config.split_ranges().items()
        ]

    def _generate_examples(self, split: str, first: int, shards: list[range]) -> Iterator[tuple[int, dict[str, Any]]]:
        options = {name: getattr(self.config, name) for name in ("seed", "size", "difficulty")}
        for shard in shards:
            for index in shard:
                rendered = render_image(index, **options)
                entries = rendered_entries(rendered, split_role(split, index - first))
                row = make_row(encode_jpeg(rendered), index - first, entries)
                yield index, row | {"boxes": [rendered.boxes[attribute] for attribute in rendered.labels]}


def _shards(indices: range) -> list[range]:
    """Pieces that ``num_proc`` processes share."""
    return [indices[start : start + _SHARD_SIZE] for start in range(0, len(indices), _SHARD_SIZE)]
