"""A trained model as a catalogue asks it: every attribute of a photo at once, the trunk run once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ipad_core import AttributeEmbedder
from ipad_core.layers import attention_boxes
from ipad_core.models.saved_model import CONFIG, WEIGHTS, find_folder
from ipad_data.transforms.decode import decode_image
from ipad_train.catalogue.errors import CatalogueError
from ipad_train.config import RunConfig
from ipad_train.config_files import load_run_config


@dataclass(frozen=True)
class Embedded:
    """Photos as the model sees them.

    ``vectors (N, A, D)`` float32, unit length for every attribute; ``boxes (N, A, 4)`` x0, y0, x1, y1 of where it looked, in
    [0, 1] of the photo, or None for a network without attention.
    """

    vectors: np.ndarray
    boxes: np.ndarray | None


class CatalogueModel:
    """A model, the names of its attributes and values, and how its photos are decoded.

    Attributes:
        source: What the user named: a run, a folder or a hub repository.
        folder: Where the model lies on this machine.
        run: Configuration of the run, where ``source`` is one.
        detail_size: Side in pixels of the squares that photos are decoded to; a run's own, as in its evaluation.
        values: Attribute name -> names of its values, in the order of their ids; no values where the model has no words.
        fingerprint: Equal for equal weights and options.
    """

    def __init__(self, source: str, folder: Path, network: AttributeEmbedder, run: RunConfig | None = None) -> None:
        self.source, self.folder, self.network, self.run = source, folder, network, run
        self.detail_size = network.detail_size if run is None else run.data.detail_size
        count = network.options["num_attributes"]
        self.values: Mapping[str, list[str]] = network.schema or {f"attribute_{i}": [] for i in range(count)}
        self.fingerprint = _fingerprint(folder)

    @classmethod
    def open(cls, source: str) -> CatalogueModel:
        """Read a run's best model, a folder of ``save_pretrained``, or a repository of the Hugging Face hub.

        Raises:
            FileNotFoundError: none of the three.
            ValueError: files that do not describe a model.
        """
        path = Path(source).expanduser()
        is_run = (path / "config.yaml").is_file()
        if is_run and not (path / "best" / CONFIG).is_file():
            raise FileNotFoundError(f"--model {source}: this run has no model yet, {path / 'best'} is missing")
        if not is_run and path.is_dir() and not (path / CONFIG).is_file():
            raise FileNotFoundError(
                f"--model {source}: no model. Give a run's folder (it has a config.yaml), a folder of save_pretrained (it "
                "has a config.json), or a repository owner/name of the Hugging Face hub"
            )
        try:
            folder = find_folder(path / "best" if is_run else source)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"--model {source}: {error}") from None
        device = "cuda" if torch.cuda.is_available() else "cpu"
        network = AttributeEmbedder.from_pretrained(folder, device=device)
        known = str(path.resolve()) if path.is_dir() else source
        return cls(known, folder, network, load_run_config(path) if is_run else None)

    @property
    def attributes(self) -> tuple[str, ...]:
        """Names in the order of the attribute ids."""
        return tuple(self.values)

    def decode(self, source: str | Path | bytes, name: str | None = None) -> np.ndarray:
        """``(S, S, 3)`` uint8 of a photo, as in training and evaluation.

        Raises:
            ImageDecodeError: no image, or a damaged one.
        """
        return decode_image(source, self.detail_size, name=name)

    def embed(self, images: np.ndarray) -> Embedded:
        """Embed ``(N, S, S, 3)`` uint8 photos for every attribute."""
        tensors = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
        output = self.network.encode(tensors, attributes="all", batch_size=len(tensors))
        count = len(self.values)
        vectors = F.normalize(output.embedding.float(), dim=1).cpu().numpy().reshape(len(images), count, -1)
        boxes = output.boxes
        if boxes is None and output.attention is not None:
            boxes = attention_boxes(output.attention, threshold=0.3)
        if boxes is None:
            return Embedded(vectors, None)
        return Embedded(vectors, boxes.float().cpu().numpy().reshape(len(images), count, 4))

    def attention(self, image: np.ndarray, attribute: str) -> np.ndarray | None:
        """``(h, w)`` in [0, 1]: where the model looks in a ``(S, S, 3)`` photo for an attribute; None without attention."""
        tensor = torch.from_numpy(image).permute(2, 0, 1)[None].contiguous()
        two = all(getattr(self.network, branch, None) is not None for branch in ("spatial", "semantic"))
        options = {"branches": "spatial"} if two else {}  # the second branch reads the crop that the first one found
        attention = self.network.encode(tensor, attribute=self.attributes.index(attribute), **options).attention
        if attention is None:
            return None
        heat = attention[0].float().cpu().numpy()
        return heat / max(float(heat.max()), 1e-12)


def check_same_model(model: CatalogueModel, made_by: Mapping[str, object], where: str) -> None:
    """Raise a CatalogueError unless a catalogue was made by this model.

    Args:
        made_by: ``model`` of the catalogue's manifest.
        where: The catalogue, for the message.
    """
    if model.fingerprint == made_by["fingerprint"]:
        return
    theirs, mine = list(made_by["values"]), list(model.attributes)
    gone, new = [name for name in theirs if name not in mine], [name for name in mine if name not in theirs]
    if gone or new:
        parts = [f"it lacks {', '.join(gone)}"] * bool(gone) + [f"it has {', '.join(new)} besides"] * bool(new)
        difference = "its attributes changed: " + " and ".join(parts)
    elif theirs != mine:
        difference = f"its attributes come in another order: {', '.join(mine)}"
    else:
        difference = (
            "it has the same attributes and other weights, so its vectors cannot be compared with those stored"
        )
    raise CatalogueError(
        f"{where} was made by another model ({made_by['source']}), and {model.source} does not fit: {difference}. Give "
        "the model that made it, another --catalogue, or --rebuild to embed all photos anew"
    )


def _fingerprint(folder: Path) -> str:
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([config["architecture"], config["options"], config.get("schema")]).encode())
    with (folder / WEIGHTS).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
