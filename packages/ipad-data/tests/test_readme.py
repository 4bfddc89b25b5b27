"""The README's first lines and its example of a table run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from ipad_data import load

README = Path(__file__).parents[1] / "README.md"
pytestmark = pytest.mark.skipif(not README.is_file(), reason="the README is not beside the tests")


def test_the_first_block_runs():
    block = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S).group(1)
    names: dict = {}
    exec(block.replace("num_images=500", "num_images=100"), names)
    assert names["images"].shape == (32, 3, 128, 128)
    assert names["images"].dtype == torch.float32


@pytest.mark.filterwarnings("ignore:values of a single image")
def test_the_table_of_the_readme_loads(tmp_path):
    table = re.search(r"^  file_name.*?(?=^```)", README.read_text(encoding="utf-8"), re.S | re.M).group(0)
    lines = [line.strip() for line in table.strip().splitlines()]
    (tmp_path / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    for line in lines[1:]:
        Image.new("RGB", (8, 8)).save(tmp_path / line.split(",")[0])
    assert load("table", tmp_path)["train"].num_rows == len(lines) - 1
