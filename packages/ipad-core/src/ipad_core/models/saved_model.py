"""The folder of a saved model: ``config.json``, ``model.safetensors`` and a README; local, or from the Hugging Face hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"


def find_folder(source: str | Path, revision: str | None = None, token: str | None = None) -> Path:
    """The folder, or the local copy of a hub repository ``owner/name`` at a revision.

    Raises:
        FileNotFoundError: neither, or it lacks one of the two files.
    """
    folder = Path(source)
    if not folder.is_dir() and folder.parts and len(folder.parts) == 2 and not folder.is_absolute():
        try:
            folder = Path(
                snapshot_download(str(source), revision=revision, token=token, allow_patterns=[CONFIG, WEIGHTS])
            )
        except (OSError, ValueError) as error:
            raise FileNotFoundError(
                f"{source} is no folder, and could not be read as a repository of the Hugging Face hub: {error}"
            ) from error
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder} is no saved model: it has no {name}")
    return folder


def read_config(folder: Path) -> dict[str, Any]:
    """``architecture``, ``options``; ``weights``, ``schema``, ``about``, ``values``, empty or None where they are not there.

    Raises:
        ValueError: the file does not describe a model.
    """
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        name, options = config["architecture"], dict(config["options"])
        weights = {part: dict(record) for part, record in config.get("weights", {}).items()}
        schema, about = config.get("schema"), dict(config.get("about", {}))
        values = None if config.get("values") is None else dict(config["values"])
        if not isinstance(name, str):
            raise TypeError(f"architecture is {name!r}")
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} does not describe a model: {error!r}") from None
    facts = {"weights": weights, "schema": schema, "about": about, "values": values}
    return {"architecture": name, "options": options, **facts}
