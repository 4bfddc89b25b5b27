"""Seconds of the parts of training."""

from __future__ import annotations

import pytest
import torch

from ipad_train.part_times import GpuMemory, PartTimes


def test_parts_add_up_and_are_read_once():
    now = [0.0]
    times = PartTimes(torch.device("cpu"), now=lambda: now[0])
    for seconds in (1.0, 3.0):
        with times.part("forward"):
            now[0] += seconds
    with times.part("data"):
        now[0] += 0.5
    now[0] += 2.0  # nobody's
    assert times.read() == ({"data": 0.5, "forward": 4.0}, 6.5)
    assert times.read() == ({}, 0.0)


def test_without_a_gpu_there_is_no_memory_of_one():
    assert GpuMemory(torch.device("cpu")).most() is None


@pytest.mark.gpu
def test_the_most_memory_of_a_gpu_is_what_was_taken_since_then():
    device = torch.device("cuda")
    torch.empty(2**28, device=device, dtype=torch.uint8)
    memory, held = GpuMemory(device), torch.cuda.memory_allocated(device) / 2**30  # by other tests of this process
    kept = torch.empty(2**27, device=device, dtype=torch.uint8)
    assert len(kept) / 2**30 <= memory.most() - held < 0.25


@pytest.mark.gpu
def test_a_gpus_parts_are_timed_without_waiting_for_it():
    times = PartTimes(torch.device("cuda"))
    matrix = torch.randn(4096, 4096, device="cuda")
    with times.part("forward"):
        for _ in range(20):
            matrix = matrix @ matrix * 1e-3
    torch.cuda.synchronize()
    seconds, elapsed = times.read()
    assert 0 < seconds["forward"] <= elapsed
