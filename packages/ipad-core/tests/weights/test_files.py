from __future__ import annotations

import argparse
import hashlib

import pytest
import torch
from safetensors.torch import save_file

from ipad_core.weights.files import read_tensors, sha256_of

TENSORS = {"conv1.weight": torch.arange(6.0).view(2, 3), "bn1.bias": torch.ones(2)}


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit('unpickled')",)


def assert_read(path):
    read = read_tensors(path)
    assert read.keys() == TENSORS.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in TENSORS.items())


@pytest.mark.parametrize("suffix", ["pth", "pt", "bin", "safetensors"])
def test_every_form_of_file(tmp_path, suffix):
    path = tmp_path / f"weights.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(TENSORS, path)
    assert_read(path)


@pytest.mark.parametrize("key", ["state_dict", "model", "model_ema", "state_dict_ema"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_checkpoints_and_the_prefixes_of_wrappers(tmp_path, key, prefix):
    inside = {prefix + name: tensor for name, tensor in TENSORS.items()}
    content = {"epoch": 3, "args": argparse.Namespace(lr=0.1), "optimizer": {"state": {}}, key: inside}
    torch.save(content, tmp_path / "checkpoint.pth.tar")
    assert_read(tmp_path / "checkpoint.pth.tar")


def test_averaged_weights_come_before_the_last_ones(tmp_path):
    other = {name: tensor + 1 for name, tensor in TENSORS.items()}
    torch.save({"state_dict": other, "state_dict_ema": TENSORS}, tmp_path / "checkpoint.pth")
    assert_read(tmp_path / "checkpoint.pth")


def test_the_old_format_of_torch(tmp_path):
    torch.save(TENSORS, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert_read(tmp_path / "old.pth")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"weights: there is no file .*nothing\.pth"):
        read_tensors(tmp_path / "nothing.pth")


@pytest.mark.parametrize("zipped", [True, False])
def test_objects_are_never_unpickled(tmp_path, zipped):
    torch.save({"state_dict": TENSORS, "extra": Evil()}, tmp_path / "evil.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        ValueError, match=r"evil\.pth holds Python objects \(.*exec.*\), and nothing is ever unpickled"
    ):
        read_tensors(tmp_path / "evil.pth")


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("kept", [0, 20, -40])
def test_a_truncated_file_is_named(tmp_path, suffix, kept):
    path = tmp_path / f"weights.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(TENSORS, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=rf"weights\.{suffix} is damaged, incomplete or no file of weights: \w+"):
        read_tensors(path)


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [torch.ones(2)], torch.ones(2), {"state_dict": {"a": 1}}])
def test_a_file_without_named_tensors(tmp_path, content):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth holds no named tensors"):
        read_tensors(tmp_path / "other.pth")


def test_sha256(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert sha256_of(tmp_path / "file") == hashlib.sha256(b"abc").hexdigest()
