"""What a GPU would see of a training step, on the meta device: tensors without numbers, which stand for those of any device.

A step that reads a number, copies some to the device, or makes a tensor on the CPU fails.
"""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from ipad_core import create_model, list_models
from ipad_core.clustering import ClusterCenters, FeatureQueue, MomentumEncoder
from ipad_core.losses import BatchAllTripletLoss, ClusterCenterLoss, ForegroundBackgroundLoss, TripletLoss

SIZES = {
    "attribute_classifier_tiny": {"num_values": [2, 3, 4]},
    "haen_tiny": {"types": [0, 1, 0]},
    "lens": {"image_size": 96, "trunk": "resnet10t"},
}
VARIANTS = {
    "ipad_tiny with background": ({}, {"background": True, "maps": True}),
    "the paper's text": ({"reading": "literal"}, {"background": True}),
    "a query that moves": ({"reading": "mlp_xy", "attention": {"suppression": "soft"}}, {}),
    "without SP": ({"spatial": False}, {}),
}


_WAITING = {
    "aten._local_scalar_dense.default": "a number of the device's is read",
    "aten.nonzero.default": "the size of an answer is read",
}


class Operations(TorchDispatchMode):
    """An error where an operation reads a number, or where a tensor lies elsewhere than the others."""

    def __init__(self, device):
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert str(function) not in _WAITING, _WAITING[str(function)]
        answer = function(*args, **(kwargs or {}))
        devices = {one.device.type for one in (*args, answer) if isinstance(one, torch.Tensor)}
        assert devices <= {self.device}, f"{function} on {devices}"
        return answer


class Functions(TorchFunctionMode):
    """An error where a tensor is made of Python's numbers."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        assert function not in (torch.tensor, torch.as_tensor), "numbers are copied to the device"
        return function(*args, **(kwargs or {}))


@contextmanager
def no_waiting(device="meta"):
    with Operations(device), Functions():
        yield


def ids(*numbers):
    return torch.zeros(numbers, dtype=torch.int64, device="meta")


def step(model, **options):
    images = torch.zeros(4, 3, 192, 192, dtype=torch.uint8, device="meta")
    with no_waiting():
        output = model(images, ids(7), ids(7), **options)
        if output.embedding.requires_grad:
            output.embedding.sum().backward()
    assert output.embedding.device.type == "meta"


@pytest.mark.parametrize("name", [*list_models("*_tiny"), "ipad_photos", "lens"])
def test_no_network_waits(name):
    step(create_model(name, num_attributes=3, **SIZES.get(name, {})).to("meta").train())


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_variant_waits(variant):
    options, asked = VARIANTS[variant]
    step(create_model("ipad_tiny", num_attributes=3, **options).to("meta").train(), **asked)


def test_clusters_do_not_wait():
    model = create_model("rpf_tiny", num_attributes=2).to("meta")
    encoder = MomentumEncoder(model)
    queue, centers = (
        FeatureQueue(5, length=3, dim=4).to("meta"),
        ClusterCenters(5, 4).to("meta"),
    )
    features = torch.zeros(7, 4, device="meta")
    with no_waiting():
        encoder.update(model)
        queue.enqueue(features, ids(7))
        centers.refresh(queue)


def test_losses_do_not_wait_but_for_one():
    """On the CPU, as autocast does not know the meta device."""
    features, owners, values = (
        torch.randn(6, 4, requires_grad=True),
        torch.zeros(5, dtype=torch.int64),
        torch.arange(6) % 2,
    )
    clusters, centers, valid = ClusterCenterLoss(owners), torch.randn(5, 4), torch.ones(5, dtype=torch.bool)
    attributes = torch.zeros_like(values)
    with no_waiting("cpu"):
        total = TripletLoss()(*features.chunk(3)) + clusters(features, centers, valid, values)
        total = total + ForegroundBackgroundLoss()(features, features, features, attributes, values, values)
        total.backward()
    with (
        no_waiting("cpu"),
        pytest.raises(AssertionError, match="the size of an answer is read"),
    ):  # the triplets' number
        BatchAllTripletLoss()(features, attributes, values)


def test_what_waits_is_seen():
    numbers = torch.ones(2)
    for waiting in (lambda: torch.tensor([1.0]), lambda: bool(numbers.any()), numbers.nonzero):
        with no_waiting("cpu"), pytest.raises(AssertionError):
            waiting()
    with no_waiting(), pytest.raises(AssertionError, match="numbers are copied to the device"):
        torch.tensor([1.0], device="meta")
    with no_waiting(), pytest.raises(AssertionError, match="cpu"):
        torch.zeros(2)
