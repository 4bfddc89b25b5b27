"""What an entry is for, and the names of the splits."""

from __future__ import annotations

ROLES = ("train", "query", "gallery")
TRAIN, QUERY, GALLERY = range(len(ROLES))
SPLITS = ("train", "validation", "test")
SPLIT_NAMES = {
    **{split: split for split in SPLITS},
    "val": "validation",
    "valid": "validation",
}  # as people write them
