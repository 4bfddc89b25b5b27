from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from ipad_data import BatchAugmentation

EVERYTHING = {
    "perspective": 0.2,
    "rotation": 10,
    "scale": 0.1,
    "shift": 0.1,
    "crop": 0.8,
    "brightness": 0.2,
    "contrast": 0.2,
    "saturation": 0.2,
    "erase": 0.5,
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images():
    return torch.randint(0, 256, (40, 3, 24, 20), dtype=torch.uint8, generator=generator(9))


def test_default_only_flips_some_images(images):
    out = BatchAugmentation()(images, generator())
    plain, flipped = images / 255, images.flip(-1) / 255
    kept = torch.tensor([bool((o == p).all()) for o, p in zip(out, plain, strict=True)])
    turned = torch.tensor([bool((o == f).all()) for o, f in zip(out, flipped, strict=True)])
    assert (kept ^ turned).all()
    assert 8 < turned.sum() < 32
    assert out.dtype == torch.float32


def test_nothing_on_changes_nothing(images):
    torch.testing.assert_close(BatchAugmentation(flip=0)(images), images / 255, rtol=0, atol=0)


@pytest.mark.parametrize("name", list(EVERYTHING))
def test_each_change_is_its_own_for_every_image(name):
    one = torch.rand(1, 3, 24, 24, generator=generator(3)).expand(6, 3, 24, 24)
    augment = BatchAugmentation(flip=0, **{name: 1.0 if name == "erase" else EVERYTHING[name]})
    out = augment(one, generator(1))
    assert out.shape == one.shape
    assert out.min() >= 0
    assert out.max() <= 1
    assert all((out[i] != out[j]).any() for i in range(6) for j in range(i))


def test_equal_generators_give_equal_results_and_others_do_not(images):
    augment = BatchAugmentation(**EVERYTHING)
    first = augment(images, generator(5))
    torch.testing.assert_close(augment(images, generator(5)), first, rtol=0, atol=0)
    assert (augment(images, generator(6)) != first).any()
    shared = generator(5)
    augment(images, shared)
    assert (augment(images, shared) != first).any()  # two augmented views of the same anchors


def test_global_random_state_is_left_alone(images):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    BatchAugmentation(**EVERYTHING)(images, generator())
    torch.testing.assert_close(torch.rand(3), expected)


def test_without_a_generator_the_global_one_is_used(images):
    torch.manual_seed(3)
    first, second = BatchAugmentation()(images), BatchAugmentation()(images)
    assert (first != second).any()
    torch.manual_seed(3)
    torch.testing.assert_close(BatchAugmentation()(images), first, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_float_images_keep_their_type(images, dtype):
    scaled = (images / 255).to(dtype)
    out = BatchAugmentation(**EVERYTHING)(scaled, generator())
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), BatchAugmentation(**EVERYTHING)(images, generator()), atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("options", [{}, *({"flip": 0, name: value} for name, value in EVERYTHING.items())])
def test_input_is_not_written_to(images, options, dtype):
    images = images if dtype == torch.uint8 else images / 255
    before = images.clone()
    BatchAugmentation(**options)(images, generator())
    torch.testing.assert_close(images, before, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_empty_batch(dtype):
    out = BatchAugmentation(**EVERYTHING)(torch.zeros(0, 3, 8, 8, dtype=dtype), generator())
    assert (out.shape, out.dtype) == ((0, 3, 8, 8), torch.float32)


def test_erased_share():
    out = BatchAugmentation(flip=0, erase=1.0)(torch.rand(200, 3, 32, 32, generator=generator(2)), generator())
    original = torch.rand(200, 3, 32, 32, generator=generator(2))
    share = (out != original).all(1).float().mean((1, 2))
    assert 0.07 < share.mean() < 0.10  # 2 % to 15 %
    assert share.max() < 0.2


def test_brightness_stays_within_its_range():
    out = BatchAugmentation(flip=0, brightness=0.2)(torch.full((500, 3, 2, 2), 0.5), generator())
    factors = out[:, 0, 0, 0] / 0.5
    assert 0.8 <= factors.min() < 0.82
    assert 1.18 < factors.max() <= 1.2


def coordinates(side: int, count: int) -> torch.Tensor:
    """Images whose red and green are a pixel's x and y and whose blue is 1: they tell where each pixel came from."""
    at = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    return torch.stack([at.expand(side, side), at[:, None].expand(side, side), torch.ones(side, side)]).expand(
        count, 3, side, side
    )


def fit_homography(result: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The least-squares homography from an augmented coordinate image's places to their sources, and its residuals."""
    side = result.shape[-1]
    at = (np.arange(side) + 0.5) / side
    x, y = (grid.ravel() for grid in np.meshgrid(at, at))
    u, v, one = result.numpy().reshape(3, -1)
    margin = 2 / side
    inside = (one > 1 - 1e-6) & (np.minimum(u, v) > margin) & (np.maximum(u, v) < 1 - margin)
    x, y, u, v = x[inside], y[inside], u[inside], v[inside]
    zero, ones = np.zeros_like(x), np.ones_like(x)
    equations = np.concatenate(
        [
            np.stack([x, y, ones, zero, zero, zero, -u * x, -u * y], 1),
            np.stack([zero, zero, zero, x, y, ones, -v * x, -v * y], 1),
        ]
    )
    matrix = np.append(np.linalg.lstsq(equations, np.concatenate([u, v]), rcond=None)[0], 1).reshape(3, 3)
    mapped = matrix @ np.stack([x, y, ones])
    return matrix, np.abs(mapped[:2] / mapped[2] - np.stack([u, v]))


def test_perspective_moves_corners_inward_and_leaves_black():
    augment = BatchAugmentation(flip=0, perspective=0.2)
    moves = []
    for result in augment(coordinates(48, 30), generator()):
        matrix, residuals = fit_homography(result)
        assert residuals.max() < 1e-4  # it is a homography, everywhere
        corners = np.linalg.inv(matrix) @ np.array([[0, 1, 1, 0], [0, 0, 1, 1], [1, 1, 1, 1]])
        corners = corners[:2] / corners[2]
        moves.append(np.where(np.array([[0, 1, 1, 0], [0, 0, 1, 1]]) == 1, 1 - corners, corners))
    moves = np.stack(moves)  # (30, 2, 4) how far along x and y
    assert moves.min() > -0.03  # up to a pixel: the corners are pixel centers
    assert moves.max() < 0.23
    assert 0.08 < moves.mean() < 0.14
    assert moves.std(0).min() > 0.03  # each corner, along each side, moves by itself
    assert (augment(torch.ones(30, 3, 48, 48), generator()) == 0).any((1, 2, 3)).all()


@pytest.mark.parametrize("options", [{"perspective": 0.2}, {"rotation": 20, "scale": 0.3}])
def test_warp_equals_pillows(options):
    """Pillow reads through the homography that a coordinate image, given the same parameters, went through."""
    side, count = 64, 4
    augment = BatchAugmentation(flip=0, **options)
    smooth = F.interpolate(torch.rand(count, 3, 6, 6, generator=generator(4)), (side, side), mode="bicubic")
    images = (smooth.clamp(0, 1) * 255).byte()
    actual = augment(images, generator(1)) * 255
    to_unit = np.diag([1 / side, 1 / side, 1])
    for image, result, source in zip(images, actual, augment(coordinates(side, count), generator(1)), strict=True):
        matrix = np.linalg.inv(to_unit) @ fit_homography(source)[0] @ to_unit
        coefficients = (matrix / matrix[2, 2]).ravel()[:8].tolist()
        pillow = Image.fromarray(image.permute(1, 2, 0).numpy())
        expected = pillow.transform((side, side), Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BILINEAR)
        margin = 3 / side  # at the border both do their own
        inside = ((source[:2] > margin) & (source[:2] < 1 - margin)).all(0) & (source[2] > 1 - 1e-6)
        assert inside.float().mean() > 0.3
        difference = (result - torch.from_numpy(np.array(expected)).permute(2, 0, 1))[:, inside].abs()
        assert difference.max() < 1.5


def test_turns_zooms_and_moves_stay_within_their_ranges():
    augment = BatchAugmentation(flip=0, rotation=10, scale=0.2, shift=0.1)
    found = []
    for result in augment(coordinates(48, 60), generator()):
        matrix, residuals = fit_homography(result)
        assert residuals.max() < 1e-4
        np.testing.assert_allclose(matrix[2, :2], 0, atol=1e-4)
        zoom = 1 / np.hypot(matrix[0, 0], matrix[1, 0])
        middle = np.linalg.inv(matrix) @ [0.5, 0.5, 1]  # where the middle went
        found.append([math.degrees(math.atan2(matrix[1, 0], matrix[0, 0])), zoom, *(middle[:2] - 0.5)])
    angle, zoom, x, y = np.array(found).T
    assert (-10.1 < angle.min() < -7) & (7 < angle.max() < 10.1)
    assert (0.79 < zoom.min() < 0.85) & (1.15 < zoom.max() < 1.21)
    for moved in (x, y):
        assert (-0.13 < moved.min() < -0.06) & (0.06 < moved.max() < 0.13)


def test_crops_are_squares_of_at_least_their_smallest_side():
    widths = []
    for result in BatchAugmentation(flip=0, crop=0.5)(coordinates(48, 60), generator()):
        (width, height) = (result[:2].amax((1, 2)) - result[:2].amin((1, 2)) + 1 / 48).tolist()
        assert width == pytest.approx(height, abs=0.03)
        widths.append(width)
    assert 0.48 < min(widths) < 0.6
    assert 0.9 < max(widths) < 1.01


@pytest.mark.parametrize(
    "options", [{}, {"flip": 0.5, **EVERYTHING}, *({name: EVERYTHING[name]} for name in EVERYTHING)]
)
def test_nothing_waits_for_the_device(options):
    """Images without contents can be augmented, so nothing is read from a device, and what comes back is on it."""
    images = torch.zeros(4, 3, 24, 20, dtype=torch.uint8, device="meta")
    out = BatchAugmentation(**options)(images, generator())
    assert (out.device.type, out.dtype, out.shape) == ("meta", torch.float32, images.shape)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_device_gives_what_the_cpu_gives(images):
    expected = BatchAugmentation(**EVERYTHING)(images, generator())
    state = torch.cuda.get_rng_state()
    out = BatchAugmentation(**EVERYTHING)(images.cuda(), generator())
    assert out.is_cuda
    torch.testing.assert_close(out.cpu(), expected, atol=1e-4, rtol=0)
    assert torch.cuda.get_rng_state().tolist() == state.tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flip": 1.5}, r"flip must be within \[0.0, 1.0\], got 1.5"),
        ({"crop": 0.0}, r"crop must be within \[0.05, 1.0\], got 0.0"),
        ({"perspective": 0.5}, "perspective must be within"),
    ],
)
def test_rejects_values_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        BatchAugmentation(**options)


def test_rejects_other_tensors():
    with pytest.raises(ValueError, match=r"images must be \(N, 3, H, W\), got \(3, 8, 8\)"):
        BatchAugmentation()(torch.zeros(3, 8, 8))
    with pytest.raises(ValueError, match=r"images must be uint8 or floating point, got torch\.int64"):
        BatchAugmentation()(torch.zeros(1, 3, 8, 8, dtype=torch.int64))
