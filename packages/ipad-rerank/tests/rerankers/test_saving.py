"""Saved reasoners that were damaged, swapped or made to harm: refused with a message, and nothing in them is run."""

from __future__ import annotations

import contextlib
import json
import pickle
import shutil
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ipad_rerank import AlphaQueryExpansion, Chain, FeatureReasoning, KReciprocal, load
from ipad_rerank.rerankers import saving
from ipad_rerank.rerankers.feature_reasoning.density import Density


@pytest.fixture
def folder(tmp_path):
    FeatureReasoning(n_r=10, hidden_width=4).save_pretrained(tmp_path)
    return tmp_path


def weights_of(folder):
    (path,) = folder.glob("weights-*.safetensors")
    return path


def rewrite_header(path, change):
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


def first_tensor(header):
    return next(value for name, value in header.items() if name != "__metadata__")


def beyond_the_end(header):
    first_tensor(header)["data_offsets"] = [0, 1 << 40]


def overlapping(header):
    for value in header.values():
        if "data_offsets" in value:
            begin, end = value["data_offsets"]
            value["data_offsets"] = [0, end - begin]


def other_shape(header):
    first_tensor(header)["shape"] = [999]


def other_type(header):
    first_tensor(header)["dtype"] = "F64"


@pytest.mark.parametrize("change", [beyond_the_end, overlapping, other_shape, other_type])
def test_headers_that_lie(folder, change):
    rewrite_header(weights_of(folder), change)
    with pytest.raises(ValueError, match="is not a readable safetensors file"):
        FeatureReasoning.from_pretrained(folder)


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 8, struct.pack("<Q", 1 << 40) + b"{}", struct.pack("<Q", 99) + b"{}"]
)
def test_headers_of_impossible_length(folder, content):
    (weights_of(folder)).write_bytes(content)
    with pytest.raises(ValueError, match="is not a readable safetensors file"):
        FeatureReasoning.from_pretrained(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.pop(next(iter(tensors))),
        lambda tensors: tensors.update(extra=torch.zeros(3)),
        lambda tensors: tensors.update({next(iter(tensors)): torch.zeros(3, 3)}),
    ],
    ids=["missing", "extra", "another shape"],
)
def test_tensors_that_do_not_fit(folder, change):
    tensors = load_file(weights_of(folder))
    change(tensors)
    save_file(tensors, weights_of(folder))
    with pytest.raises(ValueError, match=r"is damaged, config\.json and the weights do not fit"):
        FeatureReasoning.from_pretrained(folder)


def test_weights_that_are_no_numbers(folder):
    tensors = load_file(weights_of(folder))
    tensors["network.last.bias"][3] = float("nan")
    save_file(tensors, weights_of(folder))
    with pytest.raises(ValueError, match=r"holds NaN or infinite values in network\.last\.bias"):
        FeatureReasoning.from_pretrained(folder)


def test_a_flipped_bit_that_leaves_weights_that_fit(folder):
    content = bytearray(weights_of(folder).read_bytes())
    content[-5] ^= 4
    weights_of(folder).write_bytes(content)
    with pytest.raises(ValueError, match=r"weights-\w+\.safetensors is damaged: its content is not what was saved"):
        load(folder)


class Canary:
    """Unpickling it would leave a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("name", ["weights", "config.json"])
@pytest.mark.parametrize("write", ["pickle", "torch"])
def test_pickles_are_refused_and_not_run(folder, tmp_path, name, write):
    canary = tmp_path / "canary"
    name = weights_of(folder).name if name == "weights" else name
    if write == "pickle":
        (folder / name).write_bytes(pickle.dumps(Canary(canary)))
    else:
        torch.save(Canary(canary), folder / name)
    with pytest.raises(ValueError, match=name.replace(".", r"\.")):
        FeatureReasoning.from_pretrained(folder)
    assert not canary.exists()


def test_a_pickle_beside_the_files_is_not_looked_at(folder, tmp_path):
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Canary(tmp_path / "canary")))
    FeatureReasoning.from_pretrained(folder)
    assert not (tmp_path / "canary").exists()


def test_weights_of_another_reasoner(folder, tmp_path):
    FeatureReasoning(n_r=11, hidden_width=4).save_pretrained(tmp_path / "other")
    shutil.copy(weights_of(tmp_path / "other"), weights_of(folder))
    with pytest.raises(ValueError, match="do not fit"):
        FeatureReasoning.from_pretrained(folder)


def test_a_missing_file(folder):
    weights_of(folder).unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no weights-"):
        FeatureReasoning.from_pretrained(folder)
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no config\.json"):
        load(folder)


def test_names_beyond_ascii(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "gew\u00e4hlt \u8863", ignore=shutil.ignore_patterns("gew*"))
    assert FeatureReasoning.from_pretrained(tmp_path / "gew\u00e4hlt \u8863").n_r == 10


def test_saving_into_a_file_is_an_error_of_the_system(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(FileExistsError):
        FeatureReasoning(n_r=10).save_pretrained(tmp_path / "taken")


def test_saved_and_loaded_is_the_same(search, tmp_path, shaken):
    reasoner = shaken(n_t=2, variant="query_only")
    reasoner.density = Density((10, 400), 0.5, (0.0, 1.0))
    reasoner.save_pretrained(tmp_path / "r")
    assert sorted(p.name for p in (tmp_path / "r").iterdir()) == [
        "config.json",
        weights_of(tmp_path / "r").name,
    ]
    loaded = FeatureReasoning.from_pretrained(tmp_path / "r")
    assert loaded.config == reasoner.config
    assert loaded.density == reasoner.density
    np.testing.assert_array_equal(loaded.rerank(*search).scores, reasoner.rerank(*search).scores)


class TestDamagedFolders:
    def test_missing(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"holds no config\.json"):
            FeatureReasoning.from_pretrained(tmp_path / "nowhere")

    def test_truncated_weights(self, folder):
        path = weights_of(folder)
        path.write_bytes(path.read_bytes()[:200])
        with pytest.raises(ValueError, match="not a readable safetensors file"):
            FeatureReasoning.from_pretrained(folder)

    def test_pickle_in_disguise(self, folder):
        (weights_of(folder)).write_bytes(pickle.dumps({"a": 1}))
        with pytest.raises(ValueError, match="not a readable safetensors file"):
            FeatureReasoning.from_pretrained(folder)

    @pytest.mark.parametrize("text", ["{", "[]", '{"architectures": ["BertModel"]}'])
    def test_foreign_config(self, folder, text):
        (folder / "config.json").write_text(text)
        with pytest.raises(ValueError, match=r"config\.json"):
            FeatureReasoning.from_pretrained(folder)

    @pytest.mark.parametrize(
        "change", [{"n_r": 21}, {"n_r": "many"}, {"nonsense": 1}, {"density": {"x": 1}}, {"kind": "os.system"}]
    )
    def test_config_that_does_not_fit(self, folder, change):
        config = json.loads((folder / "config.json").read_text()) | change
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(ValueError, match="is damaged"):
            FeatureReasoning.from_pretrained(folder)

    def test_newer_version(self, folder):
        config = json.loads((folder / "config.json").read_text()) | {"version": 99}
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(ValueError, match="version 99"):
            FeatureReasoning.from_pretrained(folder)

    @pytest.mark.parametrize(
        "steps", [None, [], ["x"], [{}], [3], [{"kind": "k_reciprocal", "k9": 1}], [{"kind": "feature_reasoning"}]]
    )
    def test_chain(self, tmp_path, steps):
        Chain(KReciprocal()).save_pretrained(tmp_path)
        config = json.loads((tmp_path / "config.json").read_text()) | {"steps": steps}
        (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(ValueError, match="is damaged"):
            load(tmp_path)

    def test_weights_elsewhere(self, folder):
        config = json.loads((folder / "config.json").read_text()) | {"weights": "../secret.safetensors"}
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(ValueError, match="weights must be a file in it"):
            load(folder)

    @pytest.mark.parametrize("change", [{"hidden_width": 100_000_000}, {"n_r": 1 << 40}])
    def test_sizes_that_the_weights_do_not_have_are_refused_before_anything_is_allocated(
        self, folder, change, largest_storage
    ):
        config = json.loads((folder / "config.json").read_text()) | change
        (folder / "config.json").write_text(json.dumps(config))

        def refused():
            with pytest.raises(ValueError, match="is damaged"):
                load(folder)

        assert largest_storage(refused) < 1 << 20


def test_load_reads_whatever_was_saved_and_from_pretrained_its_own_class(tmp_path, search):
    expansion, reasoner = AlphaQueryExpansion(k=7), FeatureReasoning(n_r=10, hidden_width=4)
    for step in (expansion, KReciprocal(k1=9, restrict_to=30), reasoner, Chain(expansion, reasoner)):
        step.save_pretrained(tmp_path / "r")
        found = load(tmp_path / "r")
        assert type(found) is type(step)
        np.testing.assert_array_equal(found.rerank(*search).indices, step.rerank(*search).indices)
    with pytest.raises(ValueError, match="holds a Chain, not a FeatureReasoning"):
        FeatureReasoning.from_pretrained(tmp_path / "r")


@pytest.mark.parametrize("new_is_chain", [False, True])
def test_one_saved_over_another_replaces_it(tmp_path, new_is_chain):
    both = [FeatureReasoning(n_r=10, hidden_width=4), Chain(AlphaQueryExpansion(), FeatureReasoning(n_r=12))]
    for step in both if new_is_chain else both[::-1]:
        step.save_pretrained(tmp_path)
    assert isinstance(load(tmp_path), Chain) == new_is_chain
    assert len(list(tmp_path.iterdir())) == 2


class StopHereError(Exception):
    pass


@pytest.mark.parametrize("call", range(30))
def test_an_interrupted_save_leaves_the_old_or_the_new(tmp_path, monkeypatch, call):
    """Interrupt before the n-th call to the system, for every n."""
    old, new = Chain(FeatureReasoning(n_r=10, hidden_width=4)), FeatureReasoning(n_r=12, hidden_width=4)
    old.save_pretrained(tmp_path)
    count = 0

    def counted(function):
        def wrapped(*arguments, **options):
            nonlocal count
            count += 1
            if count > call:
                raise StopHereError
            return function(*arguments, **options)

        return wrapped

    with monkeypatch.context() as patch:
        for owner, name in (
            (saving.Path, "open"),
            (saving.Path, "replace"),
            (saving.Path, "unlink"),
            (saving.os, "fsync"),
        ):
            patch.setattr(owner, name, counted(getattr(owner, name)))
        with contextlib.suppress(StopHereError):
            new.save_pretrained(tmp_path)
    found = load(tmp_path)
    found = found.rerankers[0] if isinstance(found, Chain) else found
    assert found.n_r == (12 if count == call or call > 7 else found.n_r)
    assert found.n_r in (10, 12)
    new.save_pretrained(tmp_path)
    assert load(tmp_path).n_r == 12


def test_files_are_as_readable_as_any(tmp_path, folder):
    (tmp_path / "neighbor").write_text("")
    modes = {path.stat().st_mode for path in (tmp_path / "neighbor", folder / "config.json", weights_of(folder))}
    assert len(modes) == 1
