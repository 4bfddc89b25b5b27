"""Finding the photos that a table names, in the folders that its names may count from, and without leaving them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path, PurePosixPath, PureWindowsPath

_FOLDERS_SEARCHED = 2000
_NAMES_SEARCHED = 200


class PhotoFinder:
    """Photos by the names that a table gives them.

    Args:
        folders: Where names count from, after the folder of their own table. Each may itself be a link.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        self.folders = tuple(folders)
        self._real = cache(os.path.realpath)

    def places(self, folder: Path, name: str) -> list[Path]:
        """Where the photo may be that a table in ``folder`` calls ``name``.

        Raises:
            ValueError: the name is empty, absolute, or leads out of the folder.
        """
        posix = PurePosixPath(name.replace("\\", "/"))
        if not name or "\0" in name or posix.is_absolute() or PureWindowsPath(name).drive:
            raise ValueError(f"image names must be paths relative to {folder}, got {name!r}")
        if ".." in posix.parts:
            raise ValueError(f"image names must stay inside {folder}, got {name!r}")
        return [place.joinpath(*posix.parts) for place in dict.fromkeys((folder, *self.folders))]

    def find(self, folder: Path, name: str) -> Path | None:
        """The photo that a table in ``folder`` calls ``name``; None where there is none.

        Raises:
            ValueError: the name leads out of the folder, also through a link; or it stands for different files.
        """
        found = [path for path in self.places(folder, name) if path.is_file()]
        inside = [self._real(place) for place in (folder, *self.folders)]
        for path in found:
            if not any(Path(os.path.realpath(path)).is_relative_to(place) for place in inside):
                raise ValueError(
                    f"image names must stay inside {folder}, got {name!r}, which leads out through a link"
                )
        if any(not path.samefile(found[0]) for path in found[1:]):
            raise ValueError(f"{name!r} stands for different files: {', '.join(map(str, found))}; rename one of them")
        return found[0] if found else None


def where_else(root: Path, names: Sequence[str]) -> str:
    """What to do about photos that are nowhere: the nearest folder below ``root`` that has files of their names.

    Args:
        root: The data folder; a bounded number of folders in it is searched, nearest first.
        names: Names as the table has them.
    """
    if (found := nearest_folder(root, names)) is None:
        return f"No file below {root} has one of these names; images=... names another folder that they count from."
    folder, name = found
    return _advice(root, folder, name, PurePosixPath(name.replace("\\", "/")).name)


def nearest_folder(root: Path, names: Sequence[str]) -> tuple[Path, str] | None:
    """The nearest folder at or below ``root`` that has a file of one of these names, and that name; None without one.

    A bounded number of folders is searched, for a bounded number of names.
    """
    wanted = {PurePosixPath(name.replace("\\", "/")).name: name for name in names[:_NAMES_SEARCHED]}
    for folder in _nearest_folders(root):
        if hits := sorted(wanted.keys() & _files(folder)):
            return folder, wanted[hits[0]]
    return None


def _advice(root: Path, folder: Path, name: str, file_name: str) -> str:
    relative = PurePosixPath(folder.relative_to(root).as_posix(), file_name)
    parents = PurePosixPath(name.replace("\\", "/")).parts[:-1]
    start = relative.parts[: len(relative.parts) - 1 - len(parents)]
    if relative.parts[len(start) : -1] == parents:
        return f"The nearest folder that has files of these names is {folder}: load with images={'/'.join(start) or '.'!r}."
    return f"The nearest folder that has files of these names is {folder}: the table must call them {str(relative)!r}."


def _nearest_folders(root: Path) -> Iterator[Path]:
    """The folder and those below it, level by level."""
    level, seen = [root], 0
    while level:
        below = []
        for folder in level:
            yield folder
            seen += 1
            if seen >= _FOLDERS_SEARCHED:
                return
            below += sorted(path for path in _entries(folder) if path.is_dir() and not path.is_symlink())
        level = below


def _files(folder: Path) -> set[str]:
    return {path.name for path in _entries(folder)}


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:  # not ours to read
        return []
