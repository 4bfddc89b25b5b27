"""What can go wrong with a catalogue, in terms of what the user gave."""

from __future__ import annotations


class CatalogueError(ValueError):
    """A catalogue, photo, filter or weight that does not fit what was asked."""


class EngineError(OSError):
    """The vector engine does not answer, or cannot do what it was asked."""


class PhotoError(CatalogueError):
    """A photo that cannot be read, or that is larger than allowed."""


class NotInCatalogueError(CatalogueError):
    """An id that no photo of the catalogue has."""
