"""What is special about each of the paper's peers."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from ipad_core import IPAD, AttributeEmbedder, create_model
from ipad_core.models import RPF, ASENpp, AttnFashion, attribute_types

IMAGES = torch.randint(0, 256, (3, 3, 48, 48), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
IDS, INDEX = torch.tensor([0, 1, 1, 0]), torch.tensor([0, 0, 1, 2])
SIZES = {"num_attributes": 2, "embed_dim": 8, "latent_dim": 6}
HYBRID = {"name": "hybrid", "options": {"embed_dim": 16, "depth": 1, "num_heads": 2}}


@pytest.fixture
def make(small_trunk):
    def build(name, **options):
        if name in ("asen_pp", "rpf"):
            options = {"crop_size": 32, **options}
        if name == "rpf":
            options = {"attribute_dim": 5, "semantic_heads": 2, "semantic_trunk": HYBRID, **options}
        return create_model(name, **{**small_trunk, "image_size": 48, **SIZES, **options}).eval()

    return build


@pytest.mark.parametrize("name", ["asen", "asen_v2", "attn_fashion", "haen", "isln", "asen_pp", "rpf"])
def test_the_attention_is_a_map_and_depends_on_the_attribute(make, name):
    output = make(name)(IMAGES, IDS, INDEX)
    assert output.attention.shape == (4, 3, 3)
    torch.testing.assert_close(output.attention.sum(dim=(1, 2)), torch.ones(4))
    assert not torch.allclose(output.attention[0], output.attention[1])
    assert not torch.allclose(output.embedding[0], output.embedding[1])


def test_attn_fashion_lies_between_the_two_features_of_asen(make):
    model = make("attn_fashion")
    assert isinstance(model, AttnFashion)
    with torch.no_grad():
        model.adaptive.first.bias.fill_(100.0)
        attended = model.attention(model.feature_map(IMAGES).flatten(2).transpose(1, 2))
        expected = F.normalize(model.project(attended.located[INDEX, IDS]), dim=1)
        torch.testing.assert_close(model(IMAGES, IDS, INDEX).embedding, expected)


def test_isln_asks_with_what_it_found(make):
    one, three = make("isln", iterations=1), make("isln", iterations=3)
    three.load_state_dict(one.state_dict(), strict=False)
    maps = three(IMAGES, IDS, INDEX, maps=True).attention_maps
    assert maps.shape == (4, 3, 3, 3)
    torch.testing.assert_close(maps[:, 0], one(IMAGES, IDS, INDEX).attention)
    assert not torch.allclose(maps[:, 1], maps[:, 0])


def test_haen_shares_a_type_and_checks_it(make):
    model = make("haen", num_attributes=3, types=[0, 1, 0])
    assert model.attention.type_table.num_embeddings == 2
    assert model.options["types"] == [0, 1, 0]
    assert make("haen").attention.type_table.num_embeddings == 1
    with pytest.raises(ValueError, match=r"types must have 2 numbers, one per attribute, got \[0\]"):
        make("haen", types=[0])
    with pytest.raises(ValueError, match=r"types must be numbered from 0 without a gap, got \[0, 2\]"):
        make("haen", types=[0, 2])


def test_types_of_a_schema_by_the_last_word_or_by_a_hierarchy():
    names = ["skirt_length", "collar_design", "pant_length", "colour"]
    assert attribute_types(names) == [0, 1, 0, 2]
    assert attribute_types(names, {"look": names[1:2] + names[3:], "size": ["pant_length", "skirt_length"]}) == [
        0,
        1,
        0,
        1,
    ]
    for hierarchy, wrong in (
        ({"all": names[:3]}, "colour"),
        ({"all": names, "x": ["hem"]}, "hem"),
        ({"a": names, "b": names[:1]}, "skirt_length"),
    ):
        with pytest.raises(ValueError, match=f"look at: {wrong}"):
            attribute_types(names, hierarchy)


@pytest.mark.parametrize("name", ["asen_pp", "rpf"])
def test_kept_maps_of_the_crops_are_the_crops(make, name):
    model = make(name)
    with torch.no_grad():
        expected = model(IMAGES, IDS, INDEX)
        kept = model.semantic.keep(model.crops(IMAGES, expected.boxes, INDEX))
        torch.testing.assert_close(model(IMAGES, IDS, INDEX, crops=kept).semantic, expected.semantic)


@pytest.mark.parametrize("name", ["asen_pp", "rpf"])
def test_two_branches_are_fused_side_by_side(make, name):
    model = make(name, beta=0.3)
    output = model(IMAGES, IDS, INDEX)
    assert output.embedding.shape == (4, 16)
    similarity = 0.3 * F.cosine_similarity(*output.spatial[:2], dim=0) + 0.7 * F.cosine_similarity(
        *output.semantic[:2], dim=0
    )
    torch.testing.assert_close(output.embedding[0] @ output.embedding[1], similarity)
    alone = model(IMAGES, IDS, INDEX, branches="spatial")
    torch.testing.assert_close(alone.embedding, F.normalize(output.spatial, dim=1))


@pytest.mark.parametrize("name", ["asen_pp", "rpf"])
def test_the_second_stage_starts_from_the_first(make, name, tmp_path):
    first = make(name, semantic=False)
    first.trunk.started_from["via"] = "attribute_classifier"
    first.save_pretrained(tmp_path)
    model = make(name)
    model.initialize_semantic(IPAD.from_pretrained(tmp_path))
    torch.testing.assert_close(model(IMAGES, IDS, INDEX).spatial, first(IMAGES, IDS, INDEX).spatial)
    assert model.weights["semantic"] == model.weights["trunk"] == first.weights["trunk"]
    stem = model.semantic.trunk if name == "asen_pp" else model.semantic.tokens.trunk
    assert torch.equal(stem.features.conv1[0].weight, first.trunk.features.conv1[0].weight)
    with pytest.raises(ValueError, match="no second branch"):
        first.initialize_semantic()


def test_asen_pp_starts_both_branches_alike(make):
    model = make("asen_pp")
    assert isinstance(model, ASENpp)
    model.initialize_semantic()
    with torch.no_grad():
        whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(4, -1)
        images = F.interpolate(IMAGES.float() / 255, size=(32, 32), mode="bilinear", antialias=True)
        model.image_size = 32  # what the crops have
        output = model(images, IDS, INDEX, boxes=whole)
    torch.testing.assert_close(output.semantic, output.spatial, atol=1e-5, rtol=1e-4)


def test_rpf_reads_one_attribute_vector_in_both_branches(make, tmp_path):
    model = make("rpf")
    assert isinstance(model, RPF)
    output = model(IMAGES, IDS, INDEX, background=True)
    gradient = torch.autograd.grad(output.semantic.sum(), model.spatial.attribute.weight, retain_graph=True)[0]
    assert gradient.any()
    assert output.background.shape == (4, 8)
    model.save_pretrained(tmp_path)
    again = AttributeEmbedder.from_pretrained(tmp_path)
    assert torch.equal(again(IMAGES, IDS, INDEX).embedding, model(IMAGES, IDS, INDEX).embedding)


def test_rpf_background_is_the_rest_of_the_map(make):
    model = make("rpf")
    branch = model.spatial
    output = model(IMAGES, IDS, INDEX, background=True)
    tokens = branch.map_norm(branch.trunk(model.trunk_input(model.normalized(IMAGES))).flatten(2).transpose(1, 2))
    for entry, (image, weights) in enumerate(zip(INDEX, output.attention.flatten(1), strict=True)):
        behind = (1 - weights) / (1 - weights).sum()
        expected = branch.mlp(branch.project((behind[:, None] * tokens[image]).sum(dim=0)))
        torch.testing.assert_close(output.background[entry], expected, atol=1e-5, rtol=1e-4)


def test_a_copy_of_the_patches_alone_reads_the_regions_attributes(make):
    """As the momentum encoder makes it where the region branch is frozen; it has to follow it to another device."""
    model = make("rpf")
    whole, alone = copy.deepcopy(model), copy.deepcopy(model.semantic)
    assert whole.semantic._attribute.module is whole.spatial.attribute is not model.spatial.attribute
    assert alone._attribute.module is model.spatial.attribute
    crops = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        model.spatial.attribute.weight.add_(1.0)  # what a checkpoint brings
        assert torch.equal(alone(crops, IDS), model.semantic(crops, IDS))


def test_asen_pp_has_no_background(make):
    with pytest.raises(ValueError, match=r"background must be False: ASEN\+\+ has no background feature"):
        make("asen_pp")(IMAGES, IDS, INDEX, background=True)


# -- IPAD's ablations ----------------------------------------------------------------------------------------------

IPAD_SIZES = {"semantic_heads": 2, "semantic_trunk": HYBRID, "crop_size": 32}
ABLATIONS = {
    "without ISA": {"attention": {"spatial": False}},
    "without ICA": {"attention": {"channel": False}},
    "without AS": {"reading": "literal", "attention": {"suppression": "none"}},
    "without SP": {"spatial": False},
    "without SE": {"semantic": False},
    "one round": {"iterations": 1},
    "ten rounds": {"iterations": 10},
}


@pytest.mark.parametrize("options", ABLATIONS.values(), ids=ABLATIONS)
def test_ablations_train_what_they_hold(make, options):
    model = make("ipad", **IPAD_SIZES, **options).train()
    for parameter in model.parameters():  # timm starts residual branches at zero
        if not parameter.any():
            parameter.data.normal_(std=0.1)
    output = model(IMAGES, IDS, INDEX)
    (output.embedding * torch.randn_like(output.embedding)).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_without_spatial_attention_the_mean_of_the_map_is_read(make):
    model = make("ipad", semantic=False, attention={"spatial": False})
    assert torch.allclose(model(IMAGES, IDS, INDEX).attention, torch.full((4, 3, 3), 1 / 9))


def test_without_channel_attention_the_features_are_not_gated(make):
    model = make("ipad", semantic=False, attention={"channel": False}, iterations=2)
    output = model(IMAGES, IDS, INDEX)
    tokens = model.spatial.attention.map_norm(model.feature_map(IMAGES).flatten(2).transpose(1, 2))
    pooled = (output.attention.flatten(1)[:, :, None] * tokens[INDEX]).sum(dim=1)
    torch.testing.assert_close(output.spatial, model.spatial.head(pooled), atol=1e-5, rtol=1e-4)


def test_without_the_first_branch_the_second_sees_the_whole_image(make):
    model = make("ipad", spatial=False, **IPAD_SIZES)
    output = model(IMAGES, IDS, INDEX)
    assert output.boxes.tolist() == [[0.0, 0.0, 1.0, 1.0]] * 4
    assert output.attention is None
    assert model.weights.keys() == {"trunk"}
    with pytest.raises(ValueError, match="no first branch"):
        model.initialize_semantic()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spatial": False, "semantic": False}, "spatial and semantic are both false: there would be no branch"),
        ({"attention": {"spatial": False, "channel": False}}, "nothing would ask for the attribute"),
        ({"attention": {"channel": False, "output": "query"}}, "and channel=False would answer the attribute"),
    ],
)
def test_nothing_left(make, options, message):
    with pytest.raises(ValueError, match=message):
        make("ipad", **{**IPAD_SIZES, **options})
