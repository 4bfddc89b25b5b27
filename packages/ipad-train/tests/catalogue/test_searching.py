"""What a search answers: the order of exact search and of evaluation, filters, re-ranking, and the command line."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from ipad_rerank import AlphaQueryExpansion, KReciprocal, average_precision, rank
from ipad_train.catalogue.catalogue import Catalogue
from ipad_train.catalogue.conditions import facet_condition, read_filter
from ipad_train.catalogue.errors import CatalogueError
from ipad_train.catalogue.fields import VECTOR
from ipad_train.catalogue.index_options import IndexOptions
from ipad_train.catalogue.making import index_photos
from ipad_train.catalogue.photo_files import photo_id
from ipad_train.catalogue.searching import Searcher
from ipad_train.catalogue.snapshot import Snapshot
from ipad_train.cli import main

FILTERS = [
    "price < 50",
    "price >= 40 and brand == 'Alder'",
    "brand in ['Cedar', 'Rowan'] or season != 'winter'",
    "not (price < 50 or brand == 'Birch')",
    "sleeve_length == 'long'",
    "sleeve_length not in ['long', 'short'] and price > 20",
    "collar_design.confidence > 0.3",
    "file == 'garment-00003.jpg'",
    "brand == 'it''s'",
    r"brand == 'a\'b\"c\\d'",
    "season == 'no such'",
    "not collar_design == 'shirt'",
    "price < -1e9",
    "price > 1.5e1",
]


def stored_vectors(searcher, ids):
    rows = searcher.catalogue.engine.rows(ids, [VECTOR])
    return np.array([rows[each][VECTOR] for each in ids], dtype=np.float32).reshape(
        len(ids), len(searcher.manifest.attributes), -1
    )


def test_recall_against_exact_search(opened):
    """Ten nearest of every photo, for every attribute: 0.99 of them and more are those of ipad-rerank's ``rank``."""
    ids = [photo_id(f"garment-{i:05d}.jpg") for i in range(40)]
    vectors = stored_vectors(opened, ids)
    hit = 0
    for number, attribute in enumerate(opened.manifest.attributes):
        exact = rank(vectors[:, number], vectors[:, number], k=10).indices
        for query in range(0, 40, 4):
            found = opened.search(vectors[query], {attribute: 1.0}, limit=10)
            hit += len({each.id for each in found} & {ids[i] for i in exact[query]})
    assert hit / (len(opened.manifest.attributes) * 10 * 10) >= 0.99


def test_ranking_is_that_of_evaluation(finished, tmp_path_factory, tmp_path):
    """The images of a split as a catalogue: the AP of every query through the engine is that of evaluation."""
    from accelerate import Accelerator

    from ipad_data.transforms.decode import open_image
    from ipad_train.catalogue.model import CatalogueModel
    from ipad_train.config_files import load_run_config
    from ipad_train.data import load_data
    from ipad_train.embed import embed_split

    run, _ = finished
    model = CatalogueModel.open(str(run))
    data = load_data(load_run_config(run).data)
    embedded = embed_split(model.network, data.splits["test"], model.run.data, Accelerator())
    folder = tmp_path / "split"
    folder.mkdir()
    for row in data.splits["test"].with_format(None):
        stored = row["image"]
        path = folder / f"{row['image_id']}.jpg"
        if stored["bytes"] is not None:
            path.write_bytes(stored["bytes"])
        else:
            open_image(stored["path"]).save(path, quality=95)
    index_photos(folder, str(run), str(tmp_path / "c"), IndexOptions(progress=False), lambda line: None)
    query, gallery = embedded.with_role("query"), embedded.with_role("gallery")
    expected, actual = [], []
    with Catalogue(str(tmp_path / "c"), "tests") as catalogue:
        searcher = Searcher(catalogue)
        for number, attribute in enumerate(model.attributes):
            mine, theirs = query.select(query.attribute_ids == number), gallery.select(gallery.attribute_ids == number)
            if not len(mine.value_ids) or not len(theirs.value_ids):
                continue
            expected.append(average_precision(rank(mine.fused, theirs.fused), mine.value_ids, theirs.value_ids))
            places = {photo_id(f"{image}.jpg"): place for place, image in enumerate(theirs.image_ids.tolist())}
            for image, value in zip(mine.image_ids.tolist(), mine.value_ids, strict=True):
                found = searcher.search(searcher.vectors_of(photo_id(f"{image}.jpg")), {attribute: 1.0}, limit=1000)
                order = [places[each.id] for each in found if each.id in places]
                relevant = theirs.value_ids[order] == value
                precision = np.cumsum(relevant) / np.arange(1, len(order) + 1)
                actual.append((precision * relevant).sum() / max(1, relevant.sum()))
    assert 100 * np.mean(actual) == pytest.approx(100 * np.concatenate(expected).mean(), abs=0.1)


@pytest.mark.parametrize("text", FILTERS)
def test_engine_and_snapshot_read_a_filter_alike(opened, text):
    snapshot = Snapshot(opened.catalogue.engine, opened.manifest)
    try:
        condition = read_filter(text, opened.catalogue.columns)
    except CatalogueError:
        assert "''" in text  # SQL's doubled quotes are no quotes here
        return
    expected = {each for each, passes in zip(snapshot.ids, snapshot.mask(condition), strict=True) if passes}
    found = opened.search(opened.vectors_of(snapshot.ids[0]), {"sleeve_length": 1}, condition, limit=100)
    assert {each.id for each in found} == expected
    assert opened.catalogue.engine.count(condition.expression()) == len(expected)


def test_texts_of_the_table_are_found_whatever_they_hold(own_photos, run_dir, own_catalogue):
    texts = [
        "it's",
        'say "hi"',
        "back\\slash",
        "50 % _off_",
        "日本語 é",
        "' or 1 == 1 or s0 == '",
        "tab\there",
        '\\" or ""=="',
    ]
    lines = [{"file": f"garment-{i:05d}.jpg", "note": text} for i, text in enumerate(texts)]
    (own_photos / "photos.csv").unlink()
    (own_photos / "notes.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    index_photos(
        own_photos, str(run_dir), str(own_catalogue), IndexOptions(progress=False, moved=True), lambda line: None
    )
    with Catalogue(str(own_catalogue), "tests") as catalogue:
        for place, text in enumerate(texts):
            if "\t" in text:
                continue
            quoted = "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
            condition = read_filter(f"note == {quoted}", catalogue.columns)
            rows = catalogue.engine.search(np.ones(_width(catalogue)), 50, condition.expression(), ["file"])
            assert [row["file"] for _, row in rows] == [f"garment-{place:05d}.jpg"], text


def _width(catalogue):
    return catalogue.manifest.dim * len(catalogue.manifest.attributes)


def test_facets(opened):
    snapshot = Snapshot(opened.catalogue.engine, opened.manifest)
    condition = facet_condition({"sleeve_length": ["long", "short"]}, opened.catalogue.columns)
    mask = snapshot.mask(condition)
    counts = snapshot.counts(np.ones(len(snapshot), dtype=bool), 0)
    assert mask.sum() == counts["long"] + counts["short"]
    assert sum(counts.values()) == 40
    with pytest.raises(CatalogueError, match="facets are attributes"):
        facet_condition({"price": ["3"]}, opened.catalogue.columns)


def test_query_within_the_catalogue_is_left_out(opened):
    photo = photo_id("garment-00003.jpg")
    weights = dict.fromkeys(opened.manifest.attributes, 1.0)
    vectors = opened.vectors_of(photo)
    assert opened.search(vectors, weights)[0].id == photo
    found = opened.search(vectors, weights, limit=5, leave_out=photo)
    assert len(found) == 5
    assert photo not in {each.id for each in found}
    assert [each.rank_before for each in found] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("weights", [{"sleeve_length": 1.0}, {"sleeve_length": 1.0, "collar_design": 0.3}])
def test_reranking_is_that_of_ipad_rerank_on_the_weighted_vectors(opened, weights):
    """A re-ranker sees vectors whose cosine similarity is the weighted mean, and its answer is what comes out."""
    ids = [photo_id(f"garment-{i:05d}.jpg") for i in range(40)]
    vectors, query = stored_vectors(opened, ids), 7
    roots = np.sqrt(np.array([weights.get(name, 0) for name in opened.manifest.attributes]) / sum(weights.values()))
    joined = (vectors * roots[:, None]).reshape(40, -1)
    found = opened.search(vectors[query], weights, limit=40, reranker=KReciprocal())
    candidates = joined[[ids.index(each.id) for each in sorted(found, key=lambda each: each.rank_before)]]
    expected = KReciprocal().rerank_candidates(joined[query][None], candidates[None])
    before = sorted(found, key=lambda each: each.rank_before)
    assert [each.id for each in found] == [before[i].id for i in expected.indices[0]]
    expanded = opened.search(vectors[query], weights, limit=10, reranker=AlphaQueryExpansion())
    assert len(expanded) == 10


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "at least one attribute needs a weight above 0"),
        ({"sleeve_length": 0.0}, "at least one attribute"),
        ({"sleeve_lenght": 1.0}, "did you mean one of: sleeve_length"),
        ({"sleeve_length": -1.0}, "0 or more"),
        ({"sleeve_length": float("nan")}, "0 or more"),
        ({"sleeve_length": True}, "0 or more"),
    ],
)
def test_weights_out_of_range(opened, weights, message):
    with pytest.raises(CatalogueError, match=message):
        opened.search(np.zeros((6, 4)), weights)


def test_command_line(own_catalogue, photos, tmp_path):
    outside = tmp_path / "mine.jpg"
    shutil.copy(photos / "garment-00005.jpg", outside)
    asked = [
        "search",
        str(outside),
        "--catalogue",
        str(own_catalogue),
        "--attribute",
        "collar_design",
        "--attribute",
        "sleeve_length:0.5",
        "--where",
        "price < 60",
        "--limit",
        "6",
    ]

    def run(*options):
        result = CliRunner().invoke(main, [*asked, *options])
        assert result.exit_code == 0, result.output
        return result.output

    table = run("--sheet", str(tmp_path / "sheet.jpg"))
    assert table.splitlines()[0].split()[:3] == ["similarity", "collar_design", "sleeve_length"]
    with Image.open(tmp_path / "sheet.jpg") as sheet:
        assert sheet.size == (1000, 2 * 234)
    hits = json.loads(run("--json"))
    assert len(hits) == 6
    assert all(hit["columns"]["price"] < 60 for hit in hits)
    assert [hit["similarity"] for hit in hits] == sorted((hit["similarity"] for hit in hits), reverse=True)
    assert "before" in run("--rerank", "k_reciprocal")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["absent.jpg"], "PHOTO must be a file, or an id or name"),
        (["garment-00001.jpg", "--attribute", "colar_design"], "did you mean one of: collar_design"),
        (["garment-00001.jpg", "--attribute", "collar_design:0"], "at least one attribute"),
        (["garment-00001.jpg", "--attribute", "collar_design:x"], "NAME:WEIGHT"),
        (["garment-00001.jpg", "--where", "price <"], "ends too early"),
        (["garment-00001.jpg", "--rerank"], "kept no re-ranker of its own"),
        (["garment-00001.jpg", "--rerank", "k_reciprocl"], "did you mean one of: k_reciprocal"),
        (["garment-00001.jpg", "--limit", "0"], r"limit must be within \[1, 1000\]"),
    ],
)
def test_mistakes_on_the_command_line(own_catalogue, options, message):
    result = CliRunner().invoke(main, ["search", *options, "--catalogue", str(own_catalogue)])
    assert result.exit_code == 1
    import re

    assert re.search(message, result.output), result.output
    assert "Traceback" not in result.output


def test_no_catalogue(tmp_path):
    result = CliRunner().invoke(main, ["search", "x.jpg", "--catalogue", str(tmp_path)])
    assert "is no catalogue" in result.output


def test_pages_of_photos_join_to_all(opened, monkeypatch):
    """Whatever the size of a page, every photo comes once, in the order of the ids."""
    from ipad_train.catalogue import engine

    expected = sorted(photo_id(f"garment-{i:05d}.jpg") for i in range(40))
    for page in (3, 11, 1000):
        monkeypatch.setattr(engine, "_EMBEDDED_PAGE", page)
        assert [row["id"] for row in opened.catalogue.engine.iterate(["file"])] == expected
