"""The value that a photo shows, with a confidence: the nearest center of an attribute's values. Kept beside a model.

Why not the probabilities that a model may have of itself (`ipad_core.ValuePosteriors`): they are part of the embeddings,
so the nearest center follows them; not every model has them; where training lacked a value they do not say which values
they are of; and they are too sure of themselves to be shown. On 1,662 validation labels of Clothing Co-Parsing they name
72.8 % right and centers 71.9 % (the difference is 0.9 with a standard error of 0.6), but they claim 84.5 % where centers
claim 71.7 %, and their log loss is 1.37 where that of centers is 0.76.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
from accelerate import Accelerator
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ipad_core import AttributeEmbedder
from ipad_data import EntryTable
from ipad_train.config import DataConfig
from ipad_train.embed import EntryEmbeddings, embed_split

FILE = "value_centers.safetensors"
PER_VALUE, MAX_IMAGES = 24, 1500  # of the training images that centers are made from
TEMPERATURES = np.geomspace(0.01, 1.0, 25)


@dataclass(frozen=True)
class ValueCenters:
    """Mean direction of every value, and how sharply similarity to it decides.

    Args:
        centers: ``(V, D)`` float32 of unit length, the values of attribute 0 first; zeros where a value was never seen.
        num_values: Values of each attribute.
        temperatures: ``(A,)`` float32 cosine units: confidences are the softmax of similarity / temperature.
    """

    centers: np.ndarray
    num_values: tuple[int, ...]
    temperatures: np.ndarray

    def predict(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Local value ids ``(N, A)`` int64, -1 where no value is known, and confidences ``(N, A)`` in [0, 1].

        Args:
            vectors: ``(N, A, D)`` unit length.
        """
        values = np.full(vectors.shape[:2], -1, dtype=np.int64)
        confidence = np.zeros(vectors.shape[:2], dtype=np.float32)
        start = 0
        for attribute, count in enumerate(self.num_values):
            centers = self.centers[start : start + count]
            start += count
            if not centers.any():
                continue
            chances = value_chances(vectors[:, attribute], centers, float(self.temperatures[attribute]))
            values[:, attribute], confidence[:, attribute] = chances.argmax(axis=1), chances.max(axis=1)
        return values, confidence

    @classmethod
    def unknown(cls, num_values: tuple[int, ...], dim: int) -> ValueCenters:
        """For a model of which no labelled images are at hand: it predicts nothing."""
        return cls(np.zeros((sum(num_values), dim), np.float32), num_values, np.ones(len(num_values), np.float32))

    def save(self, folder: Path) -> None:
        """Write them into a model's folder, whole or not at all."""
        beside = folder / f".{FILE}.partial"
        save_file({"centers": self.centers, "temperatures": self.temperatures}, beside)
        beside.replace(folder / FILE)

    @classmethod
    def read(cls, folder: Path, num_values: tuple[int, ...]) -> ValueCenters | None:
        """Those in a model's folder; None where there are none.

        Raises:
            ValueError: a damaged file, or one of a model with other values.
        """
        path = folder / FILE
        if not path.is_file():
            return None
        try:
            with safe_open(path, "numpy") as file:
                centers, temperatures = file.get_tensor("centers"), file.get_tensor("temperatures")
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged: {error}. Delete it, and it is made anew") from None
        if centers.shape[:1] != (sum(num_values),) or temperatures.shape != (len(num_values),):
            raise ValueError(
                f"{path} has centers {centers.shape} and temperatures {temperatures.shape}, and the model beside it has "
                f"{sum(num_values)} values of {len(num_values)} attributes. Delete it, and it is made anew"
            )
        return cls(centers, num_values, temperatures)


def value_chances(vectors: np.ndarray, centers: np.ndarray, temperature: float) -> np.ndarray:
    """``(N, v)`` softmax over the values of one attribute; 0 for values whose center is zero, as they were never seen."""
    logits = vectors @ centers.T / temperature
    logits[:, ~centers.any(axis=1)] = -np.inf
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


def embed_for_centers(
    model: AttributeEmbedder,
    dataset: datasets.Dataset,
    config: DataConfig,
    accelerator: Accelerator,
    role: str = "train",
) -> EntryEmbeddings:
    """The entries of some images of a split, chosen so that every value has ``PER_VALUE`` of them or all that there are."""
    rows = rows_for_centers(EntryTable.from_dataset(dataset, role))
    return embed_split(
        model, dataset.select(rows), config, accelerator, roles=(role,), description=f"what values look like, {role}"
    )


def rows_for_centers(entries: EntryTable, per_value: int = PER_VALUE, most: int = MAX_IMAGES) -> np.ndarray:
    """Sorted rows, at most ``most``: in a random order that is always the same, a row is taken where a value of its
    entries was met fewer than ``per_value`` times in the rows taken before."""
    order = np.random.default_rng(0).permutation(np.unique(entries.rows))
    starts = np.searchsorted(entries.rows, [order, order + 1])
    met = np.zeros(entries.schema.total_values, dtype=np.int64)
    taken = []
    for row, start, end in zip(order, *starts, strict=True):
        values = entries.value_ids[start:end]
        if len(taken) < most and (met[values] < per_value).any():
            met[values] += 1
            taken.append(row)
    return np.sort(np.array(taken, dtype=np.int64))


def fit_centers(train: EntryEmbeddings, held_out: EntryEmbeddings, num_values: tuple[int, ...]) -> ValueCenters:
    """Mean of the unit vectors of each value; per attribute the temperature that suits the held-out entries best."""
    dim = train.fused.shape[1]
    centers = np.zeros((sum(num_values), dim), dtype=np.float32)
    np.add.at(centers, train.value_ids, _unit(train.fused))
    centers = _unit(centers)
    temperatures = np.full(len(num_values), 0.1, dtype=np.float32)
    starts = np.concatenate([[0], np.cumsum(num_values)])
    for attribute in range(len(num_values)):
        mine = centers[starts[attribute] : starts[attribute + 1]]
        asked = held_out.attribute_ids == attribute
        local = held_out.value_ids[asked] - starts[attribute]
        known = mine.any(axis=1)[local] if len(local) else np.zeros(0, dtype=bool)
        if known.any():
            vectors, local = _unit(held_out.fused[asked][known]), local[known]
            losses = [
                -np.log(value_chances(vectors, mine, float(t))[np.arange(len(local)), local] + 1e-12).mean()
                for t in TEMPERATURES
            ]
            temperatures[attribute] = TEMPERATURES[int(np.argmin(losses))]
    return ValueCenters(centers, num_values, temperatures)


def _unit(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)
