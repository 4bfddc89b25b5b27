"""What the README promises, with real processes: photos in, embeddings, re-ranking and a report out."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from ipad_rerank import read_embeddings

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.multiprocess


@pytest.fixture(scope="session")
def embedded(trained, run_process):
    """``train.safetensors`` and ``test.safetensors`` in the workplace: what the trained model makes of its splits."""
    for split in ("train", "test"):
        run_process(["-m", "ipad_train", "embed", "runs/tiny", "--split", split, "--out", f"{split}.safetensors"])
    return trained.parents[1]


@pytest.fixture(scope="session")
def rerank_command(run_process):
    """``rerank_command(*arguments) -> output`` of the real ``ipad-rerank`` command."""
    start = "import sys; from ipad_rerank.cli import main; sys.argv[0] = 'ipad-rerank'; main()"
    return lambda *arguments: run_process(["-c", start, *arguments])


def test_evaluate_and_embed_see_the_same_entries(trained, embedded, run_process, rerank_command):
    output = run_process(["-m", "ipad_train", "evaluate", "runs/tiny"])
    assert "| fused" in output
    results = json.loads((trained / "evaluation-test.json").read_text(encoding="utf-8"))
    maps = {row["name"]: row["overall"] for row in results["rows"]}
    assert set(maps) >= {"random", "stage 0 alone", "IP-SP", "IP-SE", "fused"}
    found = json.loads(rerank_command("evaluate", "test.safetensors", "--json"))["none"]
    assert found["queries"] == results["queries"]
    assert 100 * found["map"] == pytest.approx(maps[results["delivered"]], abs=0.05)  # the same search, from a file


def test_embeddings_of_a_run_are_fitted_reranked_and_compared(embedded, rerank_command):
    query, gallery = (read_embeddings(embedded / "test.safetensors").role(name) for name in ("query", "gallery"))
    output = rerank_command(
        "fit", "train.safetensors", "--output", "reasoner", "--n-r", "20", "--steps", "20", "--keep-without-gain"
    )
    assert "Saved to reasoner" in output
    rerank_command(
        "rerank",
        "--query",
        "test.safetensors",
        "--gallery",
        "test.safetensors",
        "--reasoner",
        "reasoner",
        "--k",
        "9",
        "--output",
        "best.npz",
    )
    with np.load(embedded / "best.npz") as best:
        assert best["indices"].shape == (len(query), 9)
        found = best["indices"] >= 0
        met = read_embeddings(embedded / "test.safetensors")
        same_group = met.group_ids[best["indices"]] == query.group_ids[:, None]
        assert same_group[found].all()
        assert np.isin(best["ids"][found], gallery.ids).all()
    assert "gain " in rerank_command("evaluate", "test.safetensors", "--reasoner", "reasoner")
    table = rerank_command(
        "compare", "test.safetensors", "--train", "train.safetensors", "--n-r", "20", "--steps", "5"
    )
    for words in ("| none", "k_reciprocal", "feature reasoning", "expansion, then", "Oracle of the first", "Use: "):
        assert words in table


def test_the_report_is_one_page_without_anything_external(trained, run_process):
    run_process(["-m", "ipad_train", "report", "runs/tiny"])
    page = (trained / "report.html").read_text(encoding="utf-8")
    assert "IP-SP" in page
    assert not re.search(r'(src|href)="https?://', page)


def test_the_python_block_of_the_readme_runs(trained, monkeypatch):
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S).group(1)
    folder = trained.parents[1]
    monkeypatch.chdir(folder)
    (folder / "runs" / "photos").mkdir()
    (folder / "runs" / "photos" / "best").symlink_to(trained / "stages" / "stage2")  # two steps may not beat stage 0
    for number in (1, 2):
        shutil.copy(folder / "my-photos" / f"photo-{number}.jpg", folder / f"shirt-0{number}.jpg")
    names: dict = {}
    exec(block, names)
    embedding = names["output"].embedding
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(names["output"].attention.sum(dim=(1, 2)), torch.ones(2))
    both = names["model"].encode(names["kept"], attributes="all").embedding  # all attributes of an image in a row
    torch.testing.assert_close(both[[1, 3]], embedding, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("path", sorted(ROOT.glob("packages/*/README.md")), ids=lambda path: path.parent.name)
def test_every_package_has_a_readme_that_names_it(path):
    assert path.read_text(encoding="utf-8").startswith(f"# {path.parent.name}")


def test_commands_in_the_readme_exist(run_process):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = set(re.findall(r"-m ipad_train (\w+)(?= runs| quickstart|$)", text, re.M))
    known = run_process(["-m", "ipad_train", "--help"])
    assert commands
    assert all(command in known for command in commands)
