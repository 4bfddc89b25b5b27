from __future__ import annotations

import io
import os
import resource
import signal
import subprocess
import sys

import pytest
from filelock import FileLock
from PIL import Image

from ipad_data import AttributeSchema, DatasetFilesNotFoundError, ImageDecodeError, load
from ipad_data.prepare import prepare
from ipad_data.prepared import load_prepared


def leftovers(folder):
    return [path.name for path in folder.iterdir() if "partial" in path.name or path.name.endswith(".lock")]


def labels(dataset):
    return dataset.remove_columns("image").to_list()


@pytest.fixture
def dataset(asen):
    return load("fashionai", asen().folder)


def test_round_trip(dataset, tmp_path):
    out = tmp_path / "\u88c5" / "prepared"
    report = prepare(dataset, out, size=32, shard_bytes=5_000)
    assert report.manifest.rows == {"train": 160, "validation": 80, "test": 80}
    assert len(report.manifest.shards["train"]) > 1
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


def test_another_process_may_be_first(dataset, tmp_path, monkeypatch):
    def other(folder):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "theirs.txt").write_text("kept")

    monkeypatch.setattr("ipad_data.prepare._sync", other)
    with pytest.raises(FileExistsError, match="out was made by another process meanwhile and stays as it is"):
        prepare(dataset, tmp_path / "out", size=32)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["theirs.txt"]
    assert not leftovers(tmp_path)


KILLED = """
import os, signal, sys
from ipad_data import load, prepare, shards
original = shards._groups
def groups(images):
    for number, group in enumerate(original(images)):
        yield group
        if number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
shards._groups = groups
prepare.prepare(load("fashionai", sys.argv[1], cache_dir=sys.argv[3]), sys.argv[2], size=32, shard_bytes=1)
"""


@pytest.mark.multiprocess
def test_a_killed_preparation_is_never_read_and_does_not_hinder_the_next(asen, tmp_path):
    folder, out = asen().folder, tmp_path / "out"
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(out), str(tmp_path / "cache")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not out.exists()
    assert leftovers(tmp_path)
    with pytest.raises(DatasetFilesNotFoundError):
        load("fashionai", out)
    assert prepare(load("fashionai", folder), out, size=32).manifest.rows["train"] == 160
    assert not leftovers(tmp_path)
    assert load("fashionai", out, "train").num_rows == 160


def test_one_process_at_a_time(dataset, tmp_path):
    (tmp_path / ".out.partial-1").mkdir()
    with (
        FileLock(tmp_path / ".out.lock"),
        pytest.raises(FileExistsError, match="out is being made by another process"),
    ):
        prepare(dataset, tmp_path / "out", size=32)
    assert (tmp_path / ".out.partial-1").is_dir()  # it may be theirs
