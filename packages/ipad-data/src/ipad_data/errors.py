"""Errors of the package: each is also the builtin that fits it, so callers need not import this module to catch them."""

from __future__ import annotations


class DatasetFilesNotFoundError(FileNotFoundError):
    """Files of a dataset are not where they should be; the message says which, where we looked and how to get them."""


class AnnotationError(ValueError):
    """An annotation file holds something it may not; the message starts with ``file:line``."""


class ImageDecodeError(ValueError):
    """An image cannot be decoded; the message names the file (or the row) and the reason."""
