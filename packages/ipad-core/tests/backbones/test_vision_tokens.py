from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from ipad_core.backbones import HybridTokens, Trunk, ViTTokens, build_tokens, build_trunk

SMALL = {"embed_dim": 32, "depth": 2, "num_heads": 2}
NARROW = {"channels": [8, 8, 16, 16], "stem_width": 8}
MAPPING = {"name": "resnet10t", "stage": [2, 3], "options": NARROW, "freeze": 2}


def test_patch_tokens_without_the_class_token():
    tokens = ViTTokens(Trunk("vit_tiny_patch16_224", options=SMALL, image_size=48)).eval()
    images = torch.rand(2, 3, 48, 48)
    answer = tokens(images)
    assert answer.shape == (2, 9, 32)
    assert tokens.num_features == 32
    torch.testing.assert_close(answer, tokens.trunk.features.forward_features(images)[:, 1:])


def test_every_prefix_token_goes():
    tokens = ViTTokens(Trunk("vit_small_patch16_dinov3", options=SMALL, image_size=48))
    assert tokens(torch.rand(1, 3, 48, 48)).shape == (1, 9, 32)


@pytest.mark.parametrize("name", ["resnet18", "swin_tiny_patch4_window7_224"])
def test_other_networks_are_refused(name):
    with pytest.raises(ValueError, match=f"'{name}' is no vision transformer; give 'hybrid' or"):
        ViTTokens(Trunk(name))


@pytest.mark.parametrize("size", [48, 64])
def test_hybrid_reads_the_cells_of_its_stem(size):
    stem = Trunk("resnet10t", 3, NARROW)
    tokens = HybridTokens(stem, size, **SMALL)
    assert tokens(torch.rand(2, 3, size, size)).shape == (2, (size // 16) ** 2, 32)
    assert tokens.trunk is stem


@pytest.mark.parametrize(("name", "options"), [("resnet10t", NARROW), ("vit_tiny_patch16_224", SMALL)])
def test_the_transformer_of_a_hybrid_leaves_the_weights_of_its_stem_alone(name, options):
    stem = Trunk(name, options=options, image_size=48)
    before = {key: tensor.clone() for key, tensor in stem.state_dict().items()}
    tokens = HybridTokens(stem, 48, **SMALL)
    assert all(torch.equal(before[key], tensor) for key, tensor in tokens.trunk.state_dict().items())
    assert tokens(torch.rand(1, 3, 48, 48)).shape == (1, 9, 32)


def test_the_stem_is_built_as_the_trunk_is(tmp_path):
    torch.manual_seed(1)
    source = Trunk("resnet10t", 3, NARROW)
    save_file(
        {key.removeprefix("features."): t.clone() for key, t in source.state_dict().items()},
        tmp_path / "own.safetensors",
    )
    mapping = {**MAPPING, "weights": str(tmp_path / "own.safetensors")}
    trunk = build_trunk(mapping, 64)
    tokens = build_tokens({"name": "hybrid", "options": SMALL}, 48, trunk, mapping)
    stem = tokens.trunk
    assert stem is not trunk
    assert stem.num_features == 24
    assert stem.started_from == trunk.started_from
    assert stem.started_from["source"] == "file own.safetensors"
    for (name, mine), theirs in zip(stem.named_parameters(), trunk.parameters(), strict=True):
        assert torch.equal(mine, theirs), name
        assert mine.requires_grad == theirs.requires_grad
        assert mine.data_ptr() != theirs.data_ptr()


def test_a_transformer_of_timm_takes_every_key_of_a_trunk():
    mapping = {"name": "vit_tiny_patch16_224", "options": SMALL, "stage": 0, "freeze": 1}
    tokens = build_tokens(mapping, 32, build_trunk(MAPPING, 32), MAPPING)
    assert isinstance(tokens, ViTTokens)
    assert not any(parameter.requires_grad for parameter in tokens.parameters())


def test_a_hybrid_has_no_weights_of_its_own():
    trunk = build_trunk(MAPPING, 32)
    with pytest.raises(TypeError, match="a hybrid takes 'pretrained' of its stem from the trunk"):
        build_tokens({"name": "hybrid", "pretrained": True}, 32, trunk, MAPPING)
    build_tokens({"name": "hybrid", "pretrained": False}, 32, trunk, MAPPING)


def test_crops_must_fit_the_patches():
    with pytest.raises(ValueError, match="image size of 'vit_tiny_patch16_224' must be a multiple of 16 px, got 40"):
        build_tokens({"name": "vit_tiny_patch16_224", "options": SMALL}, 40, build_trunk(MAPPING, 32), MAPPING)
