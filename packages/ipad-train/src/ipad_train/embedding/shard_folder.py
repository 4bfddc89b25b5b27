"""The folder that shards are written into: what it was begun with, which shards are done, and its end.

``begun.json`` says what the shards are made of; a second start with the same goes on, another one is refused. Shard K is
done once ``shard-K.json`` lies beside it, with the names of its photos. ``index.json`` and ``files.jsonl`` come last.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ipad_rerank import write_embeddings
from ipad_rerank.files.shards import shard_path, shard_shape, write_index
from ipad_train.checkpoint import write_json

BEGUN, FILES, UNREADABLE = "begun.json", "files.jsonl", "unreadable.jsonl"


@dataclass
class Shard:
    """What a shard holds.

    Args:
        embeddings: ``(N, D)``; None where none of its photos can be read.
        columns: Labels, group ids, ids and roles ``(N,)`` where there are any.
        files: Id and file name of every photo in it.
        unreadable: Id, file name and reason of the photos that could not be read.
    """

    embeddings: np.ndarray | None = None
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    files: list[tuple[int, str]] = field(default_factory=list)
    unreadable: list[tuple[int, str, str]] = field(default_factory=list)


class ShardFolder:
    """Shards in the making.

    Args:
        path: The folder.
        count: Shards that there will be.
    """

    def __init__(self, path: Path, count: int) -> None:
        self.path, self.count = path, count

    def begin(self, settings: Mapping[str, Any]) -> bool:
        """Start, or go on; returns whether shards are there already.

        Raises:
            ValueError: it was begun with other settings, or holds something else.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        begun = self.path / BEGUN
        wanted = json.loads(json.dumps(settings))
        if not begun.is_file():
            if others := sorted(entry.name for entry in self.path.iterdir() if not entry.name.startswith(".")):
                raise ValueError(f"--out {self.path} holds {others[0]} and is no folder of shards; give another one")
            write_json(begun, wanted)
            return False
        saved = json.loads(begun.read_text(encoding="utf-8"))
        different = sorted(key for key in {*saved, *wanted} if saved.get(key) != wanted.get(key))
        if different:
            shown = ", ".join(f"{key} was {saved.get(key)!r} and is {wanted.get(key)!r}" for key in different)
            raise ValueError(
                f"--out {self.path} was begun with something else: {shown}. Repeat what it was begun with to go on, delete "
                "it, or give another folder"
            )
        return any(self.is_done(number) for number in range(self.count))

    def is_done(self, number: int) -> bool:
        """Whether a shard is there, whole, with the names of its photos."""
        try:
            rows = self._names(number)["rows"]
            return rows == 0 or shard_shape(shard_path(self.path, number))[0] == rows
        except (OSError, ValueError, KeyError):
            return False

    def write(self, number: int, shard: Shard) -> None:
        """Write a shard."""
        rows = 0 if shard.embeddings is None else len(shard.embeddings)
        if rows:
            write_embeddings(shard_path(self.path, number), shard.embeddings, **shard.columns)
        names = {"rows": rows, "files": shard.files, "unreadable": shard.unreadable}
        write_json(_names_path(self.path, number), names)

    def finish(self, metadata: Mapping[str, Any]) -> dict[str, int]:
        """Write the list of the files and the index; returns numbers of ``photos``, ``rows`` and ``unreadable``.

        Raises:
            ValueError: no photo at all could be read.
        """
        names = [self._names(number) for number in range(self.count)]
        shards = [shard_path(self.path, number) for number, each in enumerate(names) if each["rows"]]
        if not shards:
            raise ValueError("none of the photos can be read: " + "; ".join(p[2] for p in names[0]["unreadable"][:3]))
        counts = {"photos": self._list(FILES, ({"id": i, "file": f} for each in names for i, f in each["files"]))}
        problems = [
            {"id": i, "file": file, "reason": reason} for each in names for i, file, reason in each["unreadable"]
        ]
        counts["unreadable"] = self._list(UNREADABLE, iter(problems)) if problems else 0
        write_index(self.path, shards, dict(metadata), files=FILES, **counts)
        return {**counts, "rows": sum(each["rows"] for each in names)}

    def _names(self, number: int) -> dict[str, Any]:
        return json.loads(_names_path(self.path, number).read_text(encoding="utf-8"))

    def _list(self, name: str, lines: Iterator[dict[str, Any]]) -> int:
        part, count = self.path / f".{name}.part", 0
        with part.open("w", encoding="utf-8") as file:
            for line in lines:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
                count += 1
        part.replace(self.path / name)
        return count


def _names_path(folder: Path, number: int) -> Path:
    return shard_path(folder, number).with_suffix(".json")
