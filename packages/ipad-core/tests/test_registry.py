from __future__ import annotations

import pytest

from ipad_core import IPAD, create_model, list_models, model_options, register_model


def test_names_are_sorted_and_filtered():
    names = list_models()
    assert names == sorted(names)
    assert {"ipad", "ipad_tiny", "ipad_resnet50_vitb16", "csn", "triplet", "attribute_classifier"} <= set(names)
    assert list_models("ipad*") == ["ipad", "ipad_photos", "ipad_resnet50_vitb16", "ipad_tiny"]
    assert list_models("nothing*") == []


def test_unknown_name_lists_the_nearest():
    with pytest.raises(ValueError, match=r"unknown model 'ipad_tinny'; did you mean one of: ipad_tiny"):
        create_model("ipad_tinny", num_attributes=2)
    with pytest.raises(ValueError, match=r"attribute_classifier, .*triplet_tiny"):
        create_model("xyz")


def test_misspelt_option_is_a_type_error():
    with pytest.raises(TypeError, match="embed_dims"):
        create_model("ipad_tiny", num_attributes=2, embed_dims=8)


def test_a_name_is_taken_once():
    with pytest.raises(ValueError, match="a model named 'ipad' is registered already"):
        register_model(IPAD)


def test_the_options_of_a_network_by_name():
    assert model_options("csn") == ["num_attributes", "embed_dim", "image_size", "trunk", "position_channels"]
    assert model_options("ipad_tiny") == []
    with pytest.raises(ValueError, match="unknown model 'cns'; did you mean one of: csn"):
        model_options("cns")
