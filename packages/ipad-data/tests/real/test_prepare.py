from __future__ import annotations

import io
import os
import resource
import signal

import datasets
import numpy as np
import pytest
from click.testing import CliRunner
from datasets.distributed import split_dataset_by_node
from PIL import Image

from ipad_data import AttributeSchema, DatasetFilesNotFoundError, ImageDecodeError, load
from ipad_data.cli import main
from ipad_data.prepare import load_prepared, prepare, shrink_image


def leftovers(folder):
    return [path.name for path in folder.iterdir() if "partial" in path.name]


def labels(dataset):
    return dataset.remove_columns("image").to_list()


@pytest.fixture
def dataset(asen):
    return load("fashionai", asen().folder)


def test_round_trip(dataset, tmp_path):
    out = tmp_path / "\u88c5" / "prepared"
    report = prepare(dataset, out, size=32, shard_bytes=5_000)
    assert report.rows == {"train": 160, "validation": 80, "test": 80}
    assert report.shards["train"] > 1
    assert not leftovers(out.parent)
    again = load_prepared(out)
    for split in dataset:
        assert labels(again[split]) == labels(dataset[split])
        assert AttributeSchema.from_features(again[split].features) == AttributeSchema.from_features(
            dataset[split].features
        )
        assert again[split].features == dataset[split].features
    assert again["train"].cache_files  # memory-mapped
    stored = again["train"][0]["image"]
    assert Image.open(io.BytesIO(stored["bytes"])).size == (32, 43)
    assert stored["path"] == os.path.basename(dataset["train"][0]["image"]["path"])


def test_streaming(dataset, tmp_path):
    prepare(dataset, tmp_path / "out", size=32, shard_bytes=5_000)
    stream = load_prepared(tmp_path / "out", "train", streaming=True)
    assert isinstance(stream, datasets.IterableDataset)
    assert sorted(row["image_id"] for row in stream) == list(range(160))
    shuffled = stream.shuffle(seed=1, buffer_size=20)
    assert sorted(row["image_id"] for row in shuffled) == list(range(160))  # each exactly once


def test_streams_every_row_once_over_ranks(dataset, tmp_path):
    prepare(dataset, tmp_path / "out", size=32, shard_bytes=5_000)
    ids = []
    for rank in range(2):
        stream = load_prepared(tmp_path / "out", "train", streaming=True)
        part = split_dataset_by_node(stream, rank=rank, world_size=2)
        ids += [row["image_id"] for row in part]
    assert sorted(ids) == list(range(160))


def test_plain_load_dataset_reads_the_folder(dataset, tmp_path):
    prepare(dataset, tmp_path / "out", size=32)
    again = datasets.load_dataset(str(tmp_path / "out"))
    assert {split: len(rows) for split, rows in again.items()} == {"train": 160, "validation": 80, "test": 80}


def picture(size, mode="RGB", kind="JPEG", **options):
    buffer = io.BytesIO()
    color = {"RGB": (200, 30, 30), "CMYK": (0, 200, 200, 20), "I;16": 40_000, "RGBA": (200, 30, 30, 128)}[mode]
    Image.new(mode, size, color).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (picture((800, 600)), (133, 100)),
        (picture((600, 800)), (100, 133)),
        (picture((50, 60)), (50, 60)),  # never enlarged
        (picture((4000, 10)), (4000, 10)),
        (picture((800, 600), "CMYK"), (133, 100)),
        (picture((800, 600), "I;16", "PNG"), (133, 100)),
        (picture((800, 600), "RGBA", "PNG"), (133, 100)),
    ],
)
def test_shrink_image(source, expected):
    small = Image.open(io.BytesIO(shrink_image(source, 100)))
    assert (small.size, small.mode, small.format) == (expected, "RGB", "JPEG")


def test_shrunk_image_is_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to view
    buffer = io.BytesIO()
    Image.fromarray(np.repeat(np.arange(64, dtype=np.uint8)[:, None] * 4, 32, axis=1)).save(buffer, "JPEG", exif=exif)
    small = Image.open(io.BytesIO(shrink_image(buffer.getvalue(), 100)))
    assert small.size == (64, 32)
    assert not small.getexif()
    row = np.asarray(small.convert("L"))[16].astype(int)
    assert row[0] > row[-1]  # the top is now on the right


def test_unreadable_images_by_policy(asen, tmp_path):
    tree = asen()
    (tree.folder / tree.rows[3][0]).write_text("<html>gone</html>")
    dataset = load("fashionai", tree.folder)
    with pytest.raises(ImageDecodeError, match=r"not an image file.*unreadable='skip'"):
        prepare(dataset, tmp_path / "out", size=32)
    assert not (tmp_path / "out").exists()
    assert not leftovers(tmp_path)
    report = prepare(dataset, tmp_path / "out", size=32, unreadable="skip")
    assert len(report.unreadable) == 1
    assert "1 unreadable images left out" in str(report)
    assert list(load_prepared(tmp_path / "out", "train")["image_id"]) == [i for i in range(160) if i != 3]


def test_rows_without_images_stay(fashionai_raw, tmp_path):
    tree = fashionai_raw(images=False)
    dataset = load("fashionai", tree.folder, protocol="random", missing_images="label_only")
    prepare(dataset, tmp_path / "out")
    again = load_prepared(tmp_path / "out", "train")
    assert labels(again) == labels(dataset["train"])
    assert set(again["image"]) == {None}


@pytest.fixture
def small_disk():
    """No file may grow beyond 20 kB: writing fails as on a full disk."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, handler)


def test_full_disk_leaves_nothing(dataset, tmp_path, small_disk):
    with pytest.raises(OSError, match=r"no space left while writing .*out; nothing was kept"):
        prepare(dataset, tmp_path / "out", size=64)
    assert not (tmp_path / "out").exists()
    assert not leftovers(tmp_path)


def test_interrupted_preparation_is_never_read(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("ipad_data.prepare._sync", lambda folder: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        prepare(dataset, tmp_path / "out", size=32)
    assert not (tmp_path / "out").exists()
    assert not leftovers(tmp_path)


def test_missing_shard_is_noticed(dataset, tmp_path):
    prepare(dataset, tmp_path / "out", size=32, shard_bytes=5_000)
    next((tmp_path / "out" / "data").glob("train-00000-*")).unlink()
    with pytest.raises(DatasetFilesNotFoundError, match="1 of 2 shards of train not found"):
        load_prepared(tmp_path / "out")
    with pytest.raises(DatasetFilesNotFoundError, match="prepared shards not found"):
        load_prepared(tmp_path)


def test_refuses_to_overwrite(dataset, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep me")
    with pytest.raises(FileExistsError, match="out exists already"):
        prepare(dataset, tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep me"


@pytest.mark.parametrize("options", [{"size": 8}, {"quality": 0}, {"unreadable": "ignore"}, {"shard_bytes": 0}])
def test_bad_options(dataset, tmp_path, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        prepare(dataset, tmp_path / "out", **options)


def test_command(asen, tmp_path):
    tree = asen()
    out = tmp_path / "out"
    arguments = ["prepare", "fashionai", str(tree.folder), "--out", str(out), "--size", "32"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "train 160 rows in 1 shards" in result.output
    assert load_prepared(out, "test").num_rows == 80
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, "exists already" in result.output) == (1, True)
    result = CliRunner().invoke(main, [*arguments[:3], "--out", str(tmp_path / "b"), "-o", "protocl=random"])
    assert "has no option 'protocl'; did you mean one of: protocol?" in result.output
    result = CliRunner().invoke(main, [*arguments[:3], "--out", "/proc/version/x"])
    assert result.exit_code == 1
    assert result.output.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in result.output


def test_splits_command(fashionai_raw, tmp_path):
    tree = fashionai_raw(images=False)
    result = CliRunner().invoke(
        main, ["splits", "fashionai", str(tree.folder), "--out", str(tmp_path / "s"), "-o", "seed=3"]
    )
    assert result.exit_code == 0, result.output
    written = load("fashionai", tmp_path / "s", missing_images="label_only")
    direct = load("fashionai", tree.folder, protocol="random", seed=3, missing_images="label_only")
    assert all(labels(written[split]) == labels(direct[split]) for split in direct)


def test_render_command(tmp_path):
    result = CliRunner().invoke(main, ["render", "--out", str(tmp_path / "r"), "--num-images", "10", "--size", "32"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "r" / "meta.json").is_file()
    assert CliRunner().invoke(main, ["doctor", str(tmp_path / "r")]).exit_code == 0


@pytest.mark.parametrize("command", [[], ["doctor"], ["prepare"], ["splits"], ["render"]])
def test_help(command):
    result = CliRunner().invoke(main, [*command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output
