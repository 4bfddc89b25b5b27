from __future__ import annotations

import pytest

from ipad_core.backbones import build_trunk, overlay_options, trunk_mapping, without_weights
from ipad_core.backbones.trunk_mapping import TRUNK_KEYS

BASE = {
    "image_size": 96,
    "trunk": {"name": "resnet10t", "stage": 3, "options": {"stem_width": 16, "output_stride": 8}},
}


def test_keys_are_the_arguments_of_the_trunk():
    assert TRUNK_KEYS == ("name", "stage", "options", "pretrained", "weights", "freeze", "freeze_norm")


def test_a_name_alone_and_a_mapping():
    options = {"channels": [8, 8, 16, 16], "stem_width": 8}
    assert build_trunk("resnet10t", 64).num_features == 256
    trunk = build_trunk({"name": "resnet10t", "stage": [2, 3], "options": options, "freeze": 1}, 64)
    assert trunk.num_features == 24
    assert not trunk.features.conv1[0].weight.requires_grad


def test_the_mapping_of_the_caller_is_copied():
    given = {"name": "resnet10t"}
    assert trunk_mapping(given) == given
    assert trunk_mapping(given) is not given
    assert trunk_mapping("resnet10t") == {"name": "resnet10t"}


def test_an_unknown_key_names_the_nearest():
    with pytest.raises(TypeError, match="trunk has no key 'pretraind'; did you mean one of: pretrained"):
        trunk_mapping({"pretraind": True})
    with pytest.raises(
        TypeError, match="semantic_trunk has no key 'xyz'; did you mean one of: name, stage, options, "
    ):
        trunk_mapping({"xyz": True}, "semantic_trunk")


@pytest.mark.parametrize("trunk", [None, 3, ["resnet50"]])
def test_what_is_no_mapping(trunk):
    with pytest.raises(TypeError, match="trunk must be the name of a network or a mapping, got "):
        trunk_mapping(trunk)


def test_keys_are_merged_and_options_replaced_whole():
    merged = overlay_options(BASE, {"trunk": {"pretrained": True}, "embed_dim": 8})
    assert merged == {**BASE, "trunk": {**BASE["trunk"], "pretrained": True}, "embed_dim": 8}
    narrow = overlay_options(BASE, {"trunk": {"options": {"stem_width": 8}}})["trunk"]
    assert narrow == {"name": "resnet10t", "stage": 3, "options": {"stem_width": 8}}
    assert overlay_options(BASE, {"trunk": {"name": "resnet10t.c3_in1k"}})["trunk"]["stage"] == 3
    assert "pretrained" not in BASE["trunk"]


@pytest.mark.parametrize("trunk", ["resnet18", {"name": "resnet18"}])
def test_another_network_stands_alone(trunk):
    assert overlay_options(BASE, {"trunk": trunk})["trunk"] == {"name": "resnet18"}


def test_both_trunks_are_merged():
    base = {"semantic_trunk": {"name": "hybrid", "options": {"depth": 2}}}
    assert overlay_options(base, {"semantic_trunk": {"options": {"depth": 1}}}) == {
        "semantic_trunk": {"name": "hybrid", "options": {"depth": 1}}
    }
    assert overlay_options(base, {"trunk": "resnet18"}) == {**base, "trunk": "resnet18"}


def test_without_weights_nothing_else_changes():
    given = {
        "trunk": {"name": "resnet18", "pretrained": True, "freeze": 1},
        "semantic_trunk": {"weights": "a.pth"},
        "beta": 1,
    }
    assert without_weights(given) == {"trunk": {"name": "resnet18", "freeze": 1}, "semantic_trunk": {}, "beta": 1}
    assert given["trunk"]["pretrained"] is True
