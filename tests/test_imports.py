"""Who may import whom: only ipad-train imports its siblings, and each package imports what it declares."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = sorted(path.name for path in (ROOT / "packages").iterdir() if path.is_dir())
SIBLINGS = {name.replace("-", "_") for name in PACKAGES}
MODULES = {"Pillow": "PIL", "PyYAML": "yaml", "faiss-cpu": "faiss", "milvus-lite": "milvus_lite", "Jinja2": "jinja2"}


def imported(package: str) -> dict[str, list[str]]:
    """Top-level module -> files of the package that import it."""
    found: dict[str, list[str]] = {}
    for file in sorted((ROOT / "packages" / package / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            for name in names:
                found.setdefault(name.split(".")[0], []).append(f"{file.name}:{node.lineno}")
    return found


def declared(package: str) -> set[str]:
    project = tomllib.loads((ROOT / "packages" / package / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    everything = [*project["dependencies"], *chain(*project.get("optional-dependencies", {}).values())]
    names = {re.match(r"[A-Za-z0-9_.-]+", requirement).group() for requirement in everything}
    return {MODULES.get(name, name.replace("-", "_")) for name in names}


@pytest.mark.parametrize("package", PACKAGES)
def test_only_ipad_train_imports_its_siblings(package):
    allowed = SIBLINGS if package == "ipad-train" else {package.replace("-", "_")}
    assert set(imported(package)) & SIBLINGS <= allowed


@pytest.mark.parametrize("package", PACKAGES)
def test_every_import_is_declared(package):
    known = declared(package) | set(sys.stdlib_module_names) | {package.replace("-", "_")}
    unknown = {name: files for name, files in imported(package).items() if name not in known}
    assert not unknown


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_is_unpickled(package):
    for file in sorted((ROOT / "packages" / package / "src").rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"^\s*(import pickle|from pickle|import dill|import cloudpickle)", text, re.M), file
        assert "allow_pickle=True" not in text, file
        for call in re.findall(r"torch\.load\([^)]*\)", text):
            assert "weights_only=True" in call, (file, call)
