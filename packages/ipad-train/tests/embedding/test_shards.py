"""Embedding into shards: the same files by one process and two, after kills, with and without labels; and bad input."""

from __future__ import annotations

import io
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from ipad_core import AttributeEmbedder
from ipad_rerank import read_embeddings
from ipad_rerank.files.shards import read_index
from ipad_train.cli import main
from ipad_train.config_files import load_run_config
from ipad_train.data import load_data

SMALL = ["--shard-photos", "7", "data.eval_batch_size=3"]


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def contents(folder: Path) -> dict[str, bytes]:
    """What lies in a folder of shards, byte by byte, without the lock."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if not path.name.startswith(".")}


def names(folder: Path) -> dict[int, str]:
    lines = (folder / "files.jsonl").read_text(encoding="utf-8").splitlines()
    return {line["id"]: line["file"] for line in map(json.loads, lines)}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Twenty photos in two folders below one."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for number in range(20):
        place = folder / ("a" if number % 2 else "b")
        place.mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 256, (40, 30, 3), dtype=np.uint8)).save(place / f"{number:02d}.png")
    return folder


def test_a_split_in_shards_equals_the_one_file(finished, tmp_path):
    assert run("embed", finished[0], "--out", tmp_path / "one.safetensors").exit_code == 0
    result = run("embed", finished[0], "--out", tmp_path / "shards", *SMALL)
    assert result.exit_code == 0, result.output
    one, shards = read_embeddings(tmp_path / "one.safetensors"), read_embeddings(tmp_path / "shards")
    for column in ("labels", "group_ids", "ids", "roles"):
        np.testing.assert_array_equal(getattr(shards, column), getattr(one, column))
    np.testing.assert_allclose(shards.embeddings, one.embeddings, atol=1e-5)
    index = read_index(tmp_path / "shards")
    assert len(index["shards"]) == -(-index["photos"] // 7)
    schema = load_data(load_run_config(finished[0]).data).schema
    assert shards.metadata["attributes"] == list(schema.attributes)
    assert shards.metadata["value_names"] == list(schema.value_names)
    assert set(names(tmp_path / "shards")) == set(one.ids.tolist())


def test_photos_without_labels_get_every_attribute(finished, photos, tmp_path):
    result = run("embed", finished[0], "--photos", photos, "--out", tmp_path / "out", *SMALL)
    assert result.exit_code == 0, result.output
    data = read_embeddings(tmp_path / "out")
    assert (data.labels, data.roles) == (None, None)
    files = names(tmp_path / "out")
    assert [files[i] for i in range(20)] == sorted(
        path.relative_to(photos).as_posix() for path in photos.rglob("*.png")
    )
    model = AttributeEmbedder.from_pretrained(finished[0] / "best")
    count = model.options["num_attributes"]
    assert data.group_ids.tolist() == list(range(count)) * 20
    side = load_run_config(finished[0]).data.detail_size
    photo = Image.open(photos / files[7]).resize((side, side), Image.Resampling.BILINEAR)
    pixels = np.asarray(photo).transpose(2, 0, 1)[None].copy()
    expected = model.encode(torch.from_numpy(pixels), attributes="all").embedding
    # Pillow and torch resize to within one level of 255, which the crop's box may amplify.
    cosine = (data.embeddings[data.ids == 7] * expected.numpy()).sum(axis=1)
    assert cosine.min() > 0.98


def test_a_table_without_labels_names_the_photos(finished, photos, tmp_path):
    table = photos / "list.csv"
    table.write_text("file_name,price\nb/04.png,3\na/01.png,5\n")
    try:
        result = run("embed", finished[0], "--photos", table, "--out", tmp_path / "out", "--dtype", "float16")
        assert result.exit_code == 0, result.output
        assert names(tmp_path / "out") == {0: "b/04.png", 1: "a/01.png"}
        assert run("embed", finished[0], "--photos", photos, "--out", tmp_path / "all").exit_code == 0
        some, every = read_embeddings(tmp_path / "out"), read_embeddings(tmp_path / "all")
        place = {file: i for i, file in names(tmp_path / "all").items()}["b/04.png"]
        np.testing.assert_allclose(
            some.embeddings[some.ids == 0], every.embeddings[every.ids == place], atol=2e-3
        )  # half precision
    finally:
        table.unlink()


@pytest.mark.multiprocess
def test_two_processes_write_the_files_that_one_writes(finished, photos, commands, tmp_path):
    arguments = ["embed", finished[0], "--photos", photos, *SMALL]
    commands.run(*arguments, "--out", tmp_path / "one")
    ranks = commands.start_ranks(2, *arguments, "--out", tmp_path / "two")
    assert [rank.wait() for rank in ranks] == [0, 0], ranks[0].text() + ranks[1].text()
    assert "20 photos in 3 shards by 2 processes" in ranks[0].text()
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.multiprocess
def test_a_killed_run_goes_on_and_ends_with_the_same_files(finished, photos, commands, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    arguments = ["embed", finished[0], "--photos", photos, "--shard-photos", "1"]
    commands.run(*arguments, "--out", whole)
    process = commands.start(*arguments, "--out", killed)
    deadline = time.monotonic() + 200
    while not list(killed.glob("shard-*.json")) and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    done = {path: path.stat().st_mtime_ns for path in killed.glob("shard-*.json")}
    assert 0 < len(done) < 20
    with pytest.raises(FileNotFoundError, match="is not finished"):
        read_embeddings(killed)
    (killed / "shard-00019.safetensors").write_bytes(b"half a shard")  # as a kill may leave one without its names
    assert "going on" in commands.run(*arguments, "--out", killed)
    assert all(path.stat().st_mtime_ns == before for path, before in done.items())
    assert contents(killed) == contents(whole)


def test_another_start_in_the_same_folder_is_refused_with_what_differs(finished, photos, tmp_path):
    out = tmp_path / "out"
    assert run("embed", finished[0], "--photos", photos, "--out", out).exit_code == 0
    again = run("embed", finished[0], "--photos", photos, "--out", out)
    assert again.exit_code == 0, again.output
    other = run("embed", finished[0], "--photos", photos, "--out", out, "--branch", "spatial")
    assert other.exit_code == 1
    assert "was begun with something else: branch was 'fused' and is 'spatial'" in other.output
    replaced = tmp_path / "replaced"  # the same names, another photo behind one of them
    shutil.copytree(photos, replaced)
    shutil.copyfile(replaced / "a" / "01.png", replaced / "a" / "03.png")
    other = run("embed", finished[0], "--photos", replaced, "--out", out)
    assert other.exit_code == 1
    assert "was begun with something else: photos_digest was" in other.output
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    assert "holds thesis.txt and is no folder of shards" in run(
        "embed", finished[0], "--photos", photos, "--out", tmp_path / "mine"
    ).output.replace("\n", " ")


def test_an_unreadable_photo_is_named_or_left_out_and_listed(finished, photos, tmp_path):
    broken = photos / "c.jpg"
    broken.write_bytes(b"no image")
    try:
        arguments = ("embed", finished[0], "--photos", photos, "--out", tmp_path / "out", "--shard-photos", "20")
        result = run(*arguments)
        assert result.exit_code == 1
        assert "c.jpg: not an image file" in result.output
        assert "data.on_error=skip leaves such photos out" in result.output
        result = run(*arguments, "data.on_error=skip")  # the last shard holds this photo only
        assert result.exit_code == 0, result.output
        assert "1 cannot be read, see unreadable.jsonl" in result.output
        (line,) = (tmp_path / "out" / "unreadable.jsonl").read_text().splitlines()
        assert json.loads(line)["file"] == "c.jpg"
        assert sorted(names(tmp_path / "out")) == list(range(20))
        assert len(read_embeddings(tmp_path / "out").embeddings) == read_index(tmp_path / "out")["rows"]
    finally:
        broken.unlink()


def test_wrong_options_are_refused_before_anything_is_embedded(finished, photos, tmp_path):
    start = ("embed", finished[0], "--out", tmp_path / "out")
    cases = {
        ("--photos", tmp_path / "nowhere"): "there is no such folder or table",
        ("--photos", photos, "--split", "test"): "takes the place of a split",
        ("--photos", photos, "--image-column", "x"): "--image-column is for a table",
        ("--image-column", "x"): "is for a table that --photos names",
        ("--shard-photos", "0"): "--shard-photos must be at least 1, got 0",
        ("--split", "tset"): "split must be one of",
        ("--stage", "stage7"): "stage must be one that the run has",
        ("data.eval_batch_size=0",): "data.eval_batch_size must be positive, got 0",
    }
    for arguments, message in cases.items():
        result = run(*start, *arguments)
        assert result.exit_code == 1, arguments
        assert message in result.output.replace("\n", " "), result.output
    assert not (tmp_path / "out").exists()
    assert (
        "must be a folder; `ipad-rerank join FOLDER all.npy`"
        in run("embed", finished[0], "--out", tmp_path / "all.npy").output
    )
    table = tmp_path / "list.csv"
    table.write_text("image\nnowhere.jpg\n")
    assert "names 1 photos that are not in" in run(*start, "--photos", table).output
    table.write_text("image\n")
    assert run(*start, "--photos", table).exit_code == 1


def test_a_second_process_in_the_folder_is_refused(finished, photos, tmp_path):
    from ipad_train.folder_lock import FolderLock

    out = tmp_path / "out"
    out.mkdir()
    lock = FolderLock(out, "embeds into")
    result = run("embed", finished[0], "--photos", photos, "--out", out)
    lock.release()
    assert result.exit_code == 1
    assert f"process {os.getpid()} embeds into" in result.output


def test_what_cannot_be_read_leaves_its_batch_with_the_reason():
    from ipad_train.embedding.decoding import PhotoBatches

    class One:
        def __len__(self):
            return 3

        def name(self, photo):
            return f"{photo}.png"

        def stored(self, photo):
            if photo == 1:
                return b"broken"
            stream = io.BytesIO()
            Image.new("RGB", (8, 8), (10 * photo, 0, 0)).save(stream, "png")
            return stream.getvalue()

    batch = PhotoBatches(One(), 4)[range(3)]
    assert batch.images.shape == (2, 3, 4, 4)
    assert batch.photos.tolist() == [0, 2]
    assert batch.images[1, 0].unique().tolist() == [20]
    assert [photo for photo, _ in batch.problems] == [1]
