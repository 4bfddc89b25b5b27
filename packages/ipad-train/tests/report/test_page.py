from __future__ import annotations

import base64
import io
import json
import re
import shutil
import sys

import pytest
from PIL import Image

from ipad_data import AttributeSchema
from ipad_rerank import AlphaQueryExpansion
from ipad_rerank.rerankers.feature_reasoning.density import Density, UnfamiliarDensityWarning
from ipad_train.checkpoint import write_json
from ipad_train.commands import evaluate_run
from ipad_train.config_files import load_config
from ipad_train.data import load_data
from ipad_train.report import write_report
from ipad_train.reranking import load_reranking

from .conftest import RENDERED, TINY, Page, make_run


def test_page_is_whole_and_balanced(page):
    assert page.open == []  # every element was closed, in order
    assert page.source.startswith("<!DOCTYPE html>")
    assert [found["id"] for found in page.find("section")] == [
        "map",
        "curves",
        "attention",
        "rankings",
        "failures",
        "configuration",
    ]
    links = [found["href"].lstrip("#") for found in page.find("a")]
    assert set(links) == {found["id"] for found in page.find("section")}


def test_page_refers_to_nothing_outside(page):
    written = re.sub(r"base64,[A-Za-z0-9+/=]+", "", page.source)
    assert "http" not in written
    assert "//" not in written
    for name, attributes in page.tags:
        assert name not in ("script", "link", "iframe", "object")
        for key in ("src", "href", "xlink:href", "srcset"):
            assert attributes.get(key, "#").startswith(("#", "data:image/jpeg;base64,"))
    assert len(re.findall(r"url\((?!#)", written)) == 0


def test_pictures_decode_and_are_described(page):
    pictures = page.find("img")
    assert len(pictures) > 60
    for picture in pictures:
        assert len(picture["alt"]) > 10
        with Image.open(io.BytesIO(base64.b64decode(picture["src"].partition(",")[2]))) as image:
            assert max(image.size) <= 192
    assert all(len(svg["aria-label"]) > 10 for svg in page.find("svg"))
    assert len(page.source) < 6_000_000


def test_table_holds_every_row_attribute_and_number(page, single):
    for row in single[1]["rows"]:
        assert f'<th scope="row">{row["name"]}</th>' in page.source
        for number in [*row["attributes"].values(), row["overall"], row["macro"]]:
            assert f"{number:.2f}" in page.text["map"]
    for attribute in single[1]["rows"][0]["attributes"]:
        assert f'<th scope="col">{attribute.replace("_", " ")}</th>' in page.source
        assert f"<h3>{attribute.replace('_', ' ')}</h3>" in page.source
    assert f"{single[1]['localization']['overall']:.1f}" in page.text["map"]


def test_frames_say_what_the_labels_say(page, single):
    config = load_config("tiny", RENDERED)
    split = load_data(config.data).splits["test"]
    schema = AttributeSchema.from_features(split.features)
    truth = {}
    for row in split.select_columns(["image_id", "attribute_ids", "value_ids"]).with_format(None):
        for attribute, value in zip(row["attribute_ids"], row["value_ids"], strict=True):
            name = schema.value_names[value].partition("/")[2].replace("_", " ")
            truth[row["image_id"], schema.attributes[attribute].replace("_", " ")] = name
    frames, query = [], None
    for tag, attributes in page.tags:
        if tag == "li" and attributes.get("class") in ("right", "wrong"):
            frames.append(attributes["class"])
        alt = attributes.get("alt", "")
        if asked := re.fullmatch(r"query image (\d+)(?:, \S+)?, (.*): (.*)", alt):
            query = asked.groups()
            assert truth[int(query[0]), query[1]] == query[2]
        if answer := re.fullmatch(r"place (\d+), (right|wrong): (.*), image (\d+)(?:, \S+)?", alt):
            _, verdict, value, image_id = answer.groups()
            assert truth[int(image_id), query[1]] == value
            assert verdict == frames[-1] == ("right" if value == query[2] else "wrong")
    assert set(frames) == {"right", "wrong"}
    assert re.search(r"li\.right img { border-color: var\(--right\)", page.source)


def test_the_legend_names_what_is_drawn_and_nothing_else(page):
    assert page.find("i", class_="crop")
    assert page.find("i", class_="true-box")


def test_the_map_has_an_interval_where_the_page_shows_its_split(page, single):
    overall = single[1]["rows"][-1]["overall"]
    (low, high) = map(
        float, re.search(r"95 % interval of that MAP\s*([0-9.]+) to ([0-9.]+) %", page.text["header"]).groups()
    )
    assert low < overall < high
    assert "of 2,000 draws of as many queries" in page.text["rankings"]


def test_a_re_ranker_that_left_everything_alone_is_said_to_and_shown_once(single, tmp_path):
    shutil.copytree(single[0], tmp_path / "run")
    reasoner = load_reranking(tmp_path / "run").reranker
    reasoner.density = Density((5000, 9000), 0.5, (0.0, 1.0))
    reasoner.save_pretrained(tmp_path / "run" / "reasoner")
    with pytest.warns(UnfamiliarDensityWarning):
        shown = Page(write_report(tmp_path / "run", announce=lambda line: None))
    assert "left every ranking of this split as it came" in shown.text["rankings"]
    assert "after re-ranking" not in shown.text["rankings"]


def test_another_re_ranker_than_feature_reasoning_is_named(single, tmp_path):
    shutil.copytree(single[0], tmp_path / "run")
    AlphaQueryExpansion(k=3).save_pretrained(tmp_path / "run" / "reasoner")
    outcome = {"used": True, "name": "re-ranking", "chosen": "QE (k=3)", "before": 20.0, "after": 21.0}
    write_json(tmp_path / "run" / "validation.json", {**single[1], "split": "validation", "rerank": outcome})
    evaluate_run(tmp_path / "run", "test", [], lambda line: None)
    shown = Page(write_report(tmp_path / "run", announce=lambda line: None))
    assert "Re-ranking by query expansion (k=3) takes the MAP" in shown.text["rankings"]
    assert "fused + re-ranking" in shown.text["map"]
    assert "a query expansion or both in turn" in shown.text["map"].replace("\n", " ")


def test_names_of_rows_are_explained(page):
    explained = page.text["map"].replace("\n", " ")
    assert "both branches together" in explained
    assert "re-ordered by Feature Reasoning" in explained
    assert "nothing trained" not in explained


def test_notes_and_configuration_are_escaped(page):
    assert "cluster loss starts &lt;here&gt;" in page.source
    assert "detail_size: 64" in page.text["configuration"]


def test_same_run_gives_the_same_page(page, single, tmp_path):
    again = write_report(single[0], out=tmp_path / "again" / "page.html", announce=lambda line: None)
    assert again == tmp_path / "again" / "page.html"
    assert again.read_text(encoding="utf-8") == page.source


def test_comparison_shows_all_methods_and_facts(comparison):
    folder, rows = comparison
    said = []
    shown = Page(write_report(folder, announce=said.append))
    assert (folder / "report.html").is_file()
    assert "report.html" in said[0]
    for row in rows:
        assert f'<th scope="row">{row["name"]}</th>' in shown.source
    for text in ("CPU, 2 threads", "7 min", "beta"):
        assert text in shown.text["header"]
    assert "csn_tiny" in shown.source
    assert "Stage-1 loss of all methods" in shown.text["curves"]


def test_network_without_attention(comparison):
    shown = Page(write_report(comparison[0] / "csn_tiny", announce=lambda line: None))
    assert "no attention maps" in shown.text["attention"]
    assert "has no re-ranking" in shown.text["rankings"]
    assert "after re-ranking" not in shown.source


def test_dataset_without_boxes_and_numbers_of_another_split(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    lines = ["image,color,shape"]
    for i in range(40):
        color = (250, 30, 30) if i % 2 else (30, 30, 250)
        Image.new("RGB", (40, 64), color).save(photos / f"{i}.png")
        lines.append(f"{i}.png,{'red' if i % 2 else 'blue'},{'tall' if i % 4 < 2 else 'wide'}")
    (photos / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    overrides = [f"data.dir={photos}", "data.detail_size=48", "data.num_workers=0"]
    options = {"semantic": False, "latent_dim": 16, **TINY}
    run, _ = make_run(
        tmp_path / "run", "ipad_tiny", options, overrides, reasoner=False, split="validation", base="photos"
    )
    shown = Page(write_report(run, announce=lambda line: None))
    assert "of the split validation, the pictures below of test" in shown.text["map"].replace("\n", " ")
    assert "the true box" not in shown.text["header"]
    assert "farthest from the true box" not in shown.text["failures"]
    assert len(shown.find("div", class_="maps")) == 8  # four of each attribute
    assert not shown.find("i", class_="crop")
    assert not shown.find("i", class_="true-box")
    # Files are named, relative to the folder of the photos.
    assert re.search(r"image \d+, \d+\.png", shown.text["attention"])
    names = re.findall(r"<li>(\d+\.png)</li>", shown.source)
    assert len(names) > 10
    assert all((photos / name).is_file() for name in names)


@pytest.fixture(scope="module")
def altered(single, tmp_path_factory):
    """The page of a run that delivers another stage, with a warning, times and the facts of its machine; no re-ranking."""
    run = tmp_path_factory.mktemp("altered") / "run"
    shutil.copytree(single[0], run)
    results = json.loads((run / "evaluation-test.json").read_text(encoding="utf-8"))
    results["final"] = "IP-SP"
    (run / "evaluation-test.json").write_text(json.dumps(results), encoding="utf-8")
    ended = {**results, "split": "validation", "warnings": ["stage1 ends BELOW <stage0>"]}
    ended["made_with"] = {"machine": "2 processes", "versions": "torch <9>"}
    ended["rerank"] = {"used": False, "before": 3.0, "after": 2.0}
    (run / "validation.json").write_text(json.dumps(ended), encoding="utf-8")
    shutil.rmtree(run / "reasoner")
    row = {"step": 8, "stage": "stage1", "steps": 8, "elapsed": 4.0, "seconds": {"data": 1.0, "forward": 2.0}}
    (run / "timings.jsonl").write_text(json.dumps({**row, "images_per_second": 32.0}) + "\n")
    return Page(write_report(run, announce=lambda line: None))


def test_a_delivered_stage_zero_and_its_warning_are_shown(altered):
    assert "stage1 ends BELOW &lt;stage0&gt;" in altered.source
    assert "MAP of IP-SP" in altered.text["header"]
    assert '<tr class="final"><th scope="row">IP-SP</th>' in altered.source
    assert "none that was tried raised the validation MAP" in altered.text["rankings"]


def test_a_re_ranking_that_is_not_used_is_not_in_the_name_above_the_table(single, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(single[0], run)
    results = json.loads((run / "evaluation-test.json").read_text(encoding="utf-8"))
    delivered = next(row for row in results["rows"] if row["name"] == results["delivered"])
    final = {**delivered, "name": f"{delivered['name']} + re-ranking (not used)"}
    results = {**results, "rows": [*results["rows"][:-1], final], "final": final["name"]}
    (run / "evaluation-test.json").write_text(json.dumps(results), encoding="utf-8")
    shown = Page(write_report(run, announce=lambda line: None))
    assert f"MAP of {delivered['name']}{delivered['overall']:.2f} %" in shown.text["header"]


def test_what_a_run_was_made_with_is_shown(altered):
    assert "2 processes" in altered.text["configuration"]
    assert "torch &lt;9&gt;" in altered.source


def test_time_by_part_is_a_table_of_the_stages(altered):
    assert "Where the time went" in altered.text["curves"]
    assert '<th scope="row">stage1</th><td>8</td><td>4.0 s</td><td>32</td>' in altered.source
    shares = re.findall(r'<td>([0-9.]+ s) <span class="soft">([0-9]+) %</span></td>', altered.source)
    assert shares == [("1.0 s", "25"), ("2.0 s", "50"), ("1.0 s", "25")]


def test_missing_folder():
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        write_report("nowhere")


def test_folder_without_run(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"neither a run .* nor a comparison"):
        write_report(tmp_path)


@pytest.mark.parametrize(
    ("missing", "message"), [("best", "holds no model yet"), ("evaluation-test.json", "has no results yet.*evaluate")]
)
def test_unfinished_run(single, tmp_path, missing, message):
    shutil.copytree(single[0], tmp_path / "run", ignore=shutil.ignore_patterns(missing))
    with pytest.raises(FileNotFoundError, match=message):
        write_report(tmp_path / "run")


@pytest.mark.parametrize("text", ["{", "[]", '{"rows": [], "split": "test"}', '{"split": "test"}'])
def test_damaged_results(single, tmp_path, text):
    shutil.copytree(single[0], tmp_path / "run")
    (tmp_path / "run" / "evaluation-test.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"evaluation-test\.json is not the JSON of an evaluation"):
        write_report(tmp_path / "run")


@pytest.mark.parametrize("split", ["train", "tests"])
def test_unknown_split(single, split):
    with pytest.raises(ValueError, match=f"split must be one of validation, test, got '{split}'"):
        write_report(single[0], split=split)


@pytest.mark.parametrize("module", ["jinja2", "matplotlib"])
def test_missing_extra_is_named(single, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"{module}.*ipad-train\[report\]"):
        write_report(single[0])
