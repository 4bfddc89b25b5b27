"""The photos of a folder, by their path below it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ipad_train.catalogue.errors import CatalogueError, PhotoError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # Pillow's names; others are never opened
MAX_NAME_BYTES = 2000


@dataclass(frozen=True)
class PhotoFile:
    """A photo as the folder lists it: ``name`` relative to the folder with forward slashes; ``size`` bytes; ``mtime`` ns."""

    name: str
    size: int
    mtime: int

    @property
    def id(self) -> str:
        """16 hexadecimal digits of the name: the photo's id in the catalogue."""
        return photo_id(self.name)


def photo_id(name: str) -> str:
    """Id of a photo by its name."""
    return hashlib.blake2b(name.encode(), digest_size=8).hexdigest()


def content_hash(content: bytes) -> str:
    """32 hexadecimal digits of a file's bytes."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def find_photos(folder: Path) -> tuple[list[PhotoFile], list[str]]:
    """All photos at and below a folder in the order of their names, and what was left out, each with the reason.

    Hidden files and folders are passed over. Links to folders are not followed; links to files count where they stay inside.

    Raises:
        CatalogueError: no folder, or no photo in it.
    """
    if not folder.is_dir():
        raise CatalogueError(f"PHOTOS must be a folder, and {folder} is none")
    root, found, left_out = folder.resolve(), [], []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            if name.startswith(".") or not name.lower().endswith(SUFFIXES):
                continue
            path = Path(place, name)
            relative = path.relative_to(folder).as_posix()
            try:
                if path.is_symlink() and not path.resolve().is_relative_to(root):
                    left_out.append(f"{relative}: a link that leads out of the folder")
                elif len(relative.encode()) > MAX_NAME_BYTES:
                    left_out.append(f"{relative[:60]}...: a name of more than {MAX_NAME_BYTES} bytes")
                else:
                    facts = path.stat()
                    found.append(PhotoFile(relative, facts.st_size, facts.st_mtime_ns))
            except UnicodeEncodeError:
                left_out.append(f"{relative!r}: a name that is no UTF-8")
            except OSError as error:
                left_out.append(f"{relative}: {error.strerror or error}")
    if not found:
        why = f"; left out: {'; '.join(left_out[:5])}" if left_out else ""
        raise CatalogueError(f"PHOTOS {folder} has no photo at or below it (looked for {', '.join(SUFFIXES)}){why}")
    return sorted(found, key=lambda photo: photo.name), left_out


def read_photo(folder: Path, name: str) -> bytes:
    """Content of a photo by its name.

    Raises:
        PhotoError: it is not there, or would be read from outside the folder.
    """
    pure = PurePosixPath(name)
    path = folder.joinpath(*pure.parts)
    if pure.is_absolute() or ".." in pure.parts or "\0" in name:
        raise PhotoError(f"{name!r} leads out of the photo folder")
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise PhotoError(f"{name!r} leads out of the photo folder")
        if not path.is_file():  # also a pipe or a device, which would never end
            raise PhotoError(f"{name}: no longer in the photo folder")
        return path.read_bytes()
    except OSError as error:
        raise PhotoError(f"{name}: cannot be read: {error.strerror or error}") from None
