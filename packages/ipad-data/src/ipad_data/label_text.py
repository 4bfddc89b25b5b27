"""Reading label files: encodings, line ends, blank lines, JSON, integers and the paths written in them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ipad_data.errors import LabelFileError

_BOM = b"\xef\xbb\xbf"


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """1-based line numbers and lines of a UTF-8 text file, without line ends and surrounding blanks.

    A byte order mark and Windows line ends are accepted. Blank lines are yielded as ``""``, so that a reader whose
    ids are line numbers keeps counting.

    Raises:
        LabelFileError: a line is not UTF-8, or holds a NUL byte (a binary or UTF-16 file) or a carriage return.
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
            if "\r" in line:
                how = "a carriage return within the line, as old Macs end lines; save the file with line feeds"
                raise LabelFileError.at(path, number, f"{how}: {line[:40]!r}")
            yield number, line


def filled_lines(path: Path) -> Iterator[tuple[int, str]]:
    """As :func:`numbered_lines`, without the blank lines."""
    return ((number, line) for number, line in numbered_lines(path) if line)


def read_text(path: Path) -> str:
    """Content of a UTF-8 text file, without byte order mark.

    Raises:
        LabelFileError: not UTF-8, or a NUL character, as UTF-16 has where it is taken for UTF-8.
    """
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise LabelFileError.at(path, line, "not UTF-8 text; save the file as UTF-8") from None
    if "\0" in text:
        line = content[: content.index(b"\0")].count(b"\n") + 1
        raise LabelFileError.at(path, line, "a NUL character, as in UTF-16 text; save the file as UTF-8")
    return text


def read_json(path: Path) -> Any:
    """Content of a JSON file.

    Raises:
        LabelFileError: not UTF-8 text, or not JSON.
    """
    return parse_json(read_text(path), path)


def parse_json(text: str, path: Path, line: int | None = None) -> Any:
    """What a JSON text stands for. A key that comes twice in an object, NaN and infinity are refused.

    Args:
        text: The whole content of the file, or one of its lines.
        path: The file, for messages.
        line: The line; None for a whole file.

    Raises:
        LabelFileError: not such a text.
    """
    try:
        return json.loads(text, object_pairs_hook=_distinct, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise LabelFileError.at(path, line or error.lineno, f"not JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise LabelFileError.at(path, line, f"not JSON that can be read here: {error}") from None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} comes twice in an object")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def parse_int(text: str, what: str, path: Path, line: int) -> int:
    """Integer in a field of a label file.

    Raises:
        LabelFileError: the field is not a whole number in plain digits.
    """
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()):
        raise LabelFileError.at(path, line, f"{what} must be an integer, got {text[:80]!r}")
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
            path, line, f"{text[:200]!r} is no path inside the data folder; use a relative path with forward slashes"
        )
    return "/".join(parts)
