from __future__ import annotations

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ipad_core.layers import attention_boxes, crop_regions


def loop_box(fine, threshold, min_side, margin):
    """The box of one map, cell by cell."""
    n = len(fine)
    low, high = fine.min().item(), fine.max().item()
    cells = [(y, x) for y in range(n) for x in range(n) if (fine[y, x].item() - low) >= threshold * (high - low)]
    top, bottom = min(y for y, _ in cells) / n, (max(y for y, _ in cells) + 1) / n
    left, right = min(x for _, x in cells) / n, (max(x for _, x in cells) + 1) / n
    side = min(1.0, max(min_side, max(right - left, bottom - top) * (1 + margin)))
    x0 = min(max((left + right - side) / 2, 0.0), 1.0 - side)
    y0 = min(max((top + bottom - side) / 2, 0.0), 1.0 - side)
    return [x0, y0, x0 + side, y0 + side]


@pytest.mark.parametrize(
    ("threshold", "min_side", "margin"), [(0.1, 0.0, 0.0), (0.5, 0.25, 0.0), (0.5, 0.0, 0.3), (0.9, 0.4, 0.2)]
)
def test_boxes_match_loop(threshold, min_side, margin):
    maps = torch.randn(6, 7, 7).mul(3).softmax(dim=2)
    fine = torch.nn.functional.interpolate(maps[:, None], size=(20, 20), mode="bilinear")[:, 0]
    expected = torch.tensor([loop_box(one, threshold, min_side, margin) for one in fine])
    torch.testing.assert_close(attention_boxes(maps, threshold, min_side, margin, resolution=20), expected)


def spot(*cells, n=10):
    maps = torch.zeros(1, n, n)
    for y, x in cells:
        maps[0, y, x] = 1.0
    return maps


@pytest.mark.parametrize(
    ("cells", "options", "expected"),
    [
        ([(4, 6)], {}, [0.6, 0.4, 0.7, 0.5]),
        ([(2, 3), (5, 4)], {}, [0.2, 0.2, 0.6, 0.6]),  # 2 wide, 4 high: squared to 4 around x = 0.4
        ([(0, 0), (4, 0)], {}, [0.0, 0.0, 0.5, 0.5]),  # squared, then shifted from x = -0.2
        ([(9, 9)], {"min_side": 0.4}, [0.6, 0.6, 1.0, 1.0]),
        ([(4, 4), (5, 5)], {"margin": 1.0}, [0.3, 0.3, 0.7, 0.7]),
        ([(0, 0), (9, 9)], {"margin": 0.5}, [0.0, 0.0, 1.0, 1.0]),
    ],
)
def test_hand_worked_boxes(cells, options, expected):
    box = attention_boxes(spot(*cells), threshold=0.5, resolution=10, **options)
    torch.testing.assert_close(box, torch.tensor([expected]))


@pytest.mark.parametrize("margin", [0.0, 0.4])
def test_boxes_are_square_and_inside(margin):
    maps = torch.randn(50, 6, 6).mul(5).flatten(1).softmax(1).view(50, 6, 6)
    boxes = attention_boxes(maps, 0.3, min_side=0.2, margin=margin)
    assert (boxes >= 0).all()
    assert (boxes <= 1 + 1e-6).all()
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    torch.testing.assert_close(width, height)
    assert (width >= 0.2 - 1e-6).all()


def test_the_peak_lies_in_the_box():
    maps = torch.randn(50, 6, 6)
    boxes = attention_boxes(maps, 0.8)
    peak = maps.flatten(1).argmax(1)
    x, y = (peak % 6 + 0.5) / 6, (peak // 6 + 0.5) / 6
    assert ((boxes[:, 0] <= x) & (x <= boxes[:, 2]) & (boxes[:, 1] <= y) & (y <= boxes[:, 3])).all()


@pytest.mark.parametrize("value", [0.0, 1 / 36], ids=["zeros", "uniform"])
def test_constant_map_gives_the_whole_image(value):
    box = attention_boxes(torch.full((2, 6, 6), value), 0.1)
    assert box.tolist() == [[0.0, 0.0, 1.0, 1.0]] * 2


def test_no_gradient_through_a_box():
    assert not attention_boxes(torch.rand(1, 4, 4, requires_grad=True)).requires_grad


def gradient_image(side):
    """Channel 0 rises with x, channel 1 with y, channel 2 is constant; pixel centers at (i + 0.5) / side."""
    axis = (torch.arange(side) + 0.5) / side
    return torch.stack(
        [axis[None].expand(side, side), axis[:, None].expand(side, side), torch.full((side, side), 0.5)]
    )


@pytest.mark.parametrize("size", [8, 16, 40], ids=["smaller", "mid", "larger"])
def test_crop_of_a_gradient_is_the_gradient(size):
    box = torch.tensor([[0.25, 0.5, 0.75, 1.0 - 1 / 64]])
    crop = crop_regions(gradient_image(32)[None], box, torch.tensor([0]), size)[0]
    axis = (torch.arange(size) + 0.5) / size
    torch.testing.assert_close(crop[0], (0.25 + 0.5 * axis)[None].expand(size, size), atol=1e-5, rtol=0)
    height = 0.5 - 1 / 64
    torch.testing.assert_close(crop[1], (0.5 + height * axis)[:, None].expand(size, size), atol=1e-5, rtol=0)
    torch.testing.assert_close(crop[2], torch.full((size, size), 0.5))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_images_are_cut_at_the_same_place(dtype):
    images = torch.rand(2, 3, 64, 64).to(dtype)
    boxes, index = torch.tensor([[0.613, 0.227, 0.863, 0.477], [0.031, 0.709, 0.281, 0.959]]), torch.tensor([1, 0])
    crops = crop_regions(images, boxes, index, 16)
    assert crops.dtype == dtype
    torch.testing.assert_close(crops.float(), crop_regions(images.float(), boxes, index, 16), atol=4e-3, rtol=0)


def test_whole_box_at_own_size_is_the_image():
    images = torch.rand(3, 3, 16, 16)
    crops = crop_regions(images, torch.tensor([[0.0, 0.0, 1.0, 1.0]] * 4), torch.tensor([2, 0, 1, 2]), 16)
    torch.testing.assert_close(crops, images[[2, 0, 1, 2]])


def test_quarters_cut_pixels_exactly():
    image = torch.rand(1, 3, 8, 8)
    crop = crop_regions(image, torch.tensor([[0.5, 0.25, 1.0, 0.75]]), torch.tensor([0]), 4)
    torch.testing.assert_close(crop, image[:, :, 2:6, 4:8])


def test_every_entry_reads_its_own_image_on_the_level_of_its_box():
    """Against torch's own: a box of the whole image, of an eighth, and of odd sizes, of images in another order."""
    images = torch.rand(3, 2, 64, 48, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    boxes = torch.tensor(
        [[0.0, 0.0, 1.0, 1.0], [0.25, 0.5, 0.375, 0.625], [0.1, 0.2, 0.55, 0.65]], dtype=torch.float64
    )
    index = torch.tensor([2, 0, 2])
    crops = crop_regions(images, boxes, index, 16)
    for crop, box, image in zip(crops, boxes, index, strict=True):
        level = max(0, math.ceil(math.log2(max((box[2] - box[0]) * 48, (box[3] - box[1]) * 64) / 16)))
        source = torch.nn.functional.interpolate(images[image][None], size=(64 >> level, 48 >> level), mode="area")
        theta = torch.tensor([[box[2] - box[0], 0, box[0] + box[2] - 1], [0, box[3] - box[1], box[1] + box[3] - 1]])
        grid = torch.nn.functional.affine_grid(theta[None].double(), [1, 2, 16, 16], align_corners=False)
        wanted = torch.nn.functional.grid_sample(source, grid, padding_mode="border", align_corners=False)
        torch.testing.assert_close(crop[None], wanted)


def test_a_large_box_does_not_alias():
    stripes = torch.zeros(1, 3, 64, 64)
    stripes[..., ::2] = 1.0
    crop = crop_regions(stripes, torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([0]), 16)
    torch.testing.assert_close(crop, torch.full_like(crop, 0.5), atol=0.07, rtol=0)


def test_each_entry_cuts_its_own_image():
    images = torch.stack([torch.full((3, 8, 8), float(i)) for i in range(3)])
    index = torch.tensor([2, 0, 2, 1])
    crops = crop_regions(images, torch.rand(4, 4).sort(dim=1)[0], index, 4)
    torch.testing.assert_close(crops.mean(dim=(1, 2, 3)), index.float())


def test_no_pixel_of_another_image_is_seen():
    images = torch.stack([torch.full((3, 16, 16), float(i)) for i in range(5)])
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.9, 0.1, 1.0], [0.9, 0.0, 1.0, 0.1]]).repeat(5, 1)
    index = torch.arange(5).repeat_interleave(3)
    crops = crop_regions(images, boxes, index, 8)
    torch.testing.assert_close(crops, index.float().view(-1, 1, 1, 1).expand_as(crops))


def test_memory_is_bounded_whatever_the_number_of_entries():
    images, boxes = torch.rand(2, 3, 64, 64), torch.rand(20, 4).sort(dim=1)[0]
    index, sizes = torch.arange(20) % 2, []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            sizes.append(result.numel() if isinstance(result, torch.Tensor) else 0)
            return result

    with Watch():
        crop_regions(images, boxes, index, 16)
    # Nothing larger than the pyramid of the images or the crops themselves: no image is copied for an entry.
    assert max(sizes) <= max(2 * 3 * 64 * 64 * 4 / 3 + 2 * 3 * 8 * 8, 20 * 3 * 16 * 16)


def test_gradient_reaches_the_images():
    images = torch.rand(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    box, index = torch.tensor([[0.1, 0.2, 0.7, 0.8]], dtype=torch.float64), torch.tensor([0])
    assert torch.autograd.gradcheck(lambda x: crop_regions(x, box, index, 3), images)
