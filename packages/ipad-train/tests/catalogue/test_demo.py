"""The demo: photos that are drawn once, a table that fits them, and a catalogue."""

from __future__ import annotations

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
