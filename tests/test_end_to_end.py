"""What the README promises, with real processes: photos in, embeddings, re-ranking and a report out."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.multiprocess


def test_evaluate_embed_and_rerank_follow_each_other(trained, run_process):
    output = run_process(["-m", "ipad_train", "evaluate", "runs/tiny"])
    assert "| fused" in output
    rows = json.loads((trained / "evaluation-test.json").read_text(encoding="utf-8"))["rows"]
    assert {row["name"] for row in rows} >= {"random", "IP-SP", "IP-SE", "fused"}
    run_process(["-m", "ipad_train", "embed", "runs/tiny", "--split", "train", "--out", "train.safetensors"])
    run_process(["-m", "ipad_rerank.cli", "--help"])
    assert (trained.parents[1] / "train.safetensors").is_file()


def test_the_report_is_one_page_without_anything_external(trained, run_process):
    run_process(["-m", "ipad_train", "report", "runs/tiny"])
    page = (trained / "report.html").read_text(encoding="utf-8")
    assert "IP-SP" in page
    assert not re.search(r'(src|href)="https?://', page)


def test_the_python_block_of_the_readme_runs(trained, monkeypatch):
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S).group(1)
    monkeypatch.chdir(trained.parents[1])
    names = {
        "images": torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8), "attribute_ids": torch.tensor([0, 1, 0]),
    }  # fmt: skip
    exec(block, names)
    embedding = names["output"].embedding
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(names["output"].attention.sum(dim=(1, 2)), torch.ones(3))


@pytest.mark.parametrize("path", sorted(ROOT.glob("packages/*/README.md")), ids=lambda path: path.parent.name)
def test_every_package_has_a_readme_that_names_it(path):
    assert path.read_text(encoding="utf-8").startswith(f"# {path.parent.name}")


def test_commands_in_the_readme_exist(run_process):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = set(re.findall(r"-m ipad_train (\w+)(?= runs| quickstart|$)", text, re.M))
    known = run_process(["-m", "ipad_train", "--help"])
    assert commands
    assert all(command in known for command in commands)
