from __future__ import annotations

import pytest

from ipad_core import create_model
from ipad_core.layers.iterative_attention import READINGS
from ipad_train.ablation.variants import FIGURES, TABLES, figures
from ipad_train.data import load_data
from ipad_train.networks import network_options


@pytest.fixture
def made(small_config):
    config = small_config("stage1.steps=30", "stage2.steps=10", "stage2.spatial_learning_rate=1e-3")
    return config, figures(config, network_options(config, load_data(config.data)))


def apply(made, number, label):
    config, found = made
    return found[number].variants[label](config)


def test_what_each_figure_compares(made):
    assert {name: list(made[1][name].variants) for name in FIGURES} == {
        "2": ["w/o SE", "w/o SP", "w/ IP"],
        "3": ["w/o ISA", "w/o ICA", "w/o AS", "w/ IA"],
        "4": ["w/o ME", "w/o ME-SP", "w/o ME-SE", "w/ ME"],
        "5": [str(count) for count in range(1, 11)],
        "6": ["w/ ME"],
    }
    assert set(made[1]) == {*FIGURES, *TABLES}


@pytest.mark.parametrize(("number", "label"), [("2", "w/o SE"), ("2", "w/o SP"), ("3", "w/ IA"), ("5", "7")])
def test_one_branch_trains_as_long_as_both_and_without_clusters(made, number, label):
    run = apply(made, number, label)
    assert (run.stage1.steps, run.stage2.is_trained, run.clusters.enabled) == (40, False, False)


def test_branches(made):
    assert apply(made, "2", "w/o SE").model.options["semantic"] is False
    without = apply(made, "2", "w/o SP")
    assert without.model.options["spatial"] is False
    assert not without.data.keep_maps
    both = apply(made, "2", "w/ IP")
    assert both.model == made[0].model
    assert (both.stage2.steps, both.clusters.enabled) == (10, False)


def test_components_of_the_attention(made):
    options = {label: apply(made, "3", label).model.options.get("attention") for label in made[1]["3"].variants}
    soft = {key: READINGS["soft"][key] for key in ("suppression", "suppression_ratio")}
    assert options["w/ IA"] == soft
    assert options["w/o ISA"] == {**soft, "spatial": False}
    assert options["w/o ICA"] == {**soft, "channel": False}
    assert options["w/o AS"] is None
    assert apply(made, "3", "w/o AS") == apply(made, "2", "w/o SE")


def test_without_suppression_where_the_configuration_has_one(small_config):
    config = small_config("model.options.reading=soft")
    found = figures(config, network_options(config, load_data(config.data)))["3"].variants
    assert found["w/o AS"](config).model.options["attention"]["suppression"] == "none"
    assert found["w/ IA"](config).model.options["attention"]["suppression"] == "soft"


def test_momentum(made):
    assert not apply(made, "4", "w/o ME").clusters.enabled
    assert apply(made, "4", "w/o ME-SP").losses.spatial_center_weight == 0
    assert apply(made, "4", "w/o ME-SE").losses.semantic_center_weight == 0
    assert apply(made, "4", "w/ ME") == made[0]


@pytest.mark.parametrize("reading", ["default", "soft", "public_code"])
def test_every_number_of_rounds_is_a_network(small_config, reading):
    config = small_config(f"model.options.reading={reading}")
    found = figures(config, network_options(config, load_data(config.data)))
    for count in ("1", "3", "10"):
        model = found["5"].variants[count](config).model
        built = create_model(model.name, num_attributes=6, **model.options)
        assert built.spatial.attention.iterations == int(count)
        assert built.spatial.attention.suppression == READINGS[reading]["suppression"]
