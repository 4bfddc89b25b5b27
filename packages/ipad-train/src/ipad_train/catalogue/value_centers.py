"""The value that a photo shows, with a confidence: the nearest center of an attribute's values."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ipad_train.catalogue.model import CatalogueModel
from ipad_train.data import load_data
from ipad_train.embed import EntryEmbeddings, embed_split
from ipad_train.launch import make_accelerator

MAX_TRAIN, MAX_VALIDATION = 1500, 500  # images that centers and temperatures are made from
TEMPERATURES = np.geomspace(0.01, 1.0, 25)


@dataclass(frozen=True)
class ValueCenters:
    """Mean direction of every value, and how sharply similarity to it decides.

    Args:
        centers: ``(V, D)`` unit length, the values of attribute 0 first; zeros where a value was never seen.
        num_values: Values of each attribute.
        temperatures: ``(A,)`` cosine units: confidences are the softmax of similarity / temperature.
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
    def unknown(cls, model: CatalogueModel, dim: int) -> ValueCenters:
        """For a model of which no labelled photos are at hand: it predicts nothing."""
        num_values = tuple(map(len, model.values.values()))
        return cls(np.zeros((sum(num_values), dim), np.float32), num_values, np.ones(len(num_values), np.float32))


def value_chances(vectors: np.ndarray, centers: np.ndarray, temperature: float) -> np.ndarray:
    """``(N, v)`` softmax over the values of one attribute; 0 for values whose center is zero, as they were never seen."""
    logits = vectors @ centers.T / temperature
    logits[:, ~centers.any(axis=1)] = -np.inf
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


def centers_of_run(model: CatalogueModel) -> ValueCenters:
    """Centers from the training split of the model's run, temperatures by likelihood on its validation split.

    Raises:
        ValueError: the model comes from no run.
        FileNotFoundError: the run's data are not where they were.
    """
    if model.run is None:
        raise ValueError(f"{model.source} is no run, so there are no labelled photos to learn values from")
    data = load_data(model.run.data)
    accelerator, config = (
        make_accelerator(model.run),
        replace(model.run.data, num_workers=0),
    )  # the engine's threads cannot fork
    options = {"branches": "both"} if hasattr(model.network, "semantic") else {}
    parts: dict[str, EntryEmbeddings] = {}
    for split, most, roles in (("train", MAX_TRAIN, ("train",)), ("validation", MAX_VALIDATION, ("query", "gallery"))):
        rows = np.random.default_rng(0).permutation(data.splits[split].num_rows)[:most]
        parts[split] = embed_split(
            model.network, data.splits[split].select(np.sort(rows)), config, accelerator, roles=roles,
            description=f"values from {split}", **options,
        )  # fmt: skip
    return fit_centers(parts["train"], parts["validation"], tuple(map(len, model.values.values())))


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
