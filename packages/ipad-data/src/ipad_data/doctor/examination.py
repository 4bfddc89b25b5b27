"""Examination of a data folder: which dataset it holds, what is there, what is missing, what to do next."""

from __future__ import annotations

from pathlib import Path

from ipad_data.dataset_trees import EXPECTED, PHOTO_BUILDERS, compare_tree, recognise
from ipad_data.doctor.diagnosis import SHOWN, Diagnosis, few
from ipad_data.doctor.photos import examine_photos
from ipad_data.doctor.prepared import examine_prepared
from ipad_data.doctor.real import examine_real
from ipad_data.errors import DatasetFilesNotFoundError

_ARCHIVES = {".zip", ".tar", ".gz", ".tgz", ".rar", ".7z"}
_EXAMINERS = {"prepared": examine_prepared, **dict.fromkeys(PHOTO_BUILDERS, examine_photos)}


def examine(
    folder: str | Path,
    dataset: str | None = None,
    read_images: bool = True,
    workers: int | None = None,
    progress: bool = False,
) -> list[Diagnosis]:
    """Examine a folder. Nothing is written.

    Args:
        folder: Folder of a dataset, or a folder of such folders.
        dataset: Its name; recognised when None.
        read_images: Decode every image to find broken ones.
        workers: Processes that read images; as many as there are cores when None.
        progress: Show a progress bar.

    Returns:
        One diagnosis for each dataset found.

    Raises:
        DatasetFilesNotFoundError: no such folder, or nothing in it looks like one of the datasets.
        ValueError: unknown dataset.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise DatasetFilesNotFoundError.explain("data folder", [folder.absolute()], "Name an existing folder.")
    if dataset is not None and dataset not in EXPECTED:
        raise ValueError(f"dataset must be one of {', '.join(EXPECTED)}, got {dataset!r}")
    found = recognise(folder) if dataset is None else [(dataset, folder)]
    if not found:
        hint = f"Name it with --dataset ({', '.join(EXPECTED)}) to see the tree that is expected."
        if archives := sorted(path.name for path in folder.iterdir() if path.suffix in _ARCHIVES):
            hint = f"Unpack {few(archives)} first. {hint}"
        raise DatasetFilesNotFoundError.explain("files of a known dataset", [folder.absolute()], hint)
    return [_examine_one(name, place, read_images, workers, progress) for name, place in found]


def _examine_one(name: str, folder: Path, read_images: bool, workers: int | None, progress: bool) -> Diagnosis:
    diagnosis = Diagnosis(folder, name, _tree_lines(folder, name))
    _EXAMINERS.get(name, examine_real)(diagnosis, read_images, workers, progress)
    return diagnosis


def _tree_lines(folder: Path, name: str) -> list[str]:
    lines = []
    for line, matches in compare_tree(folder, name):
        lines.append(f"  [{'x' if matches else ' '}] {line.shown:42} {line.purpose}")
        lines += [f"        {_relative(path, folder)}" for path in matches[:SHOWN]]
        lines += [f"        and {len(matches) - SHOWN} more"] * (len(matches) > SHOWN)
    return lines


def _relative(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
