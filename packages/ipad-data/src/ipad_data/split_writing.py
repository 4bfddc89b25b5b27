"""Writing splits as split files, so that others can repeat a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ipad_data.label_files import LabelledImage, split_file_paths
from ipad_data.meta_file import write_meta
from ipad_data.roles import ROLES, SPLITS
from ipad_data.schema import AttributeSchema


def write_splits(
    folder: str | Path, splits: Mapping[str, Sequence[LabelledImage]], schema: AttributeSchema, dataset: str | None
) -> list[Path]:
    """Write splits as split files and ``meta.json``; :func:`read_splits` reads the same images and entries back.

    Args:
        folder: Made where missing.
        splits: Split name (of :data:`~ipad_data.roles.SPLITS`) -> images. Image ids become line numbers, so they must
            be distinct and not negative; ids that are left out become blank lines. Empty splits are not written.
        schema: Names and numbers of values.
        dataset: Key of the nested ``meta.json``; None for one without the outer level.

    Returns:
        The written files.

    Raises:
        ValueError: unknown split, repeated or negative image id, a role that the split's files cannot hold, a name
            with a line break.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = [write_meta(folder / "meta.json", schema, dataset)]
    for split, images in splits.items():
        if split not in SPLITS:
            raise ValueError(f"splits must be named {', '.join(SPLITS)}, got {split!r}")
        if not images:
            continue
        texts = _split_texts(split, images, schema)
        for role, path in split_file_paths(folder, split).items():
            path.write_text(texts[role], encoding="utf-8", newline="\n")
            written.append(path)
    return written


def _split_texts(split: str, images: Sequence[LabelledImage], schema: AttributeSchema) -> dict[str, str]:
    names = {image.image_id: image.name for image in images}
    if len(names) != len(images) or min(names, default=0) < 0:
        raise ValueError(f"image ids of split {split!r} must be distinct and not negative")
    if any(not name.isprintable() for name in names.values()):
        raise ValueError(f"image names of split {split!r} must hold no line breaks or control characters")
    allowed = ("train",) if split == "train" else ("query", "gallery")
    lines: dict[str, list[str]] = {role: [] for role in allowed}
    for image in sorted(images, key=lambda image: image.image_id):
        pairs: dict[str, list[str]] = {}
        for attribute_id, value_id, role in zip(image.attribute_ids, image.value_ids, image.roles, strict=True):
            if ROLES[role] not in allowed:
                raise ValueError(f"split {split!r} holds entries of role {' and '.join(allowed)}, got {ROLES[role]!r}")
            pairs.setdefault(ROLES[role], []).append(f"{attribute_id} {schema.locate(value_id)[1]}")
        for role, texts in pairs.items():
            rows = [" ".join(texts)] if role == "train" else texts
            lines[role] += [f"{image.image_id} {row}" for row in rows]
    filenames = [names.get(image_id, "") for image_id in range(max(names, default=-1) + 1)]
    return {role: "".join(f"{row}\n" for row in rows) for role, rows in [("filenames", filenames), *lines.items()]}
