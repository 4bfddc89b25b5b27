from __future__ import annotations

import pytest
import timm

from ipad_core.backbones.network import create_network

NARROW = {"channels": [8, 8, 16, 16], "stem_width": 8}
SMALL_VIT = {"embed_dim": 32, "depth": 2, "num_heads": 2}


def test_a_tag_names_the_weights_and_not_another_network():
    network = create_network("resnet10t.c3_in1k", 64, NARROW)
    assert (network.pretrained_cfg["architecture"], network.pretrained_cfg["tag"]) == ("resnet10t", "c3_in1k")


@pytest.mark.parametrize("name", ["resnet5000", "hf-hub:timm/resnet50", "resnet5000.a1_in1k"])
def test_unknown_network_lists_the_nearest(name):
    with pytest.raises(ValueError, match=f"timm knows no network '{name}'; did you mean one of: "):
        create_network(name, 64)


def test_unknown_tag_lists_the_tags():
    with pytest.raises(ValueError, match=r"timm knows no weights 'resnet10t\.a9'; resnet10t has the tags: c3_in1k"):
        create_network("resnet10t.a9", 64)


def test_an_option_that_the_network_does_not_take():
    with pytest.raises(TypeError, match=r"timm's 'resnet10t' cannot be built with the options \{'chanels': 3\}"):
        create_network("resnet10t", 64, {"chanels": 3})


def test_a_file_in_the_overlay_is_answered_with_the_right_place():
    with pytest.raises(ValueError, match="given as `weights`, not in `pretrained_cfg_overlay`"):
        create_network("resnet10t", 64, {"pretrained_cfg_overlay": {"file": "weights.pth"}})


def test_position_embeddings_do_not_depend_on_the_image_size_where_timm_can_resize_them():
    for size in (32, 224):
        assert create_network("vit_tiny_patch16_224", size, SMALL_VIT).pos_embed.shape == (1, 197, 32)


def test_other_networks_of_one_size_are_built_for_it():
    network = create_network("beit_base_patch16_224", 64, SMALL_VIT)
    assert network.patch_embed.img_size == (64, 64)
    with pytest.raises(TypeError, match="embed_dims"):
        create_network("beit_base_patch16_224", 64, {"embed_dims": 3})


def test_a_size_of_the_user_stays():
    assert create_network("vit_tiny_patch16_224", 32, {**SMALL_VIT, "img_size": 48}).pos_embed.shape == (1, 10, 32)


def test_a_network_that_timm_cannot_read_stage_by_stage(monkeypatch):
    class Opaque(timm.models.ResNet):
        forward_intermediates = property()

    monkeypatch.setattr(timm, "create_model", lambda name: Opaque(timm.models.resnet.BasicBlock, (1, 1, 1, 1)))
    with pytest.raises(ValueError, match=r"timm [\d.]+ cannot read 'resnet10t' stage by stage"):
        create_network("resnet10t", 64)
