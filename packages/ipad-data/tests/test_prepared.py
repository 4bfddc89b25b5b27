from __future__ import annotations

import json
import os
import shutil

import datasets
import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from datasets.distributed import split_dataset_by_node

from ipad_data import DatasetFilesNotFoundError, DataWarning, LabelFileError, load
from ipad_data.doctor import examine
from ipad_data.prepare import prepare
from ipad_data.prepared import load_prepared, read_manifest, verify_shards
from ipad_data.shards import file_digest


def labels(dataset):
    return list(dataset.remove_columns("image"))


@pytest.fixture
def originals(asen):
    return load("fashionai", asen().folder)


@pytest.fixture
def out(originals, tmp_path):
    """A prepared folder whose training split has two shards."""
    return prepare(originals, tmp_path / "out", size=32, shard_bytes=5_000, options={}).out


def test_load_takes_it_for_the_originals(originals, out):
    again = load("fashionai", out)
    assert {split: labels(rows) for split, rows in again.items()} == {
        split: labels(rows) for split, rows in originals.items()
    }
    assert labels(load("fashionai", out, "test")) == labels(originals["test"])
    with pytest.raises(ValueError, match=r"split must be one of train, validation, test, or slices .*; got 'valid'"):
        load("fashionai", out, "valid")


def test_load_checks_name_and_options(out):
    with pytest.raises(ValueError, match=r"out was prepared from 'fashionai', got 'darn'; load it under its own name"):
        load("darn", out)
    assert load("fashionai", out, "test", protocol="published", seed=0).num_rows == 80
    with pytest.raises(ValueError, match=r"out was prepared with protocol='published', got 'random'; leave protocol"):
        load("fashionai", out, protocol="random")
    with pytest.raises(ValueError, match="has no option 'protocl'; did you mean one of: protocol"):
        load("fashionai", out, protocl="random")


def test_options_that_were_not_written_down_are_refused(originals, tmp_path):
    prepare(originals, tmp_path / "out", size=32)
    assert load("fashionai", tmp_path / "out", "test").num_rows == 80
    with pytest.raises(ValueError, match="does not say with which seed it was prepared; leave seed out"):
        load("fashionai", tmp_path / "out", seed=0)


def test_rendered_garments_and_a_table_of_unknown_origin(rendered, tmp_path):
    prepare(rendered, tmp_path / "rendered", size=32)
    again = load("rendered", tmp_path / "rendered")
    assert again["test"].features == rendered["test"].features
    assert again["test"]["boxes"][:] == rendered["test"]["boxes"][:]
    rows = datasets.Dataset.from_list(rendered["train"].select(range(3)).to_list(), rendered["train"].features)
    rows = datasets.DatasetDict(train=rows)
    assert prepare(rows, tmp_path / "own", size=32).manifest.dataset is None
    assert load("table", tmp_path / "own", "train").num_rows == 3


def test_originals_do_not_stream(asen):
    with pytest.raises(
        ValueError, match=r"streaming must be False for originals.*\n?`ipad-data prepare fashionai DIR"
    ):
        load("fashionai", asen().folder, streaming=True)


def test_preparing_anew_is_seen(originals, out):
    assert load("fashionai", out, "test").num_rows == 80
    shutil.rmtree(out)
    smaller = datasets.DatasetDict({split: rows.select(range(70)) for split, rows in originals.items()})
    prepare(smaller, out, size=32)
    assert load("fashionai", out, "test").num_rows == 70


@pytest.fixture
def many_shards(originals, tmp_path, monkeypatch):
    """A prepared folder with four shards of training rows: enough for two ranks with two workers each."""
    monkeypatch.setattr(
        datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0, raising=False
    )  # 5 s a stream in datasets 5
    monkeypatch.setattr("ipad_data.shards._ROWS_PER_GROUP", 40)
    report = prepare(originals, tmp_path / "many", size=32, shard_bytes=1)
    assert [shard.rows for shard in report.manifest.shards["train"]] == [40] * 4
    return report.out


def streamed(folder, rank, world_size, num_workers, epoch=0):
    stream = load("fashionai", folder, "train", streaming=True).shuffle(seed=1, buffer_size=20)
    stream = split_dataset_by_node(stream, rank=rank, world_size=world_size)
    stream.set_epoch(epoch)
    assert stream.num_shards == 4 / world_size  # what the workers of a loader divide among themselves
    loader = torch.utils.data.DataLoader(stream, batch_size=None, num_workers=num_workers, collate_fn=dict)
    return [row["image_id"] for row in loader]


@pytest.mark.multiprocess
@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("world_size", [1, 2])
def test_shuffled_streams_give_every_row_once_over_ranks_and_workers(many_shards, world_size, num_workers):
    parts = [streamed(many_shards, rank, world_size, num_workers) for rank in range(world_size)]
    together = [number for part in parts for number in part]
    assert sorted(together) == list(range(160))
    assert together != sorted(together)
    assert [len(part) for part in parts] == [160 // world_size] * world_size
    assert streamed(many_shards, 0, world_size, num_workers) == parts[0]
    assert streamed(many_shards, 0, world_size, num_workers, epoch=1) != parts[0]


@pytest.mark.parametrize("world_size", [3, 5])
def test_streams_give_every_row_once_to_ranks_that_do_not_divide_the_shards(many_shards, world_size):
    stream = load("fashionai", many_shards, "train", streaming=True).shuffle(seed=1, buffer_size=20)
    parts = [split_dataset_by_node(stream, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert sorted(row["image_id"] for part in parts for row in part) == list(range(160))


def test_streams_without_shuffling_in_the_order_of_the_originals(originals, out):
    stream = load("fashionai", out, "train", streaming=True)
    assert isinstance(stream, datasets.IterableDataset)
    assert [row["image_id"] for row in stream] == list(originals["train"]["image_id"])
    assert set(load("fashionai", out, streaming=True)) == {"train", "validation", "test"}


def test_reads_from_object_storage(originals, out):
    """``memory://`` stands for ``s3://``, ``hf://`` and the like: the same interface, without a network."""
    storage = fsspec.filesystem("memory")
    storage.put(str(out), "/bucket/prepared", recursive=True)
    try:
        stream = load("fashionai", "memory://bucket/prepared", "train", streaming=True)
        assert [row["image_id"] for row in stream] == list(range(160))
        assert labels(load("fashionai", "memory://bucket/prepared", "test")) == labels(originals["test"])
        with pytest.raises(DatasetFilesNotFoundError, match=r"prepared\.json of a prepared folder not found"):
            load("fashionai", "memory://bucket/elsewhere")
    finally:
        storage.rm("/bucket", recursive=True)


def test_plain_load_dataset_reads_the_folder(out):
    again = datasets.load_dataset(str(out))
    assert {split: len(rows) for split, rows in again.items()} == {"train": 160, "validation": 80, "test": 80}


@pytest.mark.parametrize("damage", ["missing", "cut off"])
def test_damaged_shards_are_noticed(out, damage):
    shard = next((out / "data").glob("train-00000-*"))
    if damage == "missing":
        shard.unlink()
    else:
        shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(DatasetFilesNotFoundError, match=r"1 of 2 shards of train .*not found(.|\n)*train-00000-of"):
        load("fashionai", out)


def flip(path, position: int) -> None:
    """Turn over one bit of a file, which keeps its size and time of change."""
    content, times = bytearray(path.read_bytes()), (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    content[position] ^= 1 << (position % 8)
    path.write_bytes(content)
    os.utime(path, ns=times)


def test_any_flipped_bit_is_noticed(out):
    shard = next((out / "data").glob("train-00000-*"))
    original = shard.read_bytes()
    for position in np.random.default_rng(0).integers(0, len(original), 20).tolist():
        flip(shard, position)
        with pytest.raises(LabelFileError, match=r"train-00000-of-.*: not what was written: the checksum differs"):
            verify_shards(out)
        shard.write_bytes(original)
    flip(shard, len(original) // 2)
    with pytest.raises(LabelFileError, match="checksum differs"):
        load("fashionai", out)
    (diagnosis,) = examine(out)
    assert "checksum differs" in str(diagnosis)


def test_a_folder_without_checksums_is_read_with_a_warning(out):
    manifest = out / "prepared.json"
    fields = json.loads(manifest.read_text(encoding="utf-8"))
    shards = [shard for of_split in fields["shards"].values() for shard in of_split]
    assert all(len(shard.pop("sha256")) == 64 for shard in shards)
    manifest.write_text(json.dumps({**fields, "format": 1}), encoding="utf-8")
    with pytest.warns(DataWarning, match="out has no checksums; prepare it anew"):
        assert load("fashionai", out, "test").num_rows == 80


def test_a_shard_is_read_for_its_checksum_once(out, tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr("ipad_data.prepared.file_digest", lambda path: read.append(path) or file_digest(path))
    for _ in range(2):
        verify_shards(out, tmp_path / "memory")
    assert len(read) == 4
    os.utime(read[0])  # changed since, or so it seems
    verify_shards(out, tmp_path / "memory")
    assert read[4:] == read[:1]


def test_flipped_labels_of_a_remote_copy_are_noticed(out):
    """Pages of labels have checksums of their own, which also a stream compares."""
    shard = next((out / "data").glob("test-00000-*"))
    original, expected = shard.read_bytes(), labels(load("fashionai", out, "test", streaming=True))
    group = pq.ParquetFile(shard).metadata.row_group(0)
    columns = [group.column(i) for i in range(group.num_columns)]
    chunk = next(column for column in columns if column.path_in_schema.startswith("value_ids"))
    first = min(filter(None, (chunk.dictionary_page_offset, chunk.data_page_offset)))
    storage, noticed = fsspec.filesystem("memory"), 0
    try:
        for position in range(first, first + chunk.total_compressed_size, 7):
            flip(shard, position)
            storage.put(str(out), "/bucket/damaged", recursive=True)
            shard.write_bytes(original)
            try:
                assert labels(load("fashionai", "memory://bucket/damaged", "test", streaming=True)) == expected
            except OSError:
                noticed += 1
            finally:
                storage.rm("/bucket", recursive=True)
    finally:
        shard.write_bytes(original)
    assert noticed > 5


def test_another_folder_put_in_its_place_at_the_same_time_is_seen(originals, out):
    before = load("fashionai", out)["train"]["value_ids"][:]
    times = {path.relative_to(out): path.stat().st_mtime_ns for path in (out / "data").iterdir()}
    changed = originals["train"].map(
        lambda row: {"value_ids": row["value_ids"][::-1], "image_id": 159 - row["image_id"]}
    )
    shutil.rmtree(out)
    prepare(datasets.DatasetDict({**originals, "train": changed}), out, size=32, shard_bytes=5_000, options={})
    for name, time in times.items():
        os.utime(out / name, ns=(time, time))
    assert load("fashionai", out)["train"]["image_id"][:] == list(range(160))[::-1]
    assert load("fashionai", out)["train"]["value_ids"][:] == before


def test_slices_of_splits(out, originals):
    assert load("fashionai", out, "train[:10%]").num_rows == 16
    assert load("fashionai", out, "train[10:20]+test")["image_id"][:] == [*range(10, 20), *range(80)]
    with pytest.raises(ValueError, match=r"or slices of them such as 'train\[:10%\]'; got 'tests\[:3\]'"):
        load("fashionai", out, "train+tests[:3]")


def test_manifests_that_are_none(out, tmp_path):
    manifest = out / "prepared.json"
    text = manifest.read_text(encoding="utf-8")
    for damaged, message in (
        (text[: len(text) // 2], r"prepared\.json:\d+: not JSON"),
        (text.replace('"format": 2', '"format": 3'), "format must be at most 2; prepare the folder anew"),
        ("[]", "not what `ipad-data prepare` writes"),
        (json.dumps({"format": 2, "shards": {}}), "not what `ipad-data prepare` writes"),
    ):
        manifest.write_text(damaged, encoding="utf-8")
        with pytest.raises(LabelFileError, match=message):
            read_manifest(out)
    manifest.unlink()
    with pytest.raises(DatasetFilesNotFoundError, match=r"prepared\.json of a prepared folder not found"):
        load("fashionai", out)  # not taken for a folder of originals
    with pytest.raises(DatasetFilesNotFoundError, match=r"prepared\.json of a prepared folder not found"):
        load_prepared(tmp_path)
