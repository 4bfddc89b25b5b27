"""The preset for photographs: frozen trunks of one network, cut at different stages."""

from __future__ import annotations

import pytest
import torch

from ipad_core import AttributeEmbedder, create_model

SMALL = {"image_size": 64, "embed_dim": 16, "latent_dim": 16, "crop_size": 64, "trunk": {"pretrained": True}}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return create_model("ipad_photos", num_attributes=3, **SMALL)


def test_only_what_lies_behind_the_trunks_learns(model):
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learning
    assert not any("trunk." in name or "backbone." in name for name in learning)
    output = model.train()(torch.rand(2, 3, 96, 96), torch.tensor([0, 2]), background=True)
    (output.embedding.sum() + output.background.sum()).backward()
    assert all(parameter.grad is None for parameter in model.trunk.parameters())


def test_both_trunks_hold_the_weights_of_the_package(model):
    stem = model.semantic.tokens.trunk
    assert model.trunk.started_from["source"].startswith("package efficientnet-lite0")
    assert stem.started_from["source"] == model.trunk.started_from["source"]
    assert stem.num_features == 1280
    own = dict(model.trunk.features.named_parameters())
    shared = [name for name, _ in stem.features.named_parameters() if name in own]
    assert len(shared) > 100
    assert all(torch.equal(own[name], dict(stem.features.named_parameters())[name]) for name in shared)


def test_stage_2_takes_over_ip_sp_and_leaves_the_other_cut_as_it_is(model):
    stage1 = create_model("ipad_photos", num_attributes=3, **{**SMALL, "semantic": False})
    before = {name: tensor.clone() for name, tensor in model.semantic.tokens.trunk.state_dict().items()}
    model.initialize_semantic(stage1)
    torch.testing.assert_close(model.spatial.state_dict(), stage1.spatial.state_dict())
    torch.testing.assert_close(model.semantic.tokens.trunk.state_dict(), before)


def test_a_stem_of_other_stages_takes_over_the_layers_that_both_have():
    """Where stage 0 trained the trunk, because no pretrained weights were at hand."""
    options = {**SMALL, "trunk": {"freeze": 0}}
    model = create_model("ipad_photos", num_attributes=2, **options)
    stage1 = create_model("ipad_photos", num_attributes=2, **{**options, "semantic": False})
    model.initialize_semantic(stage1)
    stem, trunk = model.semantic.tokens.trunk.state_dict(), stage1.trunk.state_dict()
    shared = [name for name in trunk if name in stem]
    assert len(shared) > 100
    for name in shared:
        assert torch.equal(stem[name], trunk[name])
    assert set(stem) - set(trunk)  # the head convolution, which only the stem reads


def test_it_comes_back_from_its_folder(model, tmp_path):
    model.save_pretrained(tmp_path)
    again = AttributeEmbedder.from_pretrained(tmp_path)
    images, ids = torch.rand(2, 3, 96, 96), torch.tensor([1, 2])
    with torch.no_grad():
        torch.testing.assert_close(again(images, ids).embedding, model.eval()(images, ids).embedding)


def test_kept_maps_of_the_crops_are_the_crops(model):
    images, ids, index = torch.rand(3, 3, 96, 96), torch.tensor([0, 1, 2]), torch.arange(3)
    model.eval()
    with torch.no_grad():
        expected = model(images, ids)
        kept = model.semantic.keep(model.crops(images, expected.boxes, index))
        torch.testing.assert_close(model(images, ids, crops=kept).semantic, expected.semantic)
