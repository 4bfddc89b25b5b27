"""Paths that annotation files name: kept inside the data folder."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath


def resolve_inside(folder: Path, name: str) -> Path:
    """Path of the file that an annotation names, relative to its folder.

    Args:
        folder: The data folder.
        name: Relative path as annotated, with ``/`` or ``\\`` between its parts.

    Raises:
        ValueError: the name is empty, absolute, or leads out of the folder (``..`` or a symbolic link).
    """
    posix = PurePosixPath(name.replace("\\", "/"))
    if not name or "\0" in name or posix.is_absolute() or PureWindowsPath(name).drive:
        raise ValueError(f"image names must be paths relative to {folder}, got {name!r}")
    path = folder.joinpath(*posix.parts)
    if ".." in posix.parts or not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"image names must stay inside {folder}, got {name!r}")
    return path
