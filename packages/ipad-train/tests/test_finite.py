"""Steps whose loss or gradient is not finite."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ipad_core import AttributeEmbedder
from ipad_train.checkpoint import checkpoint_path, find_checkpoint, read_state
from ipad_train.data import load_data
from ipad_train.finite import DivergedError, check_finite, spoiled, step_fails
from ipad_train.launch import make_accelerator
from ipad_train.objectives import MetricLearning
from ipad_train.run_context import RunContext
from ipad_train.stage_lengths import resolve_stages
from ipad_train.stage_start import start_stage
from ipad_train.step import Stepper
from ipad_train.tracking import read_metrics
from ipad_train.training import Training


def quiet(line):
    pass


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_a_loadable_checkpoint(small_config, monkeypatch, value):
    original = MetricLearning.forward
    calls = []

    def forward(self, batch):
        calls.append(1)
        losses = original(self, batch)
        return {"loss": losses["loss"] * (value if len(calls) == 3 else 1.0)}

    monkeypatch.setattr(MetricLearning, "forward", forward)
    config = small_config("loop.save_every=1", "stage2.steps=0", "loop.max_skipped=0")
    with pytest.raises(DivergedError, match="stage1, or its gradient, became NaN or infinite at step 3;"):
        Training(config, None, quiet).run()
    path = find_checkpoint(Path(config.output_dir))
    model = AttributeEmbedder.from_pretrained(path / "model")
    assert all(torch.isfinite(value).all() for value in model.state_dict().values() if value.is_floating_point())


def test_a_gradient_that_is_not_finite_is_never_saved_though_the_loss_is(small_config, monkeypatch):
    original = MetricLearning.forward
    calls = []

    def forward(self, batch):
        calls.append(1)
        losses = original(self, batch)
        if len(calls) == 3:
            parameter = next(self.parameters())
            losses["loss"] = losses["loss"] + (0 * parameter).sqrt().sum() * 0  # 0, with a gradient of 0 * infinity
        return losses

    monkeypatch.setattr(MetricLearning, "forward", forward)
    settings = ("stage0.steps=0", "stage2.steps=0", "stage1.steps=5", "loop.save_every=1", "loop.max_skipped=0")
    config = small_config(*settings)
    with pytest.raises(DivergedError, match="stage1, or its gradient, became NaN or infinite at step 3;"):
        Training(config, None, quiet).run()
    path = find_checkpoint(Path(config.output_dir))
    assert path.name == "step-00000002"
    tensors = load_file(path / "model" / "model.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values() if tensor.is_floating_point())
    monkeypatch.setattr(MetricLearning, "forward", original)
    Training(config, "auto", quiet).run()  # and it resumes
    assert all(row["gradient_norm"] > 0 for row in read_metrics(Path(config.output_dir)) if "loss" in row)


def spoil(monkeypatch, steps):
    """Images of these calls of stage 1's objective are not finite."""
    original, calls = MetricLearning.forward, []

    def forward(self, batch):
        calls.append(1)
        factor = float("nan") if len(calls) in steps else 1.0
        return original(self, {**batch, "images": batch["images"] * factor})

    monkeypatch.setattr(MetricLearning, "forward", forward)


def test_a_step_that_is_not_finite_changes_nothing_and_the_run_goes_on(small_config, monkeypatch):
    spoil(monkeypatch, {3})
    settings = ("stage0.steps=0", "stage2.steps=0", "stage1.steps=5", "loop.save_every=1", "loop.keep_checkpoints=9")
    said = []
    Training(small_config(*settings), None, said.append).run()
    run = Path(small_config().output_dir)
    before, after, later = (checkpoint_path(run, step) for step in (2, 3, 4))
    tensors = [load_file(path / "model" / "model.safetensors") for path in (before, after, later)]
    assert any("running" in name for name in tensors[0])
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])  # running statistics as well
    assert not all(torch.equal(tensors[1][name], tensors[2][name]) for name in tensors[0])
    optimizer = [load_file(path / "optimizer-0.safetensors") for path in (before, after)]
    assert all(torch.equal(optimizer[0][name], optimizer[1][name]) for name in optimizer[0])
    assert read_state(after)["health"] == {"skipped": 1, "in_a_row": 1, "collapsed": []}
    assert read_state(later)["health"] == {"skipped": 1, "in_a_row": 0, "collapsed": []}
    rows = read_metrics(run)
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 4, 5]
    (skipped,) = [row for row in rows if "skipped_steps" in row]
    assert (skipped["step"], skipped["skipped_steps"]) == (3, 1)
    (event,) = [row["event"] for row in rows if "event" in row]
    assert event == "step 3 of stage1 is skipped: its loss is not finite (1 of this stage so far)"
    assert any(line.startswith("  stage1: ") and line.endswith("; 1 steps skipped") for line in said)


def test_too_many_in_a_row_end_the_run_and_the_last_checkpoint_goes_on(small_config, monkeypatch):
    spoil(monkeypatch, {2, 3, 4, 5})
    settings = ("stage0.steps=0", "stage2.steps=0", "stage1.steps=6", "loop.save_every=1", "loop.max_skipped=2")
    config = small_config(*settings)
    with pytest.raises(DivergedError, match=r"became NaN or infinite at step 4, 3 times in a row; training stopped"):
        Training(config, None, quiet).run()
    found = find_checkpoint(Path(config.output_dir))
    assert read_state(found)["health"]["in_a_row"] == 2  # of the steps that were skipped before the last one
    with pytest.raises(DivergedError, match="at step 4, 3 times in a row"):  # call 5: the count goes on where it was
        Training(config, "auto", quiet).run()
    assert find_checkpoint(Path(config.output_dir)) == found
    assert Training(config, "auto", quiet).run()["rows"]


def test_a_loss_that_is_not_finite_has_no_finite_gradient_and_a_finite_one_keeps_its_own():
    for value, finite in ((2.0, True), (float("inf"), False), (float("nan"), False)):
        weight = torch.tensor([3.0, 0.5], requires_grad=True)
        loss = (weight.square().sum() * 0.1) + value
        spoiled(loss).backward()
        assert bool(weight.grad.isfinite().all()) == finite
        if finite:
            assert torch.equal(spoiled(loss), loss)
            torch.testing.assert_close(weight.grad, torch.tensor([0.6, 0.1]))


class OneProcess:
    """Of an accelerator, what deciding on a step asks."""

    num_processes, device = 1, torch.device("cpu")

    def __init__(self, scaler=None):
        self.scaler = scaler

    def gather(self, tensor):
        return tensor


def test_overflows_that_the_scaler_of_fp16_leaves_out_by_itself_do_not_count():
    losses, bad = [torch.tensor(1.0), torch.tensor(2.0)], [torch.tensor(1.0), torch.tensor(float("nan"))]
    assert not step_fails(OneProcess(torch.amp.GradScaler("cpu")), losses, torch.tensor(float("inf")))
    assert step_fails(OneProcess(torch.amp.GradScaler("cpu")), bad, torch.tensor(float("inf")))
    assert step_fails(OneProcess(), losses, torch.tensor(float("inf")))
    assert not step_fails(OneProcess(), losses, torch.tensor(3.0))
    assert step_fails(OneProcess(), bad, None)  # an engine that does not say


def spoil_gradient(monkeypatch, steps):
    """The loss of these calls of stage 1's objective is finite, and its gradient is not."""
    original, calls = MetricLearning.forward, []

    def forward(self, batch):
        calls.append(1)
        losses = original(self, batch)
        if len(calls) in steps:
            losses["loss"] = losses["loss"] + (0 * next(self.parameters())).sqrt().sum() * 0
        return losses

    monkeypatch.setattr(MetricLearning, "forward", forward)


@pytest.mark.parametrize(("scale", "counted"), [(4.0, 0), (1.0, 1)])
def test_a_step_that_the_scaler_leaves_out_changes_nothing_and_counts_once_no_scale_helps(
    small_config, monkeypatch, scale, counted
):
    config = small_config("stage0.steps=0", "stage2.steps=0", "stage1.steps=4", "loop.max_skipped=3")
    accelerator = make_accelerator(config)
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale)  # Accelerate makes one on a GPU only
    data = load_data(config.data)
    config, _ = resolve_stages(config, data, 1)
    run = start_stage(RunContext(config, data, accelerator, quiet), "stage1", config.stage1, 0, None)
    spoil_gradient(monkeypatch, {2})
    stepper = Stepper(run, accelerator, config.loop)
    states, said = [], []
    for _ in range(3):
        said += stepper.step()
        run.step += 1
        states.append({name: tensor.clone() for name, tensor in run.objective.state_dict().items()})
    assert any("running" in name for name in states[0])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not all(torch.equal(states[1][name], states[2][name]) for name in states[1])
    assert accelerator.scaler.get_scale() == scale / 2
    assert (run.health.skipped, len(said)) == (counted, counted)


def test_weights_that_are_not_finite_are_named_and_not_saved():
    good = {"a": torch.ones(3), "ids": torch.arange(3)}
    check_finite(OneProcess(), [good], "step 5 of stage1")
    with pytest.raises(DivergedError, match=r"1 tensors hold NaN or infinity after step 5 of stage1: trunk\.weight"):
        check_finite(OneProcess(), [good, {"trunk.weight": torch.tensor([1.0, float("inf")])}], "step 5 of stage1")
