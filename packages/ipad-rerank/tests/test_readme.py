"""The README's first lines run as they stand, and find a gain."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_first_python_block_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    block = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S).group(1)
    exec(compile(block, str(README), "exec"), {})
    before, after = map(float, capsys.readouterr().out.split())
    assert after > before
    assert (tmp_path / "reasoner" / "config.json").is_file()
