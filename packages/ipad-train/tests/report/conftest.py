"""Runs to report on: real images, real evaluations, networks that never trained."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from torch import nn

from ipad_core import create_model
from ipad_rerank import FeatureReasoning
from ipad_train.checkpoint import write_json
from ipad_train.config_files import load_config, save_config
from ipad_train.data import load_data
from ipad_train.launch import make_accelerator
from ipad_train.run_context import RunContext
from ipad_train.run_results import evaluate_stages
from ipad_train.tracking import Tracker

TINY = {
    "image_size": 32,
    "embed_dim": 16,
    "trunk": {"options": {"channels": [8, 8, 16, 16], "stem_width": 8, "output_stride": 8}},
}
TINY_IPAD = TINY | {
    "latent_dim": 16,
    "crop_size": 32,
    "semantic_trunk": {"options": {"embed_dim": 16, "depth": 1, "num_heads": 2, "mlp_ratio": 2.0}},
}
RENDERED = [
    "data.options={num_train: 10, num_validation: 10, num_test: 60, size: 64}",
    "data.detail_size=64",
    "data.num_workers=0",
]
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """A parsed page: ``tags`` (name, attributes) in order, ``text`` by the id of the section that holds it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: dict[str, str] = {}
        self.open: list[str] = []
        self._section = "header"
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "section":
            self._section = dict(attrs)["id"]

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text[self._section] = " ".join((self.text.get(self._section, "") + data).split(" "))

    def find(self, tag: str, **attributes: str) -> list[dict[str, str]]:
        """Attributes of all elements of a name with these attributes."""
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}.items()
        return [found for name, found in self.tags if name == tag and wanted <= found.items()]


def make_run(
    folder: Path,
    name: str,
    options: dict,
    overrides: list[str],
    reasoner: bool,
    split: str = "test",
    base: str = "tiny",
):
    """A finished run of a network with random weights; returns its folder and what was measured."""
    lengths = [f"stage{number}.{key}" for number in range(3) for key in ("steps=3", "epochs=null")]
    config = load_config(base, [f"output_dir={folder}", f"model.name={name}", *lengths, *overrides])
    folder.mkdir(parents=True)
    save_config(config, folder / "config.yaml")
    data = load_data(config.data)
    torch.manual_seed(0)
    model = create_model(name, num_attributes=len(data.schema.attributes), **options).eval()
    model.save_pretrained(folder / "best")
    fitted = random_reasoner() if reasoner else None
    if fitted is not None:
        fitted.save_pretrained(folder / "reasoner")
    results = evaluate_stages(folder, RunContext(config, data, make_accelerator(config)), split)
    write_json(folder / ("validation.json" if split == "validation" else f"evaluation-{split}.json"), results)
    tracker = Tracker(folder)
    for stage, first in (("stage0", 0), ("stage1", 3), ("stage2", 6)):
        for step in range(first + 1, first + 4):
            losses = {"loss": 2.0 / step, "accuracy": 0.3} if stage == "stage0" else {"loss": 2.0 / step}
            if stage == "stage2":
                losses |= {"contrast": float("nan") if step == 8 else 1.0 / step}
            tracker.log(step, stage, losses)
        values = {f"validation/{attribute}": 20.0 + first for attribute in data.schema.attributes}
        tracker.log(first + 3, stage, {"validation/MAP": 25.0 + first, **values})
    tracker.event(8, "stage2", "cluster loss starts <here>")
    tracker.close()
    return folder, results


def random_reasoner() -> FeatureReasoning:
    """Re-ranks by chance, so that it helps some queries and hurts others."""
    reasoner = FeatureReasoning(n_r=12, step_size=50.0)
    torch.manual_seed(1)
    nn.init.normal_(reasoner.network.last.weight)
    return reasoner


@pytest.fixture(scope="session")
def single(tmp_path_factory):
    """A run of both branches with re-ranking, and its evaluation."""
    return make_run(tmp_path_factory.mktemp("report") / "both", "ipad_tiny", TINY_IPAD, RENDERED, reasoner=True)


@pytest.fixture(scope="session")
def comparison(single, tmp_path_factory):
    """A comparison of that run with CSN."""
    folder = tmp_path_factory.mktemp("report") / "methods"
    shutil.copytree(single[0], folder / "ipad_tiny")
    _, csn = make_run(folder / "csn_tiny", "csn_tiny", TINY, [*RENDERED, "rerank.enabled=false"], reasoner=False)
    rows = [single[1]["rows"][0], csn["rows"][1], *single[1]["rows"][1:]]
    facts = {"beta": 0.3, "seconds": 400, "seed": 7, "device": "CPU, 2 threads"}
    (folder / "comparison.json").write_text(json.dumps({**single[1], "rows": rows, **facts}), encoding="utf-8")
    return folder, rows


@pytest.fixture(scope="session")
def page(single):
    """The parsed page of the single run."""
    from ipad_train.report import write_report

    return Page(write_report(single[0], announce=lambda line: None))
