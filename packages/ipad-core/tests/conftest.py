from __future__ import annotations

import copy

import pytest
import torch

NARROW = {"channels": [8, 8, 16, 16], "stem_width": 8}
SMALL_TRUNK = {"trunk": {"name": "resnet10t", "options": NARROW}, "image_size": 32}


@pytest.fixture(autouse=True)
def seeded():
    """Every test starts from the same random state."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def empty_cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("hub-cache"))


@pytest.fixture(autouse=True)
def no_hub(monkeypatch, empty_cache):
    """No test reaches the hub, or files that somebody's cache holds."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", empty_cache)


@pytest.fixture
def small_trunk():
    """Options of a trunk that takes milliseconds."""
    return copy.deepcopy(SMALL_TRUNK)
