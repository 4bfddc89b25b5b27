"""The libraries of the extra ``ipad-train[report]``, imported when a report is written."""

from __future__ import annotations

import importlib
from types import ModuleType


def require(module: str) -> ModuleType:
    """A library of the extra, or an error that says what to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"a report needs {module.partition('.')[0]}; run: pip install 'ipad-train[report]'"
        ) from error
