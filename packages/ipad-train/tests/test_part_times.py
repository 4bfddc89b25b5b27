"""Seconds of the parts of training."""

from __future__ import annotations

import pytest
import torch

from ipad_train.part_times import PartTimes


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
