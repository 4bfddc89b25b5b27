from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelHubMixin, RepoUrl
from safetensors import safe_open

from ipad_core import IPAD, AttributeEmbedder, _registry, create_model, register_model
from ipad_core.models import TripletNetwork

SMALL_TRUNK = {"trunk": {"name": "resnet10t", "options": {"channels": [8, 8, 16, 16], "stem_width": 8}}}


@pytest.fixture
def triplet(small_trunk):
    return create_model("triplet", num_attributes=2, embed_dim=4, **small_trunk)


@pytest.fixture
def saved(triplet, tmp_path):
    triplet.save_pretrained(tmp_path)
    return tmp_path


def test_options_are_recorded_with_defaults_and_detached_from_the_caller(small_trunk):
    small_trunk["trunk"]["options"]["channels"] = (8, 8, 16, 16)
    model = create_model("triplet", num_attributes=2, embed_dim=4, **small_trunk)
    small_trunk["trunk"]["options"]["channels"] = None
    assert model.options["trunk"]["options"]["channels"] == [8, 8, 16, 16]
    assert model.options["position_channels"] is False
    assert "self" not in model.options


def test_the_name_of_a_trunk_is_recorded_as_a_mapping():
    assert create_model("triplet", num_attributes=2, trunk="resnet10t").options["trunk"] == {"name": "resnet10t"}


def test_an_unknown_key_of_the_trunk_names_the_nearest(small_trunk):
    small_trunk["trunk"]["pretraind"] = True
    with pytest.raises(TypeError, match="trunk has no key 'pretraind'; did you mean one of: pretrained"):
        create_model("triplet", num_attributes=2, **small_trunk)


@pytest.mark.parametrize("count", [0, -1, 2.5, True, "3", None])
def test_a_number_of_attributes_is_a_positive_whole_number(small_trunk, count):
    with pytest.raises(ValueError, match=f"num_attributes must be positive, a whole number, got {count!r}"):
        create_model("triplet", num_attributes=count, **small_trunk)


def test_options_must_fit_into_json(small_trunk):
    small_trunk["trunk"]["options"]["act_layer"] = torch.nn.ReLU
    with pytest.raises(TypeError, match="the options of TripletNetwork must fit into JSON"):
        create_model("triplet", num_attributes=2, **small_trunk)


def test_changes_at_loading(saved):
    changed = TripletNetwork.from_pretrained(saved, trunk={"freeze": 1, "pretrained": True})
    assert changed.options["trunk"] == {**SMALL_TRUNK["trunk"], "freeze": 1}
    assert not changed.trunk.features.conv1[0].weight.requires_grad
    with pytest.raises(TypeError, match="embed_dims"):
        AttributeEmbedder.from_pretrained(saved, embed_dims=3)
    with pytest.raises(ValueError, match="does not fit"):
        AttributeEmbedder.from_pretrained(saved, embed_dim=5)


def test_a_loaded_model_does_not_look_for_pretrained_weights(saved):
    config = json.loads((saved / "config.json").read_text())
    config["options"]["trunk"] |= {"pretrained": True, "weights": "gone.pth"}
    (saved / "config.json").write_text(json.dumps(config))
    assert AttributeEmbedder.from_pretrained(saved).options["trunk"] == SMALL_TRUNK["trunk"]


def test_another_class_than_asked_for(saved):
    with pytest.raises(ValueError, match="holds a 'triplet', which is no IPAD"):
        IPAD.from_pretrained(saved)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_missing_file(saved, name):
    (saved / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"is no saved model: it has no {name}"):
        AttributeEmbedder.from_pretrained(saved)


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no saved model"):
        AttributeEmbedder.from_pretrained(tmp_path / "nothing")


def test_neither_a_folder_nor_a_repository(monkeypatch):
    def unreachable(*args, **options):
        raise OSError("offline")

    monkeypatch.setattr("ipad_core.models.saved_model.snapshot_download", unreachable)
    with pytest.raises(FileNotFoundError, match="runs/missing is no folder, and could not be read as a repository"):
        AttributeEmbedder.from_pretrained("runs/missing")


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        '{"architecture": "triplet"}',
        '{"architecture": 1, "options": {}}',
        "null",
        "\xff",
        '{"architecture": "triplet", "options": {}, "weights": 3}',
        '{"architecture": "triplet", "options": 3}',
    ],
)
def test_broken_config(saved, content):
    (saved / "config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=r"config.json does not describe a model"):
        AttributeEmbedder.from_pretrained(saved)


def test_config_of_an_unknown_network_or_with_unknown_options(saved):
    (saved / "config.json").write_text('{"architecture": "resnet", "options": {}}')
    with pytest.raises(ValueError, match="unknown model 'resnet'"):
        AttributeEmbedder.from_pretrained(saved)
    (saved / "config.json").write_text('{"architecture": "triplet", "options": {"num_attributes": 2, "depth": 3}}')
    with pytest.raises(ValueError, match=r"does not describe a 'triplet': .*depth"):
        AttributeEmbedder.from_pretrained(saved)


def test_weights_of_another_network(saved, small_trunk):
    create_model("csn", num_attributes=2, embed_dim=4, **small_trunk).save_pretrained(saved / "csn")
    (saved / "csn" / "model.safetensors").replace(saved / "model.safetensors")
    with pytest.raises(ValueError, match=r"model.safetensors does not fit its config.json: (?s:.*)mask"):
        AttributeEmbedder.from_pretrained(saved)


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit('unpickled')",)


@pytest.mark.parametrize("content", [pickle.dumps(Evil()), b"", b"\x00" * 64], ids=["pickle", "empty", "zeros"])
def test_pickles_and_rubbish_are_refused(saved, content):
    (saved / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"does not fit its config\.json"):
        AttributeEmbedder.from_pretrained(saved)


def test_truncated_weights(saved):
    weights = (saved / "model.safetensors").read_bytes()
    (saved / "model.safetensors").write_bytes(weights[:-100])
    with pytest.raises(ValueError, match=r"does not fit its config\.json"):
        AttributeEmbedder.from_pretrained(saved)


def test_trunk_of_another_network_is_taken_over(triplet, small_trunk):
    classifier = create_model("attribute_classifier", num_attributes=2, num_values=[2, 2], **small_trunk)
    triplet.load_trunk(classifier)
    for mine, theirs in zip(triplet.trunk.parameters(), classifier.trunk.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    small_trunk["trunk"]["options"]["channels"] = [8, 8, 8, 8]
    other = create_model("csn", num_attributes=2, embed_dim=4, **small_trunk)
    with pytest.raises(ValueError, match="the trunk of 'csn' does not fit 'triplet'"):
        triplet.load_trunk(other)


def test_encode_restores_the_mode_after_an_error(triplet):
    triplet.train()
    with pytest.raises(ValueError, match="images must be"):
        triplet.encode(torch.rand(1, 1, 8, 8), torch.tensor([0]))
    assert triplet.training
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        triplet.encode(torch.rand(1, 3, 8, 8), torch.tensor([0]), batch_size=0)


def test_larger_images_are_resized_for_the_trunk(triplet):
    seen = []
    triplet.trunk.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape))
    triplet(torch.rand(1, 3, 100, 70), torch.tensor([0]))
    assert seen == [(1, 3, 32, 32)]


class Hub:
    """A stand-in for the hub's client that remembers what is uploaded."""

    def __init__(self, token=None):
        self.token = token

    def create_repo(self, repo_id, private, exist_ok):
        self.made[repo_id] = (private, self.token)
        return RepoUrl(f"https://huggingface.co/{repo_id}")

    def file_exists(self, repo_id, name, revision=None):
        return self.has_card and name == "README.md"

    def upload_folder(self, repo_id, folder_path, ignore_patterns, commit_message, revision, **options):
        names = {path.name for path in Path(folder_path).iterdir()}
        self.uploaded[repo_id] = (names - set(ignore_patterns or ()), commit_message, revision)
        return f"https://huggingface.co/{repo_id}/commit/1"


@pytest.mark.parametrize("has_card", [False, True])
def test_a_push_is_that_of_the_hubs_mixin_and_leaves_a_card_that_somebody_wrote(triplet, monkeypatch, has_card):
    monkeypatch.setattr(Hub, "has_card", has_card, raising=False)
    monkeypatch.setattr(Hub, "made", {}, raising=False)
    monkeypatch.setattr(Hub, "uploaded", {}, raising=False)
    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Hub)
    monkeypatch.setattr("ipad_core.models.hub_model.HfApi", Hub)
    assert isinstance(triplet, ModelHubMixin)
    address = triplet.push_to_hub("me/mine", private=True, token="t", branch="next", commit_message="better")
    assert address == "https://huggingface.co/me/mine/commit/1"
    assert Hub.made == {"me/mine": (True, "t")}
    files = {"config.json", "model.safetensors", *([] if has_card else ["README.md"])}
    assert Hub.uploaded == {"me/mine": (files, "better", "next")}


def test_the_weights_say_what_they_are(triplet, saved):
    with safe_open(saved / "model.safetensors", framework="pt") as file:
        metadata = file.metadata()
    config = json.loads(metadata.pop("config"))
    assert metadata == {"format": "pt", "library": "ipad-core", "architecture": "triplet"}
    assert config == json.loads((saved / "config.json").read_text())


def test_a_fact_that_the_card_does_not_know_leaves_what_was_saved(triplet, saved):
    triplet.about = {"licence": "mit"}
    with pytest.raises(ValueError, match=r"about must hold only license, .*, got 'licence'"):
        triplet.save_pretrained(saved)
    AttributeEmbedder.from_pretrained(saved)


@pytest.fixture
def flexible():
    """A network whose constructor hands its options on; its name is free again afterwards."""

    class Flexible(TripletNetwork):
        architecture = "flexible"

        def __init__(self, num_attributes, depth=1, **options):
            super().__init__(num_attributes, **options)

    register_model(Flexible)
    yield Flexible
    del _registry._BUILDERS["flexible"]


def test_options_that_a_constructor_hands_on_come_back(flexible, small_trunk, tmp_path):
    model = create_model("flexible", num_attributes=2, embed_dim=4, **small_trunk)
    assert model.options["embed_dim"] == 4
    assert model.options["depth"] == 1
    assert "options" not in model.options
    model.save_pretrained(tmp_path)
    again = AttributeEmbedder.from_pretrained(tmp_path, depth=2)
    assert type(again) is flexible
    assert again.options == {**model.options, "depth": 2}


def test_images_with_a_nan_pass_through_and_their_embeddings_are_nan(triplet):
    images = torch.rand(2, 3, 64, 64)
    images[1, 0, 0, 0] = torch.nan
    with torch.no_grad():
        found = triplet.eval()(images, torch.tensor([0, 1])).embedding
    assert bool(found[0].isfinite().all())
    assert bool(found[1].isnan().any())
