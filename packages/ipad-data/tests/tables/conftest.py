from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ipad_data import AttributeSchema

COLORS = ("red", "green", "blue")


@pytest.fixture
def jpeg():
    """Function that writes a small JPEG of a colour."""

    def write(path: Path, color: str = "red", size: tuple[int, int] = (24, 16)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, color).save(path)
        return path

    return write


@pytest.fixture
def photos(tmp_path, jpeg):
    """Folder with thirty photos ``images/p00.jpg``, ... in three colours, and no table."""
    folder = tmp_path / "shop"
    for i in range(30):
        jpeg(folder / "images" / f"p{i:02d}.jpg", COLORS[i % 3])
    return folder


@pytest.fixture
def records():
    """Rows of a table of these photos, ``file_name`` counting from the table."""
    return [{"file_name": f"images/p{i:02d}.jpg", "color": COLORS[i % 3], "new": bool(i % 2)} for i in range(30)]


def write_jsonl(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_parquet(path: Path, rows: list[dict]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def write_delimited(path: Path, rows: list[dict]) -> Path:
    delimiter = "\t" if path.suffix == ".tsv" else ","
    texts = [[str(value).lower() if isinstance(value, bool) else str(value) for value in row.values()] for row in rows]
    path.write_text("".join(delimiter.join(fields) + "\n" for fields in [list(rows[0]), *texts]), encoding="utf-8")
    return path


@pytest.fixture
def write():
    """Function that writes rows as a table of the format that the file's name says."""
    writers = {".jsonl": write_jsonl, ".parquet": write_parquet, ".csv": write_delimited, ".tsv": write_delimited}
    return lambda path, rows: writers[path.suffix](path, rows)


@pytest.fixture
def labels():
    """Function: file name of each photo -> its values, over all splits of a loaded dataset."""

    def read(dataset) -> dict[str, set[str]]:
        found = {}
        for rows in dataset.values():
            names = AttributeSchema.from_features(rows.features).value_names
            for row in rows:
                found[Path(row["image"]["path"]).name] = {names[value] for value in row["value_ids"]}
        return found

    return read
