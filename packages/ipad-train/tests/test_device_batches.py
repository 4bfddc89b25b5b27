"""Batches taken ahead: in order, as many as there are, errors where they belong; a run that resumes is the same."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch

from ipad_train.device_batches import DeviceBatches
from ipad_train.tracking import read_metrics
from ipad_train.training import Training

CPU = torch.device("cpu")


class Loader:
    """Counts what was taken from it; the batch of ``fails`` cannot be read."""

    def __init__(self, count, fails=None):
        self.count, self.fails, self.taken = count, fails, 0

    def __iter__(self):
        return self

    def __next__(self):
        if self.taken == self.count:
            raise StopIteration
        self.taken += 1
        if self.taken - 1 == self.fails:
            raise OSError(f"batch {self.fails} cannot be read")
        return {"ids": torch.tensor([self.taken - 1]), "images": torch.full((2, 3), self.taken - 1.0)}


@pytest.mark.parametrize(("ahead", "taken"), [(None, 0), (False, 0), (True, 1)])
def test_every_batch_comes_once_and_in_order(ahead, taken):
    loader = Loader(4)
    batches, found = DeviceBatches(loader, CPU, ahead), []
    for number, batch in enumerate(batches):
        found.append(int(batch["ids"]))
        assert torch.equal(batch["images"], torch.full((2, 3), float(number)))
        batches.fetch()
        batches.fetch()  # one batch ahead, however often it is called
        assert loader.taken == min(number + 1 + taken, 4)
    assert found == [0, 1, 2, 3]
    with pytest.raises(StopIteration):
        next(batches)


@pytest.mark.parametrize("ahead", [False, True])
def test_an_error_of_the_loader_is_raised_for_its_batch_and_not_before(ahead):
    batches = DeviceBatches(Loader(4, fails=2), CPU, ahead)
    for number in range(2):
        assert int(next(batches)["ids"]) == number
        batches.fetch()
    with pytest.raises(OSError, match="batch 2 cannot be read"):
        next(batches)
    assert int(next(batches)["ids"]) == 3


def test_a_run_that_takes_batches_ahead_stops_and_resumes_as_one_that_does_not(small_config, monkeypatch, interrupt):
    settings = ("stage0.steps=0", "stage1.steps=5", "stage2.steps=0", "stage1.accumulation=2")
    plain = small_config(*settings, output="plain")
    Training(plain, None, lambda line: None).run()
    monkeypatch.setattr("ipad_train.stage_start.DeviceBatches", functools.partial(DeviceBatches, ahead=True))
    ahead = small_config(*settings, output="ahead")
    undo = interrupt(3)
    with pytest.raises(interrupt.Error):
        Training(ahead, None, lambda line: None).run()
    undo()
    Training(ahead, "auto", lambda line: None).run()
    losses = [[row["loss"] for row in read_metrics(Path(run.output_dir)) if "loss" in row] for run in (plain, ahead)]
    assert len(losses[0]) == 5
    assert losses[0] == losses[1]


@pytest.mark.gpu
def test_copies_in_the_background_are_those_of_plain_copies():
    """The kernels of a step outlast the next copies, and memory is used again: each batch must stay what it was."""
    device = torch.device("cuda")
    random = torch.Generator().manual_seed(0)
    wanted = [torch.randn(1 << 22, generator=random) for _ in range(12)]
    pinned = ({"images": images.pin_memory()} for images in wanted)
    batches, sums = DeviceBatches(pinned, device), []
    weight = torch.randn(4096, 4096, device=device)
    for batch in batches:
        images = batch.pop("images")
        for _ in range(20):
            busy = weight @ weight  # the stream of the step is behind
        batches.fetch()
        sums.append((images.double().sum() + 0 * busy.double().sum(), images.square().double().sum()))
        del images
    assert len(sums) == len(wanted)
    for images, (total, squares) in zip(wanted, sums, strict=True):
        on_device = images.to(device)
        torch.testing.assert_close(total, on_device.double().sum())
        torch.testing.assert_close(squares, on_device.square().double().sum())
