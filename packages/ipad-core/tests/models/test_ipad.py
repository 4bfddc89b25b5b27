from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ipad_core import IPAD, create_model
from ipad_core.layers import attention_boxes, crop_regions, fuse_branches
from ipad_core.layers.iterative_attention import READINGS

IMAGES = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
SMALL_TOKENS = {"embed_dim": 16, "depth": 1, "num_heads": 2}
IDS, INDEX = torch.tensor([0, 1, 1, 0, 1]), torch.tensor([0, 0, 1, 2, 2])


@pytest.fixture
def make(small_trunk):
    """Function that builds a small model with both branches."""

    def build(**options):
        sizes = {
            "num_attributes": 2,
            "embed_dim": 16,
            "latent_dim": 8,
            "crop_size": 32,
            "semantic_heads": 2,
            "semantic_trunk": {"name": "hybrid", "options": SMALL_TOKENS},
            **small_trunk,
        }
        return IPAD(**{**sizes, **options})

    return build


@pytest.mark.parametrize("reading", READINGS)
def test_every_reading_trains(make, reading):
    model = make(reading=reading)
    output = model(IMAGES, IDS, INDEX, background=True, maps=True)
    assert (
        output.embedding.shape == output.spatial.shape == output.semantic.shape == output.background.shape == (5, 16)
    )
    assert output.attention.shape == (5, 2, 2)
    assert output.attention_maps.shape == (5, 3, 2, 2)
    assert output.boxes.shape == (5, 4)
    torch.testing.assert_close(output.attention.sum(dim=(1, 2)), torch.ones(5))
    (output.embedding.square() * torch.randn(16)).sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_what_was_not_asked_for_is_none(make):
    output = make()(IMAGES, IDS, INDEX, branches="spatial")
    assert output.semantic is output.background is output.attention_maps is output.boxes is None
    torch.testing.assert_close(output.embedding, F.normalize(output.spatial, dim=1))


def test_without_second_branch(make):
    model = make(semantic=False)
    assert model.semantic is None
    assert model(IMAGES, IDS, INDEX).semantic is None
    with pytest.raises(ValueError, match="no second branch"):
        model.initialize_semantic()


def test_parts_add_up_to_the_whole(make):
    model = make(beta=0.3, crop_min_side=0.4).eval()
    output = model(IMAGES, IDS, INDEX, maps=True)
    boxes = attention_boxes(output.attention, 0.1, 0.4, 0.0, resolution=16)
    torch.testing.assert_close(output.boxes, boxes)
    torch.testing.assert_close(model.boxes(output.attention_maps), boxes)
    crops = crop_regions(model.normalized(IMAGES), boxes, INDEX, 32)
    torch.testing.assert_close(output.semantic, model.semantic(crops, IDS))
    torch.testing.assert_close(output.embedding, fuse_branches(output.spatial, output.semantic, 0.3))


def test_crops_are_cut_from_the_larger_image(make):
    seen = []
    model = make(crop_size=48).eval()
    model.semantic.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model(IMAGES, IDS, INDEX, boxes=torch.tensor([[0.25, 0.25, 1.0, 1.0]] * 5))
    torch.testing.assert_close(
        seen[0], crop_regions(model.normalized(IMAGES), torch.tensor([[0.25, 0.25, 1, 1.0]] * 5), INDEX, 48)
    )


def test_the_second_round_attends_differently_and_the_default_answers_the_last(make):
    output = make()(IMAGES, IDS, INDEX, maps=True)
    assert (output.attention_maps[:, 1] - output.attention_maps[:, 0]).abs().max() > 1e-4
    assert torch.equal(output.attention, output.attention_maps[:, -1])


def test_the_literal_reading_locates_with_the_product_of_its_maps(make):
    model = make(reading="literal")
    maps = torch.rand(2, 3, 4, 4).flatten(2).softmax(2).view(2, 3, 4, 4)
    product = maps.prod(dim=1)
    torch.testing.assert_close(model.location(maps), product / product.sum(dim=(1, 2), keepdim=True))
    assert torch.equal(make(reading="public_code").location(maps), maps[:, -1])


def test_frozen_spatial_branch_leaves_no_graph(make):
    model = make()
    model.spatial.requires_grad_(False).eval()
    output = model(IMAGES, IDS, INDEX, background=True)
    assert not output.spatial.requires_grad
    assert not output.background.requires_grad
    output.semantic.sum().backward()
    assert all(p.grad is None for p in model.spatial.parameters())


def test_initialize_semantic_takes_over_stage_1_and_the_trunk(make):
    stage1, model = make(semantic=False), make()
    torch.manual_seed(5)
    for parameter in stage1.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    model.initialize_semantic(stage1)
    for mine, theirs in zip(model.spatial.state_dict().values(), stage1.spatial.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)
    stem = model.semantic.tokens.trunk
    assert torch.equal(stem.features.conv1[0].weight, stage1.trunk.features.conv1[0].weight)
    assert stem.features.conv1[0].weight.data_ptr() != model.trunk.features.conv1[0].weight.data_ptr()
    with pytest.raises(ValueError, match="another IP-SP"):
        model.initialize_semantic(make(semantic=False, embed_dim=8))


def test_beta_may_be_set_later_and_is_saved(make, tmp_path):
    model = make().eval()
    model.beta = 0.75
    model.save_pretrained(tmp_path)
    again = IPAD.from_pretrained(tmp_path)
    assert again.beta == 0.75
    assert IPAD.from_pretrained(tmp_path, beta=0.1).beta == 0.1
    spatial, semantic = torch.randn(2, 2, 16)
    torch.testing.assert_close(again.fuse(spatial, semantic), fuse_branches(spatial, semantic, 0.75))
    torch.testing.assert_close(again.fuse(spatial, semantic, 0.5), fuse_branches(spatial, semantic, 0.5))
    with pytest.raises(ValueError, match=r"beta must be within \[0, 1\], got 2"):
        model.beta = 2


def test_vision_transformer_gets_its_own_statistics(make):
    model = make(semantic_trunk={"name": "vit_tiny_patch16_224", "options": SMALL_TOKENS})
    assert model.semantic.tokens.trunk.mean.flatten().tolist() == [0.5, 0.5, 0.5]
    seen = []
    model.semantic.tokens.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    crops = torch.rand(1, 3, 32, 32)
    model.semantic(model.normalized(crops), torch.tensor([0]))
    torch.testing.assert_close(seen[0], (crops - 0.5) / 0.5, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reading": "x"}, "reading must be one of default, soft, mlp_xy, literal, public_code, got 'x'"),
        ({"fusion": "x"}, "fusion must be one of sum, concat"),
        ({"beta": 1.5}, r"beta must be within \[0, 1\], got 1.5"),
        ({"crop_threshold": 2}, r"crop_threshold must be within \[0, 1\]"),
        ({"crop_min_side": -1}, r"crop_min_side must be within \[0, 1\]"),
        ({"crop_margin": -0.1}, "crop_margin must not be negative"),
        ({"semantic_heads": 3}, "num_heads must divide the tokens' width 16"),
    ],
)
def test_bad_options(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_unknown_branches(make):
    with pytest.raises(ValueError, match="branches must be 'both' or 'spatial', got 'semantic'"):
        make()(IMAGES, IDS, INDEX, branches="semantic")


def test_concatenation_doubles_the_width(make):
    assert make(fusion="concat")(IMAGES, IDS, INDEX).embedding.shape == (5, 32)


def test_graph_does_not_break(make):
    """No value has to reach Python: neither a wait for the device nor a break of torch.compile."""
    model = make().eval()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        output = compiled(IMAGES, IDS, INDEX, background=True)
        torch.testing.assert_close(output.embedding, model(IMAGES, IDS, INDEX).embedding)


def test_sizes_of_the_paper():
    """107 M parameters; the paper says about 142 M without saying which parts it counts."""
    with torch.device("meta"):
        model = create_model("ipad_resnet50_vitb16", num_attributes=8)
    assert sum(p.numel() for p in model.parameters()) == 107_162_176
    assert model.trunk.num_features == 1024
    assert model.trunk.stride == 16
    assert model.semantic.tokens.num_features == 768
    assert model.spatial.attention.iterations == 3


def test_sizes_of_the_tiny_preset():
    model = create_model("ipad_tiny", num_attributes=6)
    assert sum(p.numel() for p in model.parameters()) == 874_640
    assert sum(p.numel() for p in model.trunk.parameters()) < 200_000


@pytest.mark.slow
def test_paper_preset_runs():
    model = create_model("ipad_resnet50_vitb16", num_attributes=8).eval()
    output = model.encode(torch.randint(0, 256, (1, 3, 448, 448), dtype=torch.uint8), torch.tensor([3]))
    assert output.embedding.shape == (1, 1024)
    assert output.attention.shape == (1, 14, 14)
