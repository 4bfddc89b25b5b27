"""Small runs shared by the tests: real images, a network of a few thousand weights."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from pathlib import Path

import pytest
import yaml

SMALL_MODEL = {
    "image_size": 32,
    "embed_dim": 16,
    "latent_dim": 16,
    "crop_size": 32,
    "trunk": {"options": {"channels": [8, 8, 16, 16], "stem_width": 8, "output_stride": 8}},
    "semantic_trunk": {"options": {"embed_dim": 16, "depth": 1, "num_heads": 2, "mlp_ratio": 2.0}},
}
SMALL = {
    "base": "tiny",
    "data": {
        "options": {"num_train": 48, "num_validation": 30, "num_test": 30, "size": 64},
        "detail_size": 48,
        "num_workers": 0,
    },
    "model": {"options": SMALL_MODEL},
    "stage0": {"steps": 2, "batch_size": 16},
    "stage1": {"steps": 3, "batch_size": 16},
    "stage2": {"steps": 4, "batch_size": 16},
    "clusters": {"queue_length": 3, "refresh_every": 1},
    "values": {"enabled": False},
    "rerank": {"enabled": False},
    "loop": {"log_every": 1, "save_every": 2},
}


@pytest.fixture(scope="session", autouse=True)
def _private_cache(tmp_path_factory):
    """Datasets are built into a folder of the test session."""
    import datasets

    folder = tmp_path_factory.mktemp("datasets-cache")
    saved = datasets.config.HF_DATASETS_CACHE
    datasets.config.HF_DATASETS_CACHE = folder
    os.environ["HF_DATASETS_CACHE"] = str(folder)  # for the processes that tests start
    os.environ["HF_HUB_OFFLINE"] = "1"
    yield
    datasets.config.HF_DATASETS_CACHE = saved


@pytest.fixture(scope="session", autouse=True)
def _imports_are_frozen():
    """Every stage of a run ends with a garbage collection, which need not look through all that was imported."""
    import ipad_train.training  # noqa: F401

    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def small_settings():
    """The configuration of a small run, as a YAML file would hold it."""
    return SMALL


@pytest.fixture
def small_config(tmp_path):
    """``small_config(key=value overrides) -> RunConfig`` of a run in ``tmp_path / "run"``."""
    from ipad_train.config_files import load_config

    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL), encoding="utf-8")

    def make(*overrides: str, output: str = "run"):
        return load_config(path, [f"output_dir={tmp_path / output}", *overrides])

    make.path = path
    return make


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A complete small run of all three stages: its folder, and the lines it announced."""
    from ipad_train.config_files import load_config
    from ipad_train.training import Training

    folder = tmp_path_factory.mktemp("finished")
    (folder / "small.yaml").write_text(yaml.safe_dump(SMALL), encoding="utf-8")
    said: list[str] = []
    Training(load_config(folder / "small.yaml", [f"output_dir={folder / 'run'}"]), None, said.append).run()
    return folder / "run", said


@pytest.fixture
def opened(monkeypatch):
    """The names of the datasets that were opened since the test began, one for every time."""
    import ipad_data

    names, load = [], ipad_data.load

    def counted(name, *arguments, **options):
        names.append(name)
        return load(name, *arguments, **options)

    monkeypatch.setattr(ipad_data, "load", counted)
    return names


class InterruptedRunError(Exception):
    """Stands for a kill at a step."""


@pytest.fixture
def interrupt(monkeypatch):
    """``undo = interrupt(step)``: runs die right after that global step, with ``interrupt.Error``."""
    from ipad_train.tracking import Tracker

    original = Tracker.log

    def stop_after(global_step: int):
        def log(self, step, stage, values):
            original(self, step, stage, values)
            if step == global_step and "loss" in values:
                raise InterruptedRunError

        monkeypatch.setattr(Tracker, "log", log)
        return lambda: monkeypatch.setattr(Tracker, "log", original)

    stop_after.Error = InterruptedRunError
    return stop_after


@pytest.fixture(scope="session")
def processes():
    """``processes(name)``: a module of the folder ``processes``, which other processes import by the same name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).with_name("processes"))
        yield importlib.import_module


@pytest.fixture(scope="session")
def commands(tmp_path_factory, processes, _private_cache):
    """Commands of ipad-train as real processes, forked from one that has imported everything."""
    made = processes("commands").Commands(tmp_path_factory.mktemp("commands"))
    yield made
    made.close()


@pytest.fixture
def run_process(tmp_path):
    """``run_process(arguments, **environment)``: a fresh process of this interpreter; a variable of None is not set.

    It imports everything anew, which takes seconds: where that is not what is tested, take ``commands``.
    """
    import subprocess

    def run(arguments: list[str], timeout: float = 300, check: bool = True, **environment: str | None):
        settings = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        result = subprocess.run(
            [sys.executable, *arguments],
            env={key: value for key, value in settings.items() if value is not None},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if check:
            assert result.returncode == 0, result.stdout + result.stderr
        return result

    return run
