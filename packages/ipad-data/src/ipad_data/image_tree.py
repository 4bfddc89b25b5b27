"""Finding the images that label files name, in one listing of a folder and without leaving it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff"}
)


class ImageTree:
    """Image files below a folder, found by the names that label files give them.

    People unpack the same dataset into different trees (``Images/a.jpg``, ``valid/Images/a.jpg``, ``rank/Images/``),
    so a file is known by its path below the last folder called ``anchor``; so is a name. The folder is listed once;
    looking up a name touches no disk. Links to places inside the folder are followed, links out of it are not.

    Args:
        folder: Where the images are. It may itself be a link.
        anchor: Name of the folder that the names count from, e.g. ``Images``; case does not matter.

    Attributes:
        files: Relative POSIX path -> absolute path of every file with the suffix of an image. Files with another suffix, or
            none, are found by name all the same.
        outside: Relative POSIX paths of links that leave the folder.
    """

    def __init__(self, folder: str | Path, anchor: str) -> None:
        self.folder = Path(folder)
        self.anchor = anchor.lower()
        self.outside: set[str] = set()
        self._root = os.path.realpath(self.folder)
        self._every = dict(self._walk(self._root, "", {self._root}))
        self.files = {
            relative: path
            for relative, path in self._every.items()
            if os.path.splitext(relative)[1].lower() in IMAGE_SUFFIXES
        }
        self._by_tail = {self._tail(relative): path for relative, path in sorted(self._every.items(), reverse=True)}

    def find(self, name: str, archive: str = "") -> str | None:
        """Absolute path of the image that a label file calls ``name``; ``None`` where there is none.

        Args:
            name: Relative path that :func:`~ipad_data.label_text.safe_relative_path` has passed.
            archive: Relative folder to prefer, where several archives hold the same name.

        Raises:
            ValueError: the name leads through a link out of the folder.
        """
        candidates = [f"{archive}/{name}", name] if archive else [name]
        for candidate in candidates:
            if candidate in self._every:
                return self._every[candidate]
        found = self._by_tail.get(self._tail(name))
        if found is None and self.outside:
            self._refuse_links(candidates)
        return found

    def _refuse_links(self, candidates: list[str]) -> None:
        tails = {self._tail(link): link for link in self.outside}
        for candidate in candidates:
            parts = candidate.split("/")
            steps = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
            link = next((step for step in steps if step in self.outside), tails.get(self._tail(candidate)))
            if link is not None:
                raise ValueError(
                    f"{candidate!r} leads through the link {link!r} out of {self.folder}; "
                    "if the images are elsewhere on purpose, name that folder with images_dir="
                )

    def _tail(self, relative: str) -> str:
        return below_anchor(relative, self.anchor)

    def _walk(self, folder: str, prefix: str, visited: set[str]) -> Iterator[tuple[str, str]]:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
        for entry in entries:
            relative = f"{prefix}{entry.name}"
            if entry.is_symlink():
                target = os.path.realpath(entry.path)
                if os.path.commonpath([target, self._root]) != self._root:
                    self.outside.add(relative)
                    continue
            if entry.is_dir():
                real = os.path.realpath(entry.path)
                if real not in visited:  # links may make a circle
                    yield from self._walk(entry.path, f"{relative}/", visited | {real})
            elif entry.is_file():
                yield relative, entry.path


def below_anchor(relative: str, anchor: str) -> str:
    """Part of a relative path below its last folder called ``anchor``, whatever the case; the path where there is none."""
    parts = relative.split("/")
    for position in range(len(parts) - 2, -1, -1):
        if parts[position].lower() == anchor.lower():
            return "/".join(parts[position + 1 :])
    return relative
