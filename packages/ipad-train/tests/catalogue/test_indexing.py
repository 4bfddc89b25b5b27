"""Indexing costs what changed, whatever that is."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from ipad_core import create_model
from ipad_train.catalogue.catalogue import Catalogue
from ipad_train.catalogue.engine import ABOUT, PHOTOS, Engine
from ipad_train.catalogue.errors import CatalogueError, PhotoError
from ipad_train.catalogue.fields import ID, VECTOR
from ipad_train.catalogue.index_options import IndexOptions
from ipad_train.catalogue.making import index_photos
from ipad_train.catalogue.model import CatalogueModel
from ipad_train.catalogue.naming import find_centers
from ipad_train.catalogue.photo_files import photo_id
from ipad_train.catalogue.searching import Searcher
from ipad_train.value_centers import FILE

QUIET = IndexOptions(progress=False)


@pytest.fixture
def index(own_catalogue, own_photos, run_dir, monkeypatch):
    """``index(options)`` brings the copied catalogue up to the copied photos; counts the photos that the model saw."""
    seen = []
    embed = CatalogueModel.embed
    monkeypatch.setattr(CatalogueModel, "embed", lambda self, images: seen.append(len(images)) or embed(self, images))

    def run(moved=True, **options):
        seen.clear()
        settings = IndexOptions(progress=False, moved=moved, **options)
        outcome = index_photos(own_photos, str(run_dir), str(own_catalogue), settings, lambda line: None)
        assert sum(seen) == outcome.embedded
        return outcome

    return run


def rows_of(where, names):
    with Catalogue(str(where), "tests") as catalogue:
        ids = [photo_id(name) for name in names]
        found = catalogue.engine.rows(ids, ["file", "hash", "n0", "s0", "v0", "extra", VECTOR])
        return [found.get(each) for each in ids]


def test_vectors_are_those_of_the_model(own_catalogue, photos, model):
    names = sorted(path.name for path in photos.glob("*.jpg"))[:5]
    stored = np.array([row[VECTOR] for row in rows_of(own_catalogue, names)], dtype=np.float32)
    images = np.stack([model.decode(photos / name) for name in names])
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    expected = model.network.encode(tensor, attributes="all").embedding.reshape(5, -1).numpy()
    np.testing.assert_allclose(stored, expected, atol=1e-5)


def test_a_folder_that_a_killed_process_left_is_no_hindrance(tmp_path):
    """The embedded engine makes a collection's folder first and its schema later."""
    engine = Engine(tmp_path / "vectors.db")
    for name in (ABOUT, PHOTOS):
        (tmp_path / "vectors.db" / "collections" / name / "data").mkdir(parents=True)
    assert not engine.load()
    engine.create(2, 4)
    assert engine.load()
    engine.close()


def test_nothing_changed_costs_nothing(index):
    outcome = index()
    assert (outcome.embedded, outcome.unchanged, outcome.deleted) == (0, 40, 0)


def test_new_changed_moved_and_deleted_photos(index, own_photos, own_catalogue):
    names = sorted(path.name for path in own_photos.glob("*.jpg"))
    (own_photos / names[0]).unlink()
    (own_photos / names[1]).write_bytes((own_photos / names[2]).read_bytes()[:-2] + b"\xff\xd9 ")
    (own_photos / "sub").mkdir()
    (own_photos / names[3]).rename(own_photos / "sub" / "renamed.jpg")
    Image.new("RGB", (40, 60), "green").save(own_photos / "new.png")
    os.utime(own_photos / names[4])  # another time, the same content
    before = rows_of(own_catalogue, [names[3]])[0]
    outcome = index()
    assert (outcome.embedded, outcome.moved, outcome.deleted, outcome.unchanged) == (2, 1, 2, 37)
    gone, new, renamed = rows_of(own_catalogue, [names[0], "new.png", "sub/renamed.jpg"])
    assert gone is None
    assert new["file"] == "new.png"
    np.testing.assert_array_equal(renamed[VECTOR], before[VECTOR])
    assert renamed["v0"] == before["v0"]
    assert index().unchanged == 40


def test_photos_that_exchange_their_contents(index, own_photos, own_catalogue, model):
    """Each row gets the vectors of what the file now holds, whichever is written first."""
    first, second = sorted(own_photos.glob("*.jpg"))[:2]
    contents = first.read_bytes(), second.read_bytes()
    first.write_bytes(contents[1])
    second.write_bytes(contents[0])
    index()
    stored = [row[VECTOR] for row in rows_of(own_catalogue, [first.name, second.name])]
    images = np.stack([model.decode(first), model.decode(second)])
    np.testing.assert_allclose(stored, model.embed(images).vectors.reshape(2, -1), atol=1e-5)


def test_content_under_the_same_size_and_time_is_found_by_verify(index, own_photos):
    path = sorted(own_photos.glob("*.jpg"))[5]
    facts, content = path.stat(), bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert index().embedded == 0
    assert index(verify=True).embedded == 1


def test_other_cells_of_the_table_are_written_without_the_model(index, own_photos, own_catalogue):
    rows = list(csv.reader((own_photos / "photos.csv").read_text(encoding="utf-8").splitlines()))
    rows[3][rows[0].index("price")] = "1234.5"
    with (own_photos / "photos.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([[*rows[0], "size"], *([*row, "XL"] for row in rows[1:])])
    outcome = index()
    assert (outcome.embedded, outcome.updated, outcome.unchanged) == (0, 40, 0)
    with Catalogue(str(own_catalogue), "tests") as catalogue:
        assert catalogue.engine.count("n0 == 1234.5") == 1
        assert catalogue.engine.count(f'{catalogue.manifest.fields["size"]} == "XL"') == 40


def test_unreadable_photos_stop_or_are_left_out_and_listed(index, own_photos):
    good = sorted(own_photos.glob("*.jpg"))[6]
    good.write_bytes(b"\xff\xd8 no jpeg")
    (own_photos / "empty.jpg").touch()
    (own_photos / "bomb.png").write_bytes(_png_head(60_000, 60_000))
    with pytest.raises(PhotoError, match="--on-error skip"):
        index()
    outcome = index(skip=True)
    assert outcome.embedded == 0
    assert sorted(line.split(":")[0] for line in outcome.unreadable) == ["bomb.png", "empty.jpg", good.name]
    assert "3 left out" in outcome.text()
    assert "178,000,000 pixels" in outcome.text()


def test_links_out_of_the_folder_and_hidden_files_are_left_out(index, own_photos, tmp_path):
    outside = tmp_path / "outside.jpg"
    Image.new("RGB", (8, 8)).save(outside)
    (own_photos / "link.jpg").symlink_to(outside)
    (own_photos / ".hidden.jpg").write_bytes(outside.read_bytes())
    outcome = index()
    assert outcome.unreadable == ["link.jpg: a link that leads out of the folder"]
    assert outcome.embedded == 0


def test_another_folder_is_refused_unless_it_was_moved(index):
    with pytest.raises(CatalogueError, match="--moved"):
        index(moved=False)


def test_no_photos(tmp_path, run_dir):
    (tmp_path / "empty").mkdir()
    for folder, message in ((tmp_path / "empty", "has no photo"), (tmp_path / "absent", "must be a folder")):
        with pytest.raises(CatalogueError, match=message):
            index_photos(folder, str(run_dir), str(tmp_path / "c"), QUIET, print)


def test_not_a_model(tmp_path, photos):
    with pytest.raises(FileNotFoundError, match="no model"):
        index_photos(photos, str(tmp_path), str(tmp_path / "c"), QUIET, print)
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,price\na.jpg,1\na.jpg,2\n", r"photos.csv:3: the photo 'a.jpg' has a row already"),
        ("title,price\nx,1\n", "no column of photo names"),
        ("file,text\na.jpg," + "x" * 5000 + "\n", "more than 4000 bytes"),
    ],
)
def test_tables_that_do_not_fit(index, own_photos, text, message):
    (own_photos / "photos.csv").write_text(text, encoding="utf-8")
    with pytest.raises(CatalogueError, match=message):
        index()


def test_a_number_column_that_turns_into_text(index, own_photos):
    (own_photos / "photos.csv").write_text("file,price\ngarment-00000.jpg,cheap\n", encoding="utf-8")
    with pytest.raises(CatalogueError, match=r"photos.csv:2: the column 'price' holds numbers, got 'cheap'"):
        index()


# -- models ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def twelve(tmp_path_factory, model):
    """A saved model of twelve attributes, random weights, no run."""
    torch.manual_seed(1)
    options = {**model.network.options, "num_attributes": 12, "semantic": False}
    network = create_model("ipad", **options)
    network.schema = {f"attribute {i}": ["a", "b", "c"] for i in range(12)}
    folder = tmp_path_factory.mktemp("twelve") / "model"
    network.save_pretrained(folder)
    return folder


def test_twelve_attributes_need_one_vector_field(twelve, photos, tmp_path):
    """Every attribute, and any mix of them, ranks as its own vectors do."""
    said = []
    outcome = index_photos(photos, str(twelve), str(tmp_path / "c"), QUIET, said.append)
    assert outcome.embedded == 40
    assert any("is no run" in line for line in said)
    with Catalogue(str(tmp_path / "c"), "tests") as catalogue:
        fields = catalogue.engine.client.describe_collection("ipad_photos")["fields"]
        assert sum("dim" in field.get("params", {}) for field in fields) == 1
        assert len(fields) <= 64
        ids = [photo_id(f"garment-{i:05d}.jpg") for i in range(40)]
        rows = catalogue.engine.rows(ids, [VECTOR])
        vectors = np.array([rows[each][VECTOR] for each in ids], dtype=np.float32).reshape(40, 12, -1)
        searcher = Searcher(catalogue)
        for weights in ({"attribute 11": 1.0}, {"attribute 0": 2.0, "attribute 7": 0.5}):
            share = np.array([weights.get(f"attribute {i}", 0) for i in range(12)]) / sum(weights.values())
            expected = np.einsum("a,ad,nad->n", share, vectors[3], vectors)
            found = searcher.search(vectors[3], weights, limit=40)
            assert [each.id for each in found] == [ids[i] for i in np.argsort(-expected, kind="stable")]
            np.testing.assert_allclose([each.similarity for each in found], np.sort(expected)[::-1], atol=1e-5)


def test_centers_that_cannot_be_kept_beside_the_model_are_used_all_the_same(run_dir, tmp_path):
    run = Path(shutil.copytree(run_dir, tmp_path / "run"))
    kept = run / "best" / FILE
    kept.unlink(missing_ok=True)
    kept.with_name(f".{FILE}.partial").mkdir()  # in the way of what would be written
    model = CatalogueModel.open(str(run))
    centers = find_centers(model, model.network.options["embed_dim"], lambda line: None)
    assert centers.centers.any()
    assert not kept.exists()


def test_another_model_is_refused_and_rebuild_takes_it(own_catalogue, photos, twelve, run_dir):
    with pytest.raises(CatalogueError, match=r"its attributes changed: it lacks sleeve_length.*it has attribute 0"):
        index_photos(photos, str(twelve), str(own_catalogue), QUIET, print)
    with pytest.raises(CatalogueError, match="same attributes and other weights"):
        _index_with_other_weights(own_catalogue, photos, run_dir)
    outcome = index_photos(
        photos, str(twelve), str(own_catalogue), IndexOptions(progress=False, rebuild=True), lambda line: None
    )
    assert outcome.embedded == 40


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "its manifest is damaged"), ('{"format": "ipad-catalogue", "version": 9}', "in version 9")],
)
def test_a_manifest_that_cannot_be_read_is_said_and_rebuild_makes_another(
    own_catalogue, photos, run_dir, text, message
):
    with Catalogue(str(own_catalogue), "tests") as catalogue:
        nothing = np.zeros(catalogue.manifest.dim, dtype=np.float32)
        catalogue.engine.write([{ID: "manifest:0", "text": text, VECTOR: nothing}], ABOUT)
    with pytest.raises(CatalogueError, match=f"{message}.*--rebuild"):
        index_photos(photos, str(run_dir), str(own_catalogue), QUIET, print)
    outcome = index_photos(
        photos, str(run_dir), str(own_catalogue), IndexOptions(progress=False, rebuild=True), lambda line: None
    )
    assert outcome.embedded == 40


def _index_with_other_weights(where, photos, run_dir):
    folder = where.parent / "other"
    network = CatalogueModel.open(str(run_dir)).network
    with torch.no_grad():
        next(iter(network.parameters())).add_(0.1)
    network.save_pretrained(folder)
    index_photos(photos, str(folder), str(where), QUIET, print)


def test_vectors_that_are_too_long_for_the_engine():
    from ipad_train.catalogue.engine import Engine

    with pytest.raises(CatalogueError, match="takes at most 32768"):
        Engine.create(SimpleNamespace(where="x"), 40, 1024)


def _png_head(width, height):
    import struct
    import zlib

    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 100)
    chunks = [
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in (head, data, b"IEND")
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
