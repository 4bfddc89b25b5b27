from __future__ import annotations

import pytest

from ipad_core import WeightsNotFoundError
from ipad_core.weights import finding
from ipad_core.weights.hub import HubError
from ipad_train.data import load_data
from ipad_train.start import describe_plan, find_starting_weights, leave_out_zoom

PRETRAINED = (
    "model.options={image_size: 32, embed_dim: 16, latent_dim: 16, semantic: false, "
    "trunk: {name: resnet18, stage: 1, pretrained: true, freeze: all, options: {}}}"
)


@pytest.fixture
def no_network(monkeypatch):
    def unreachable(repository):
        raise HubError("no network")

    monkeypatch.setattr(finding, "hub_file", unreachable)


def test_stage_zero_stands_in_where_no_weights_are_at_hand_and_says_so(small_config, no_network):
    config, weights, said = find_starting_weights(small_config(PRETRAINED, "stage2.steps=0"), 3)
    assert not {"pretrained", "freeze"} & set(config.model.options["trunk"])
    assert config.stage0.steps == 2
    assert weights == {"trunk": "resnet18 from random weights"}
    assert "no pretrained weights for 'resnet18" in said[0]
    assert "Stage 0 stands in: the trunk learns from random weights" in said[0]


def test_without_a_stage_zero_the_missing_weights_are_an_error(small_config, no_network):
    with pytest.raises(WeightsNotFoundError, match=r"Or give stage0 a length, e\.g\. stage0\.epochs=20"):
        find_starting_weights(small_config(PRETRAINED, "stage0.steps=0"), 3)


def test_a_stage_zero_for_want_of_weights_is_left_out_where_there_are_some(small_config, monkeypatch):
    settings = small_config("stage0.when=without_weights")
    assert find_starting_weights(settings, 3)[0].stage0.steps == 2  # random weights
    from ipad_train import start

    built = start.create_model("ipad_tiny", num_attributes=3, **settings.model.options)
    built.trunk.started_from["source"] = "hub timm/x"
    monkeypatch.setattr(start, "create_model", lambda *arguments, **options: built)
    config, weights, said = find_starting_weights(settings, 3)
    assert [name for name, _ in config.stages()] == ["stage1", "stage2"]
    assert "hub timm/x" in weights["trunk"]
    assert said == []


@pytest.mark.parametrize(
    ("stage", "when"),
    [("stage1", "without_weights"), ("stage2", "without_weights"), ("stage0", "larger_photos"), ("stage2", "never")],
)
def test_a_stage_depends_only_on_what_concerns_it(small_config, stage, when):
    with pytest.raises(ValueError, match=rf"{stage}\.when must be 'always'.*, got '{when}'"):
        small_config(f"{stage}.when={when}")


def test_the_second_branch_is_left_out_where_the_photos_have_nothing_to_zoom_into(small_config):
    # The rendered photos of 64 px, where IP-SP reads 32, and then 64.
    larger = small_config("stage2.when=larger_photos")
    data = load_data(larger.data)
    assert leave_out_zoom(larger, data) == (larger, [])
    reads_all = small_config("stage2.when=larger_photos", "model.options.image_size=64")
    config, said = leave_out_zoom(reads_all, data)
    assert [name for name, _ in config.stages()] == ["stage0", "stage1"]
    assert "IP-SP reads 64 px and the longer side of half of the photos has at most 64" in said[0]
    always = small_config("model.options.image_size=64")
    assert leave_out_zoom(always, data) == (always, [])


def test_the_plan_says_what_is_about_to_happen(small_config):
    config = small_config("rerank.enabled=true", "stage1.sampler=triplet")
    lines = describe_plan(config, load_data(config.data), {"trunk": "resnet10t from random weights"})
    text = "\n".join(lines)
    assert "data: rendered, 48 labelled training images" in text
    assert "network: ipad_tiny; trunk: resnet10t from random weights" in text
    assert "stage0: 2 steps of 16 images = 0.7 epochs" in text
    assert "stage1: 3 steps of 16 triplets = 0.0 epochs" in text
    assert "re-ranking is fitted on the validation split" in text


def test_a_stage_too_short_for_the_cluster_loss_is_named(small_config):
    config = small_config("clusters.refresh_every=50")
    text = "\n".join(describe_plan(config, load_data(config.data), {}))
    assert "stage2 is shorter than clusters.refresh_every=50: the cluster loss never starts" in text


def test_a_second_stage_of_one_branch_is_refused_at_the_start(small_config):
    options = "model.options={image_size: 32, embed_dim: 16}"
    with pytest.raises(ValueError, match=r"stage2 trains a second branch, which .*'csn_tiny' does not have"):
        find_starting_weights(small_config("model.name=csn_tiny", options), 3)


def test_an_option_that_the_network_does_not_take_is_named_before_anything_is_trained(small_config):
    with pytest.raises(ValueError, match=r"model\.options does not fit model\.name 'ipad_tiny': .*latent_dimm"):
        find_starting_weights(small_config("model.options={latent_dimm: 16}"), 3)
