"""The rendered dataset as files: images and split files, as the field keeps its datasets."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from tqdm import tqdm

from ipad_data.builders.rendered import RenderedConfig, encode_jpeg, rendered_entries, split_role
from ipad_data.label_files import LabelledImage
from ipad_data.render.attributes import SCHEMA
from ipad_data.render.image import render_image
from ipad_data.split_writing import write_splits

_FOLDER = "Images"


def write_rendered(
    out_dir: str | Path,
    num_images: int = 6250,
    size: int = 128,
    seed: int = 0,
    difficulty: str | float = "standard",
    progress: bool = True,
    **split_sizes: int | None,
) -> list[Path]:
    """Write the images that ``load("rendered", ...)`` would hold, with split files and their boxes.

    The layout is that of FashionAI's published split files: ``load("fashionai", out_dir)`` reads it.

    The folder gets ``Images/<split>/<id>.jpg``, ``filenames_*.txt``, ``label_train.txt``, ``query_*.txt``,
    ``candidate_*.txt``, ``meta.json``, and ``boxes.jsonl``: one line per image, ``{"file", "boxes": {attribute:
    [[x0, y0, x1, y1], ...]}}``. It is written beside and renamed into place; after an error nothing is left.

    Args:
        out_dir: Folder to make; it must not exist, or be empty.
        num_images, size, seed, difficulty: See :class:`~ipad_data.builders.rendered.RenderedConfig`.
        progress: Show a progress bar.
        split_sizes: ``num_train``, ``num_validation``, ``num_test``, as in that class.

    Returns:
        The label files.

    Raises:
        ValueError: the folder holds something, or an option is out of its range.
    """
    config = RenderedConfig(num_images=num_images, size=size, seed=seed, difficulty=difficulty, **split_sizes)
    out_dir = Path(out_dir)
    if out_dir.exists() and (not out_dir.is_dir() or any(out_dir.iterdir())):
        raise ValueError(f"out_dir must be a new or empty folder, got {out_dir}")
    partial = out_dir.with_name(f".{out_dir.name}.{os.getpid()}.partial")
    try:
        files = _write_splits(partial, config, progress)
        if out_dir.exists():
            out_dir.rmdir()
        partial.rename(out_dir)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return [out_dir / path.relative_to(partial) for path in files]


def _write_splits(folder: Path, config: RenderedConfig, progress: bool) -> list[Path]:
    ranges = config.split_ranges()
    splits: dict[str, list[LabelledImage]] = {}
    with tqdm(total=sum(map(len, ranges.values())), unit="image", disable=not progress) as bar:
        for split, indices in ranges.items():
            (folder / _FOLDER / split).mkdir(parents=True)
            splits[split] = [
                _write_image(folder, split, position, index, config)
                for position, index in enumerate(_counted(indices, bar))
            ]
    return write_splits(folder, splits, SCHEMA, dataset=None)


def _counted(indices: range, bar: tqdm):
    for index in indices:
        yield index
        bar.update()


def _write_image(folder: Path, split: str, position: int, index: int, config: RenderedConfig) -> LabelledImage:
    rendered = render_image(index, config.seed, config.size, config.difficulty)
    name = f"{_FOLDER}/{split}/{position:06d}.jpg"
    (folder / name).write_bytes(encode_jpeg(rendered))
    boxes = {attribute: [[round(x, 4) for x in box] for box in found] for attribute, found in rendered.boxes.items()}
    with (folder / "boxes.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"file": name, "boxes": boxes}) + "\n")
    return LabelledImage(name, position, *zip(*rendered_entries(rendered, split_role(split, position)), strict=True))
