from __future__ import annotations

from pathlib import Path

import datasets
import numpy as np
import pytest
from datasets import Dataset, Features

from ipad_data import AttributeSchema, load
from ipad_data.builders._base import make_row, row_features

from .trees import (  # noqa: F401
    asen,
    ccp_tree,
    darn_tree,
    deepfashion_tree,
    fashionai_raw,
    jpeg,
    lines,
    published_fashionai,
    small_fashionai,
)

datasets.disable_progress_bars()
UNANSWERED = "ignore:.* has a gallery image of its value:ipad_data.DataWarning"


def pytest_collection_modifyitems(items):
    """The trees here are so small that some queries have nothing to find, which loading says."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.filterwarnings(UNANSWERED))


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory, monkeypatch):
    """Keep what tests build out of the user's cache, and fresh for every test."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    return folder


@pytest.fixture(scope="session")
def rendered(tmp_path_factory):
    """A small rendered dataset, built once."""
    return load("rendered", num_images=200, size=64, cache_dir=tmp_path_factory.mktemp("rendered"))


@pytest.fixture
def make_dataset():
    """Function that makes a dataset of bare labels: ``[[(attribute, local value), ...] per image]``."""

    def make(schema: AttributeSchema, labels: list[list[tuple[int, int]]], role: int = 0) -> Dataset:
        rows = [
            make_row(b"", 100 + i, [(a, schema.flat_value_id(a, v), role) for a, v in entries])
            for i, entries in enumerate(labels)
        ]
        return Dataset.from_list(rows, features=Features(row_features(schema)))

    return make


@pytest.fixture
def random_labels():
    """Function that draws sparse, on request multi-valued labels."""

    def draw(num_images: int, num_values: tuple[int, ...], multi: bool = False, seed: int = 0):
        rng = np.random.default_rng(seed)
        labels = []
        for _ in range(num_images):
            entries = []
            for attribute_id, count in enumerate(num_values):
                if rng.random() < 0.8:
                    size = int(rng.integers(1, 3)) if multi else 1
                    entries += [(attribute_id, int(v)) for v in rng.choice(count, size, replace=False)]
            labels.append(entries or [(0, 0)])
        return labels

    return draw
