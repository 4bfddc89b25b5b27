from __future__ import annotations

import pytest

from ipad_core import create_model
from ipad_core.layers.iterative_attention import READINGS
from ipad_train.ablation.readings import attention_readings, fusion_readings
from ipad_train.config import LossConfig
from ipad_train.data import load_data
from ipad_train.networks import network_options


def attention_of(config, name):
    found = attention_readings(network_options(config, load_data(config.data)))
    run = found[name](config)
    return run, create_model(run.model.name, num_attributes=6, **run.model.options).spatial.attention


def test_every_reading_is_a_network_with_one_branch_and_stage_one_as_configured(small_config):
    config = small_config()
    found = attention_readings(network_options(config, load_data(config.data)))
    options = set()
    for change in found.values():
        run = change(config)
        assert (run.stage1, run.stage2.is_trained, run.clusters.enabled) == (config.stage1, False, False)
        model = create_model(run.model.name, num_attributes=6, **run.model.options)
        assert model.semantic is None
        options.add(str(sorted(run.model.options.items(), key=str)))
    assert len(options) == len(found)


@pytest.mark.parametrize(
    ("row", "reading"), [("the text has them", "literal"), ("the public code has them", "public_code")]
)
def test_a_whole_reading_leaves_nothing_of_the_configured_attention(small_config, row, reading):
    config = small_config("model.options.attention={carry: scaled, sharpness: 4.0}")
    _, attention = attention_of(config, f"Eq. 1 to 5 as {row}")
    assert (attention.carry, attention.suppression) == (READINGS[reading]["carry"], READINGS[reading]["suppression"])
    assert attention.spatial.gain == pytest.approx(16**-0.5)  # c' = 16, sharpness 1


def test_a_reading_of_one_equation_leaves_the_others_as_configured(small_config):
    config = small_config("model.options.attention={carry: scaled}", "model.options.iterations=2")
    _, attention = attention_of(config, "Eq. 2: the peak is erased")
    assert (attention.carry, attention.suppression, attention.iterations) == ("scaled", "erase_peak", 2)
    _, attention = attention_of(config, "one round, three times as sharp")
    assert (attention.carry, attention.iterations) == ("scaled", 1)
    assert attention.spatial.gain == pytest.approx(3 * 16**-0.5)


@pytest.mark.parametrize(("configured", "used"), [(0.0, LossConfig().contrast_weight), (0.5, 0.5)])
def test_contrast_and_fusion(small_config, configured, used):
    config = small_config(f"losses.contrast_weight={configured}")
    runs = {name: change(config) for name, change in fusion_readings(config).items()}
    assert [(run.losses.contrast_weight, run.model.options["fusion"]) for run in runs.values()] == [
        (used, "sum"),
        (used, "concat"),
        (0.0, "sum"),
        (0.0, "concat"),
    ]
    assert all(run.stage2 == config.stage2 for run in runs.values())
