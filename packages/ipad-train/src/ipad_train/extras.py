"""Libraries of the extras of ipad-train, imported when they are needed."""

from __future__ import annotations

import importlib
from types import ModuleType


def require(module: str, extra: str) -> ModuleType:
    """A library of ``ipad-train[extra]``.

    Raises:
        ImportError: it is not installed; the message says what to install.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"this needs {module.partition('.')[0]}; run: pip install 'ipad-train[{extra}]'") from error
