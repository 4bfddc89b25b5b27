from __future__ import annotations

import json
import math

import pytest
import torch
from torch import nn

from ipad_train.config import StageConfig
from ipad_train.optim import (
    build_optimizer,
    learning_rate_scale,
    learning_rates,
    load_optimizer_tensors,
    load_scaler,
    optimizer_tensors,
    scaler_state,
)


class Objective(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = nn.Module()
        self.model.spatial = nn.Linear(3, 2)
        self.model.semantic = nn.Linear(3, 2)


def test_one_cycle_by_hand():
    stage = StageConfig(steps=10, warmup=0.2)
    assert learning_rate_scale(stage, 0) == pytest.approx(1 / 3)
    assert learning_rate_scale(stage, 1) == pytest.approx(2 / 3)
    assert learning_rate_scale(stage, 2) == 1.0
    assert learning_rate_scale(stage, 6) == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.5)))


def test_step_decay_by_hand():
    stage = StageConfig(steps=100, schedule="step", decay=0.5, decay_every=10)
    assert [learning_rate_scale(stage, step) for step in (0, 9, 10, 25)] == [1.0, 1.0, 0.5, 0.25]


def test_groups_take_their_rates_and_vectors_are_not_decayed():
    optimizer = build_optimizer(
        Objective(), StageConfig(learning_rate=1.0, spatial_learning_rate=0.1, weight_decay=0.3)
    )
    found = {(group["lr"], group["weight_decay"], group["params"][0].ndim) for group in optimizer.param_groups}
    assert found == {(0.1, 0.3, 2), (0.1, 0.0, 1), (1.0, 0.3, 2), (1.0, 0.0, 1)}


def test_trunks_take_no_more_than_their_own_rate():
    objective = Objective()
    objective.model.spatial = nn.ModuleDict({"trunk": nn.Linear(3, 2), "head": nn.Linear(3, 2)})
    stage = StageConfig(steps=10, warmup=0.2, learning_rate=1.0, spatial_learning_rate=0.1, trunk_learning_rate=0.03)
    rates = {id(p): group["lr"] for group in build_optimizer(objective, stage).param_groups for p in group["params"]}
    parts = (objective.model.spatial["trunk"], objective.model.spatial["head"], objective.model.semantic)
    assert [rates[id(part.weight)] for part in parts] == [0.03, 0.1, 1.0]
    assert learning_rates(stage, 0)["learning_rate/trunk"] == pytest.approx(0.01)
    with pytest.raises(ValueError, match="trunk_learning_rate must be positive"):
        StageConfig(trunk_learning_rate=0.0)


def test_nothing_to_train_is_an_error():
    objective = Objective().requires_grad_(False)
    with pytest.raises(ValueError, match="nothing to train"):
        build_optimizer(objective, StageConfig())


def test_saved_state_continues_bit_for_bit():
    def step(objective, optimizer, seed):
        torch.manual_seed(seed)
        loss = objective.model.semantic(torch.randn(4, 3)).square().mean() + objective.model.spatial.weight.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    stage = StageConfig(learning_rate=0.1)
    torch.manual_seed(0)
    straight = Objective()
    optimizer = build_optimizer(straight, stage)
    step(straight, optimizer, 1)
    resumed = Objective()
    resumed.load_state_dict(straight.state_dict())
    other = build_optimizer(resumed, stage)
    load_optimizer_tensors(other, optimizer_tensors(optimizer))
    step(straight, optimizer, 2)
    step(resumed, other, 2)
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_state_of_other_parameters_is_refused():
    optimizer = build_optimizer(Objective(), StageConfig())
    with pytest.raises(ValueError, match="does not train"):
        load_optimizer_tensors(optimizer, {"9.0.exp_avg": torch.zeros(2)})
    with pytest.raises(ValueError, match="shape"):
        load_optimizer_tensors(optimizer, {"0.0.exp_avg": torch.zeros(7, 7)})


def test_the_loss_scale_of_fp16_is_part_of_the_state():
    """A scaler that has met an overflow and then grown goes on as it would have."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)

    def steps(scaler, gradients):
        for gradient in gradients:
            optimizer.param_groups[0]["params"][0].grad = torch.tensor([gradient]) * scaler.get_scale()
            scaler.scale(torch.ones(1))  # as a step does before its backward pass
            scaler.step(optimizer)
            scaler.update()
        return scaler.get_scale()

    def make():
        return torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=3)

    before, after = make(), make()
    steps(before, [1.0, float("inf"), 1.0, 1.0])
    state = json.loads(json.dumps(scaler_state(before)))
    load_scaler(after, state)
    assert steps(after, [1.0]) == steps(before, [1.0]) == 8.0  # halved, then doubled after three good steps


def test_without_a_scaler_there_is_nothing_to_save():
    assert scaler_state(None) == {}
    load_scaler(None, {})
