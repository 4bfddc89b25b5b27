"""Reading label files line by line: encodings, line ends, blank lines, integers and the paths written in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ipad_data.errors import LabelFileError

_BOM = b"\xef\xbb\xbf"


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """1-based line numbers and lines of a UTF-8 text file, without line ends and surrounding blanks.

    A byte order mark and Windows line ends are accepted. Blank lines are yielded as ``""``, so that a reader whose
    ids are line numbers keeps counting.

    Raises:
        LabelFileError: a line is not UTF-8, or holds a NUL byte (a binary or UTF-16 file).
    """
    with open(path, "rb") as file:
        for number, raw in enumerate(file, start=1):
            if number == 1:
                raw = raw.removeprefix(_BOM)
            try:
                line = raw.decode("utf-8").strip()
            except UnicodeDecodeError:
                raise LabelFileError.at(
                    path, number, f"not UTF-8 text: {raw[:40]!r}; save the file as UTF-8"
                ) from None
            if "\0" in line:
                raise LabelFileError.at(path, number, f"not a text file: {raw[:40]!r}; save the file as UTF-8")
            yield number, line


def filled_lines(path: Path) -> Iterator[tuple[int, str]]:
    """As :func:`numbered_lines`, without the blank lines."""
    return ((number, line) for number, line in numbered_lines(path) if line)


def parse_int(text: str, what: str, path: Path, line: int) -> int:
    """Integer in a field of a label file.

    Raises:
        LabelFileError: the field is not a whole number in plain digits.
    """
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()):
        raise LabelFileError.at(path, line, f"{what} must be an integer, got {text!r}")
    return int(text)


def safe_relative_path(text: str, path: Path, line: int | None) -> str:
    """Relative POSIX path of a name written in a label file, with ``./`` removed.

    Names come from files that others wrote, so a name that could leave the data folder is refused before it meets
    the file system: absolute paths, drive letters, backslashes, ``..``, control characters.

    Raises:
        LabelFileError: the name is empty or could leave the data folder.
    """
    parts = [part for part in text.split("/") if part not in ("", ".")]
    leaves = text.startswith("/") or ".." in parts or "\\" in text or text[1:2] == ":" or not text.isprintable()
    if leaves or not parts:
        raise LabelFileError.at(
            path, line, f"{text!r} is no path inside the data folder; use a relative path with forward slashes"
        )
    return "/".join(parts)
