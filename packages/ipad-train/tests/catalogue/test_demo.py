"""The demo: photos that are drawn once, a table that fits them, and a catalogue."""

from __future__ import annotations

import pytest

from ipad_train.catalogue import demo
from ipad_train.catalogue.catalogue import Catalogue
from ipad_train.catalogue.demo import make_demo


def test_demo_with_a_model_at_hand(run_dir, tmp_path):
    said = []
    where = make_demo(tmp_path / "demo", str(run_dir), said.append, count=6)
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "demo" / "photos").glob("*.jpg")}
    assert len(times) == 6
    assert any("6 embedded" in line for line in said)
    make_demo(tmp_path / "demo", str(run_dir), said.append, count=6)
    assert "6 unchanged" in said[-1]
    assert times == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "demo" / "photos").glob("*.jpg")}
    with Catalogue(where, "tests") as catalogue:
        assert catalogue.manifest.kinds == {"brand": "text", "price": "number", "season": "text"}


@pytest.mark.slow
def test_demo_trains_where_no_model_is_at_hand(monkeypatch, tmp_path):
    """From nothing to a catalogue whose photos have values; a second call trains and embeds nothing anew."""
    monkeypatch.chdir(tmp_path)
    few = {"num_train": 60, "num_validation": 60, "num_test": 40}
    steps = ("stage0.steps=2", "stage1.steps=2", "stage2.steps=0", "rerank.enabled=false")
    monkeypatch.setattr(demo, "_TRAINING", (f"data.options={few}".replace("'", ""), *steps, "data.num_workers=0"))
    said = []
    where = make_demo(tmp_path / "demo", None, said.append, count=6)
    assert any("training a small one" in line for line in said)
    assert any("6 embedded" in line for line in said)
    assert not any("learning once" in line for line in said)  # what the values look like came with the run
    with Catalogue(where, "tests") as catalogue:
        assert all(row["v0"] >= 0 for row in catalogue.engine.iterate(["v0"]))
    said.clear()
    make_demo(tmp_path / "demo", None, said.append, count=6)
    assert "6 unchanged" in said[-1]
