"""The loss scale of fp16 under DeepSpeed: as DeepSpeed adapts it, asked and saved as plain numbers."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from ipad_train.deepspeed_scaler import DeepSpeedScaler
from ipad_train.finite import looks_for_a_scale
from ipad_train.launcher import check_deepspeed
from ipad_train.optim import load_scaler, scaler_state

pytest.importorskip("deepspeed")


@pytest.fixture(autouse=True)
def _one_process(monkeypatch):
    """DeepSpeed's scaler asks for the rank before it says something, and there is no group of processes here."""
    monkeypatch.setattr("deepspeed.comm.get_rank", lambda: 0)


def steps(scaler, overflows):
    """The scale of each step's loss."""
    scales = []
    for overflow in overflows:
        scales.append(float(scaler.scale_loss(torch.tensor(1.0))))
        assert scaler.cur_scale == scales[-1]
        scaler.update_scale(overflow)
        assert scaler.cur_scale == scales[-1]  # by which ZeRO divides the gradients of this step
    return scales


def test_a_scale_falls_after_overflows_and_grows_after_a_window_by_hand():
    scaler = DeepSpeedScaler({"initial_scale_power": 4, "loss_scale_window": 2, "hysteresis": 2})
    # The first overflow uses up one of two chances. Two good steps after the one that follows the last overflow, it doubles.
    found = steps(scaler, [False, False, True, True, False, False, False, False])
    assert found == [16, 16, 16, 16, 8, 8, 8, 16]
    assert scaler.get_scale() == 16


def test_settings_that_are_not_given_are_those_of_deepspeed():
    scaler = DeepSpeedScaler({"enabled": True, "auto_cast": True})  # as Accelerate makes them
    assert (scaler.dynamic, scaler.get_scale(), scaler.lowest) == (True, 65536.0, 1.0)
    assert (scaler.scaler.scale_window, scaler.scaler.delayed_shift) == (1000, 2)


def test_at_the_lowest_scale_a_step_that_overflows_counts_as_failed_and_is_no_error():
    scaler = DeepSpeedScaler({"initial_scale_power": 2, "hysteresis": 1, "min_loss_scale": 2})
    assert looks_for_a_scale(scaler)
    steps(scaler, [True, True, True])
    assert scaler.get_scale() == scaler.lowest == 2
    assert not looks_for_a_scale(scaler)
    low = DeepSpeedScaler({"initial_scale_power": 1, "hysteresis": 1})
    steps(low, [True])
    assert (low.get_scale(), looks_for_a_scale(low)) == (1, False)


def test_a_fixed_scale_stays_and_looks_for_no_other():
    scaler = DeepSpeedScaler({"loss_scale": 128})
    assert steps(scaler, [False, True, False]) == [128, 128, 128]
    assert not scaler.dynamic
    assert not looks_for_a_scale(scaler)


def test_saved_numbers_continue_where_they_were():
    settings = {"initial_scale_power": 6, "loss_scale_window": 3, "hysteresis": 2}
    before, after = DeepSpeedScaler(settings), DeepSpeedScaler(settings)
    steps(before, [False, True, False, True, False, False])
    load_scaler(after, json.loads(json.dumps(scaler_state(before))))
    later = [False, False, True, False, False, False, False]
    assert steps(after, later) == steps(before, later)
    assert scaler_state(after) == scaler_state(before)


def test_the_numbers_of_another_scaler_are_refused():
    native = torch.amp.GradScaler("cpu").state_dict()
    with pytest.raises(ValueError, match=r"holds a loss scale with _growth_tracker, .*, this run needs cur_scale, "):
        load_scaler(DeepSpeedScaler({}), native)
    with pytest.raises(ValueError, match="of a fixed scale and one that adapts"):
        load_scaler(DeepSpeedScaler({"loss_scale": 8}), scaler_state(DeepSpeedScaler({})))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"loss_scale": -1}, "loss_scale must be >= 0"),
        ({"loss_scale_window": 0}, "loss_scale_window must be > 0"),
        ({"fp16_master_weights_and_grads": True}, "optimizer's weights are float32 here"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_the_first_batch(small_config, settings, said):
    plugin = SimpleNamespace(deepspeed_config={"zero_optimization": {"stage": 2}, "fp16": settings})
    with pytest.raises(ValueError, match=said):
        check_deepspeed(plugin, small_config(), "fp16")
