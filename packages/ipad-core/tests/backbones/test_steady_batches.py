"""Batches of few sizes: which, and that nobody sees it."""

from __future__ import annotations

import pytest
import torch

from ipad_core.backbones import build_trunk
from ipad_core.backbones.steady_batches import in_steady_batches, steady_size

EFFICIENT = {"name": "tf_efficientnet_lite0", "stage": [2, 3]}


@pytest.mark.parametrize(
    ("count", "size"), [(1, 1), (2, 2), (3, 4), (9, 16), (31, 32), (32, 32), (33, 64), (256, 256), (257, 288)]
)
def test_sizes(count, size):
    assert steady_size(count) == size


def test_few_sizes_hold_every_count_at_little_cost():
    sizes = [steady_size(count) for count in range(1, 321)]
    assert all(count <= size < count + 32 for count, size in enumerate(sizes, start=1))
    assert len(set(sizes)) == 6 + 9
    assert all(size < 2 * count for count, size in enumerate(sizes, start=1))


def recorded(trunk):
    """The maps of a trunk, and the sizes of the batches that it saw."""
    seen: list[int] = []

    def maps(images):
        seen.append(len(images))
        return trunk.stage_maps(images)

    return maps, seen


def both_ways(trunk, images):
    """Maps and the gradients of weights and images, of the images by themselves and in a filled batch."""
    found = []
    for steady in (False, True):
        trunk.zero_grad()
        given = images.clone().requires_grad_()
        maps, seen = recorded(trunk)
        made = in_steady_batches(trunk.features, maps, given) if steady else maps(given)
        sum((part * (1 + torch.arange(part.shape[1]).view(-1, 1, 1))).square().sum() for part in made).backward()
        slopes = [weight.grad.clone() for weight in trunk.parameters() if weight.grad is not None]
        found.append(([part.detach() for part in made], [given.grad, *slopes], seen))
    return found


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_maps_and_gradients_are_those_of_the_images_alone(layout):
    torch.manual_seed(0)
    trunk = build_trunk({**EFFICIENT, "freeze_norm": True}, 64).train().to(memory_format=layout)
    (maps, slopes, alone), (filled, others, seen) = both_ways(trunk, torch.randn(5, 3, 64, 64))
    assert (alone, seen) == ([5], [8])
    assert [part.shape for part in filled] == [part.shape for part in maps]
    assert len(slopes) > 50
    for one, other in zip([*maps, *slopes], [*filled, *others], strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5 * float(one.abs().max()))


def test_a_batch_norm_that_learns_sees_the_images_alone():
    torch.manual_seed(0)
    trunk = build_trunk(EFFICIENT, 64).train()
    (maps, slopes, _), (filled, others, seen) = both_ways(trunk, torch.randn(5, 3, 64, 64))
    assert seen == [5]
    assert len(slopes) == len(others)
    assert all(torch.equal(one, other) for one, other in zip(maps, filled, strict=True))
    seen = recorded(trunk.eval())
    in_steady_batches(trunk.features, seen[0], torch.randn(5, 3, 64, 64))
    assert seen[1] == [8]


def test_no_images_are_none():
    trunk = build_trunk(EFFICIENT, 64).eval()
    maps, seen = recorded(trunk)
    assert [len(part) for part in in_steady_batches(trunk.features, maps, torch.empty(0, 3, 64, 64))] == [0, 0]
    assert seen == [0]


@pytest.mark.gpu
def test_on_a_gpu_a_trunk_sees_few_sizes():
    trunk = build_trunk({**EFFICIENT, "freeze_norm": True}, 64).train().cuda()
    seen = []
    trunk.features.conv_stem.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    for count in (33, 40, 64):
        assert {len(part) for part in trunk.stage_maps(torch.randn(count, 3, 64, 64, device="cuda"))} == {count}
    assert seen == [64, 64, 64]
