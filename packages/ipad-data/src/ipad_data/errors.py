"""Errors of the package: each is also the builtin that fits, so callers need not import this module to catch them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self


class DatasetFilesNotFoundError(FileNotFoundError):
    """Files of a dataset are not where they should be: says which, where it looked and how to get them."""

    @classmethod
    def explain(cls, what: str, looked: Sequence[str | Path], how: str) -> Self:
        """Error with the three things that a reader needs.

        Args:
            what: The missing file or files.
            looked: Every place that was tried.
            how: What to do now.
        """
        places = "".join(f"\n  looked at: {place}" for place in looked)
        return cls(f"{what} not found.{places}\n  {how}")


class LabelFileError(ValueError):
    """A label file holds something that its format does not allow; the message starts with ``file:line``."""

    @classmethod
    def at(cls, path: str | Path, line: int | None, message: str) -> Self:
        """Error about a (1-based) line of a file, or about the whole file where ``line`` is ``None``."""
        return cls(f"{path}:{line}: {message}" if line is not None else f"{path}: {message}")


class ImageDecodeError(ValueError):
    """An image cannot be decoded; the message names its file, or its row, and the reason."""


class DataWarning(UserWarning):
    """Something in a dataset's files that does not stop it from being used, but that its user should know."""
