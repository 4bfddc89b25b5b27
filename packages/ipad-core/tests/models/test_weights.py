"""What a model says of the weights that it started from, from its first build to the card of its last copy."""

from __future__ import annotations

import json

import pytest
import torch
import yaml
from safetensors.torch import save_file

from ipad_core import IPAD, AttributeEmbedder, WeightsNotFoundError, create_model
from ipad_core.backbones import Trunk
from ipad_core.models.model_card import model_card
from ipad_core.weights.files import sha256_of

NARROW = {"channels": [8, 8, 16, 16], "stem_width": 8}
SMALL_VIT = {"embed_dim": 16, "depth": 2, "num_heads": 2}
SIZES = {"num_attributes": 2, "embed_dim": 16, "image_size": 32}
IPAD_SIZES = {**SIZES, "latent_dim": 8, "crop_size": 32, "semantic_heads": 2}
HYBRID = {"name": "hybrid", "options": {"embed_dim": 16, "depth": 1, "num_heads": 2}}
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def file(tmp_path):
    """Weights of a narrow ResNet-10 on disk."""
    torch.manual_seed(5)
    tensors = Trunk("resnet10t", 3, NARROW).features.state_dict()
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, tmp_path / "own.safetensors")
    return tmp_path / "own.safetensors"


def trunk_of(file=None, **more):
    return {"name": "resnet10t", "options": NARROW, **({"weights": str(file)} if file else {}), **more}


def test_the_record_goes_into_the_configuration_and_survives_without_the_file(file, tmp_path):
    model = create_model("triplet", trunk=trunk_of(file), **SIZES)
    record = {
        "network": "resnet10t",
        "tag": None,
        "source": "file own.safetensors",
        "sha256": sha256_of(file),
        "license": None,
    }
    assert model.weights == {"trunk": record}
    model.save_pretrained(tmp_path / "model")
    assert json.loads((tmp_path / "model" / "config.json").read_text())["weights"] == {"trunk": record}
    file.unlink()
    again = AttributeEmbedder.from_pretrained(tmp_path / "model")
    assert again.weights == {"trunk": record}
    assert torch.equal(again.trunk.features.conv1[0].weight, model.trunk.features.conv1[0].weight)
    assert again.options["trunk"] == trunk_of()


def test_a_configuration_without_a_record_is_unknown_and_not_random(tmp_path):
    create_model("triplet", trunk=trunk_of(), **SIZES).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["weights"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert AttributeEmbedder.from_pretrained(tmp_path).weights["trunk"]["source"] == "unknown"


def test_a_trunk_that_is_taken_over_says_what_it_went_through(file):
    classifier = create_model(
        "attribute_classifier", num_attributes=2, num_values=[2, 2], image_size=32, trunk=trunk_of(file)
    )
    first, second = (create_model("triplet", trunk=trunk_of(), **SIZES) for _ in range(2))
    first.load_trunk(classifier)
    assert first.weights["trunk"] == {**classifier.weights["trunk"], "via": "attribute_classifier"}
    second.load_trunk(first)
    assert second.weights["trunk"]["via"] == "attribute_classifier, triplet"
    assert "via" not in classifier.weights["trunk"]


def test_both_branches_have_a_record_and_the_stem_follows_the_trunk(file):
    model = IPAD(trunk=trunk_of(file), semantic_trunk=HYBRID, **IPAD_SIZES)
    assert model.weights["semantic"] == model.weights["trunk"]
    assert torch.equal(model.semantic.tokens.trunk.features.conv1[0].weight, model.trunk.features.conv1[0].weight)
    stage1 = IPAD(trunk=trunk_of(), semantic=False, **IPAD_SIZES)
    assert stage1.weights.keys() == {"trunk"}
    stage1.trunk.started_from["via"] = "attribute_classifier"
    model.initialize_semantic(stage1)
    assert model.weights["trunk"] == model.weights["semantic"] == stage1.weights["trunk"]


def test_a_vision_transformer_as_second_branch_keeps_its_own_record(file, tmp_path):
    torch.save(Trunk("vit_tiny_patch16_224", options=SMALL_VIT).features.state_dict(), tmp_path / "vit.pth")
    vit = {"name": "vit_tiny_patch16_224", "options": SMALL_VIT, "weights": str(tmp_path / "vit.pth")}
    model = IPAD(trunk=trunk_of(file), semantic_trunk=vit, **IPAD_SIZES)
    model.initialize_semantic()
    assert [model.weights[part]["source"] for part in ("trunk", "semantic")] == [
        "file own.safetensors",
        "file vit.pth",
    ]


@pytest.mark.parametrize("argument", ["trunk", "semantic_trunk"])
def test_weights_that_are_nowhere(argument):
    trunks = {"trunk": trunk_of(), "semantic_trunk": {"name": "vit_tiny_patch16_224", "options": SMALL_VIT}}
    trunks[argument]["pretrained"] = True
    with pytest.raises(WeightsNotFoundError, match=r"no pretrained weights for '(resnet10t|vit_tiny_patch16_224)"):
        IPAD(**trunks, **IPAD_SIZES)


def test_the_presets_of_the_paper_name_their_weights():
    with torch.device("meta"):
        model = create_model("ipad_resnet50_vitb16", num_attributes=2, trunk={"pretrained": True})
    assert model.options["trunk"] == {"name": "resnet50.tv_in1k", "stage": 3, "pretrained": True}
    parts = {part: trunk.features.pretrained_cfg for part, trunk in model.trunks().items()}
    assert {part: (config["architecture"], config["tag"]) for part, config in parts.items()} == {
        "trunk": ("resnet50", "tv_in1k"),
        "semantic": ("vit_base_patch16_224", "orig_in21k"),
    }


@pytest.mark.parametrize("name", ["triplet", "csn", "attribute_classifier", "ipad"])
@pytest.mark.parametrize("stage", [None, [0, 1]])
def test_every_network_takes_a_vision_transformer_as_trunk(name, stage):
    trunk = {"name": "vit_base_patch16_siglip_224", "options": SMALL_VIT, "stage": stage}
    options = {"num_attributes": 2, "image_size": 32, "trunk": trunk}
    if name == "attribute_classifier":
        options["num_values"] = [2, 2]
    elif name == "ipad":
        options = {**IPAD_SIZES, **options, "crop_size": 48, "semantic_trunk": HYBRID}
    else:
        options["embed_dim"] = 8
    model = create_model(name, **options)
    output = model(IMAGES, torch.tensor([0, 1]))
    (output.embedding * torch.randn_like(output.embedding)).sum().backward()
    missing = [key for key, parameter in model.named_parameters() if parameter.grad is None]
    assert not missing
    if name == "ipad":
        model.initialize_semantic()  # crops of another size than the images, and one set of tensors for both


def test_frozen_stages_hold_for_the_stem_too():
    model = IPAD(trunk=trunk_of(freeze=2), semantic_trunk=HYBRID, **IPAD_SIZES).train()
    for trunk in model.trunks().values():
        assert not trunk.features.layer1[0].bn1.training
        assert not trunk.features.layer1[0].conv1.weight.requires_grad
        assert trunk.features.layer2[0].bn1.training


# -- the card ------------------------------------------------------------------------------------------------------


def test_the_card_says_what_the_hub_and_a_reader_want_to_know(tmp_path):
    create_model("triplet", trunk=trunk_of(), **SIZES).save_pretrained(tmp_path)
    head, text = (tmp_path / "README.md").read_text(encoding="utf-8").removeprefix("---\n").split("\n---\n")
    facts = yaml.safe_load(head)
    assert facts["library_name"] == "ipad-core"
    assert "triplet" in facts["tags"]
    assert "base_model" not in facts
    assert "# triplet for 2 attributes" in text
    assert "| trunk | resnet10t | random | - | - | - |" in text


def test_the_card_names_bases_and_licences():
    records = {
        "trunk": {
            "network": "resnet50",
            "tag": "tv_in1k",
            "source": "hub timm/resnet50.tv_in1k",
            "sha256": "ab",
            "license": "bsd-3-clause",
            "via": "attribute_classifier",
        },
        "semantic": {"network": "vit_base_patch16_224", "tag": None, "source": "file own.pth", "sha256": "cd"},
    }
    card = model_card("ipad", 1, records)
    assert yaml.safe_load(card.split("---\n")[1])["base_model"] == ["timm/resnet50.tv_in1k"]
    assert "# ipad for 1 attribute\n" in card
    row = "| trunk | resnet50.tv_in1k | hub timm/resnet50.tv_in1k | attribute_classifier | ab | bsd-3-clause |"
    assert row in card
    assert "| semantic | vit_base_patch16_224 | file own.pth | - | cd | - |" in card


def test_a_folder_without_a_card_loads(tmp_path):
    create_model("triplet", trunk=trunk_of(), **SIZES).save_pretrained(tmp_path)
    (tmp_path / "README.md").unlink()
    assert AttributeEmbedder.from_pretrained(tmp_path).architecture == "triplet"
