from __future__ import annotations

import pytest
import timm
import torch
from safetensors.torch import save_file

from ipad_core.backbones import Trunk

NARROW = {"channels": [8, 8, 16, 16], "stem_width": 8}
SMALL_VIT = {"embed_dim": 32, "depth": 3, "num_heads": 2}


@pytest.fixture
def resnet():
    torch.manual_seed(7)
    return timm.create_model("resnet10t", **NARROW)


@pytest.fixture
def write(tmp_path):
    """``write(tensors) -> path`` of a safetensors file ``given.safetensors``."""

    def save(tensors):
        save_file(
            {name: tensor.clone().contiguous() for name, tensor in tensors.items()}, tmp_path / "given.safetensors"
        )
        return str(tmp_path / "given.safetensors")

    return save


def assert_taken(trunk, tensors):
    own = trunk.features.state_dict()
    assert own
    for name, tensor in own.items():
        torch.testing.assert_close(tensor, tensors[name].to(tensor.dtype), msg=name)


def test_a_whole_network(resnet, write):
    tensors = resnet.state_dict()
    trunk = Trunk("resnet10t", 3, NARROW, weights=write(tensors))
    assert_taken(trunk, tensors)
    assert trunk.started_from["source"] == "file given.safetensors"
    assert (trunk.started_from["network"], trunk.started_from["tag"]) == ("resnet10t", None)
    assert len(trunk.started_from["sha256"]) == 64


def test_what_the_trunk_does_not_need_may_be_absent(resnet, write):
    tensors = {
        name: tensor
        for name, tensor in resnet.state_dict().items()
        if not name.startswith(("fc.", "layer4.")) and not name.endswith("num_batches_tracked")
    }
    trunk = Trunk("resnet10t", 3, NARROW, weights=write(tensors))
    assert torch.equal(trunk.features.layer3[0].conv1.weight, tensors["layer3.0.conv1.weight"])


def test_a_classifier_of_any_size_is_ignored(resnet, write):
    tensors = {**resnet.state_dict(), "fc.weight": torch.ones(21841, 16), "fc.bias": torch.ones(21841)}
    assert_taken(Trunk("resnet10t", 3, NARROW, weights=write(tensors)), tensors)


def test_half_precision_becomes_single(resnet, write):
    tensors = {
        name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in resnet.state_dict().items()
    }
    trunk = Trunk("resnet10t", 3, NARROW, weights=write(tensors))
    assert trunk.features.conv1[0].weight.dtype == torch.float32
    assert_taken(trunk, tensors)


def test_missing_unexpected_and_differing_names_are_listed(resnet, write):
    tensors = resnet.state_dict()
    del tensors["layer1.0.bn1.weight"]
    tensors["layer9.weight"] = torch.ones(2)
    tensors["layer4.0.conv1.weight"] = torch.ones(16, 16, 1, 1)
    with pytest.raises(ValueError, match="does not fit") as caught:
        Trunk("resnet10t", 3, NARROW, weights=write(tensors))
    message = str(caught.value)
    assert "given.safetensors does not fit the network 'resnet10t'" in message
    assert "missing: layer1.0.bn1.weight" in message
    assert "unexpected: layer9.weight" in message
    assert "other shapes: layer4.0.conv1.weight (16, 16, 1, 1) instead of (16, 16, 3, 3)" in message


def test_long_lists_are_cut(resnet, write):
    tensors = {name: tensor for name, tensor in resnet.state_dict().items() if not name.startswith("layer1")}
    with pytest.raises(ValueError, match=r"missing: (layer1[\w.]+, ){3}layer1[\w.]+ and \d+ more"):
        Trunk("resnet10t", 3, NARROW, weights=write(tensors))


def test_a_file_of_another_network_is_recognized(write):
    tensors = timm.create_model("resnet18").state_dict()
    with pytest.raises(ValueError, match=r"it fits no tensor of it; missing: .*It looks like timm's 'resnet18'\."):
        Trunk("vit_tiny_patch16_224", options=SMALL_VIT, weights=write(tensors))


def test_a_saved_model_of_our_own_is_recognized(write):
    tensors = {
        f"trunk.features.{name}": tensor for name, tensor in timm.create_model("resnet10t").state_dict().items()
    }
    with pytest.raises(ValueError, match=r"It looks like a saved model of ipad-core"):
        Trunk("resnet10t", weights=write(tensors))


def test_names_of_transformers_are_recognized(write):
    tensors = {"vision_model.encoder.layers.0.layer_norm1.weight": torch.ones(8), "text_model.bias": torch.ones(8)}
    with pytest.raises(ValueError, match=r"It looks like a CLIP or SigLIP of transformers"):
        Trunk("vit_base_patch16_siglip_224", options=SMALL_VIT, weights=write(tensors))


def test_the_image_tower_of_a_siglip_of_open_clip(write):
    source = timm.create_model("vit_base_patch16_siglip_224", **SMALL_VIT).state_dict()
    tensors = {f"visual.trunk.{name}": tensor for name, tensor in source.items()}
    tensors |= {
        "text.transformer.resblocks.0.ln_1.weight": torch.ones(8),
        "logit_scale": torch.ones(1),
        "logit_bias": torch.ones(1),
    }
    trunk = Trunk("vit_base_patch16_siglip_224", options=SMALL_VIT, weights=write(tensors))
    assert_taken(trunk, source)
    assert trunk.mean.flatten().tolist() == [0.5, 0.5, 0.5]


def test_the_image_tower_of_another_network_is_recognized(write):
    with torch.device("meta"):
        known = timm.create_model("vit_base_patch32_clip_224").state_dict()
    tensors = {f"visual.trunk.{name}": torch.empty(tensor.shape, dtype=torch.half) for name, tensor in known.items()}
    with pytest.raises(
        ValueError, match=r"It looks like timm's 'vit_base_patch32_clip_224' as the image tower of an "
    ):
        Trunk("resnet10t", weights=write({**tensors, "logit_scale": torch.ones(1)}))


def as_open_clip(tensors):
    """The image tower of a CLIP file, from timm's names."""
    swaps = [
        ("patch_embed.proj", "conv1"),
        ("pos_embed", "positional_embedding"),
        ("cls_token", "class_embedding"),
        ("norm_pre", "ln_pre"),
        (".norm1", ".ln_1"),
        (".norm2", ".ln_2"),
        ("attn.qkv.", "attn.in_proj_"),
        ("attn.proj", "attn.out_proj"),
        ("mlp.fc1", "mlp.c_fc"),
        ("mlp.fc2", "mlp.c_proj"),
        ("blocks.", "transformer.resblocks."),
    ]
    answer = {}
    for name, tensor in tensors.items():
        if name.startswith("head."):
            continue
        new = name.replace("norm.", "ln_post.") if name.startswith("norm.") else name
        for ours, theirs in swaps:
            new = new.replace(ours, theirs)
        answer[f"visual.{new}"] = (
            tensor.flatten() if name == "cls_token" else tensor[0] if name == "pos_embed" else tensor
        )
    return {
        **answer,
        "visual.proj": torch.ones(32, 5),
        "positional_embedding": torch.ones(77, 8),
        "logit_scale": torch.ones(1),
    }


def test_the_image_tower_of_a_clip_of_open_clip(write):
    source = timm.create_model("vit_base_patch16_clip_224", **SMALL_VIT).state_dict()
    trunk = Trunk("vit_base_patch16_clip_224", options=SMALL_VIT, weights=write(as_open_clip(source)))
    assert_taken(trunk, source)


def test_position_embeddings_of_another_image_size_are_resized(write):
    source = timm.create_model("vit_tiny_patch16_224", img_size=64, **SMALL_VIT).state_dict()
    trunk = Trunk("vit_tiny_patch16_224", options=SMALL_VIT, weights=write(source))
    assert trunk.features.pos_embed.shape == (1, 197, 32)
    assert torch.equal(trunk.features.blocks[2].attn.qkv.weight, source["blocks.2.attn.qkv.weight"])


def test_a_converter_that_stumbles_is_no_crash(write):
    tensors = {"visual.class_embedding": torch.ones(8), "visual.proj": torch.ones(3)}
    with pytest.raises(ValueError, match=r"does not fit the network 'vit_tiny_patch16_224': timm cannot convert it"):
        Trunk("vit_tiny_patch16_224", options=SMALL_VIT, weights=write(tensors))
