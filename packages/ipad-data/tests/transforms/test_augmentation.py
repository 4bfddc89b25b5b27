from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from ipad_data import BatchAugmentation
from ipad_data.transforms.homography import from_corners, rotation_scale_shift, warp

EVERYTHING = {
    "perspective": 0.2, "rotation": 10, "scale": 0.1, "shift": 0.1, "crop": 0.8, "brightness": 0.2, "contrast": 0.2,
    "saturation": 0.2, "erase": 0.5,
}  # fmt: skip


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_float_images_keep_their_type(images, dtype):
    scaled = (images / 255).to(dtype)
    out = BatchAugmentation(**EVERYTHING)(scaled, generator())
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), BatchAugmentation(**EVERYTHING)(images, generator()), atol=1e-4, rtol=0)


def test_input_is_not_written_to(images):
    before = images.clone()
    BatchAugmentation(**EVERYTHING)(images, generator())
    torch.testing.assert_close(images, before)


def test_empty_batch():
    assert BatchAugmentation(**EVERYTHING)(torch.zeros(0, 3, 8, 8), generator()).shape == (0, 3, 8, 8)


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


def test_warp_by_the_identity():
    images = torch.rand(2, 3, 9, 7, generator=generator())
    torch.testing.assert_close(warp(images, torch.eye(3).expand(2, 3, 3)), images, atol=1e-5, rtol=1e-5)


def test_quarter_turn_equals_rot90():
    images = torch.rand(1, 3, 8, 8, generator=generator())
    turn = rotation_scale_shift(torch.tensor([math.pi / 2]), torch.ones(1), torch.zeros(1, 2))
    torch.testing.assert_close(warp(images, turn), images.rot90(1, (2, 3)), atol=1e-5, rtol=1e-5)


def test_affine_equals_torch():
    images = torch.rand(3, 3, 8, 8, generator=generator())
    matrices = rotation_scale_shift(
        torch.tensor([0.1, -0.3, 1.0]), torch.tensor([0.9, 1.0, 0.7]), torch.rand(3, 2) - 0.5
    )
    grid = F.affine_grid(matrices[:, :2], list(images.shape), align_corners=False)
    expected = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    torch.testing.assert_close(warp(images, matrices), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_perspective_equals_pillows(seed):
    """Pillow's coefficients are the same homography in pixels: x = (normalised + 1) * side / 2."""
    side = 48
    matrix = from_corners(torch.rand(1, 4, 2, generator=generator(seed), dtype=torch.float64) * 0.4)
    to_pixels = torch.tensor([[side / 2, 0, side / 2], [0, side / 2, side / 2], [0, 0, 1]], dtype=torch.float64)
    pixels = to_pixels @ matrix[0] @ to_pixels.inverse()
    coefficients = (pixels / pixels[2, 2]).flatten()[:8].tolist()
    smooth = F.interpolate(torch.rand(1, 1, 6, 6, generator=generator(seed)), (side, side), mode="bicubic")[0, 0]
    image = Image.fromarray((smooth.clamp(0, 1) * 255).byte().numpy())
    expected = image.transform(image.size, Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BILINEAR)
    images = torch.from_numpy(np.array(image))[None, None].double()
    actual = warp(images, matrix)[0, 0]
    difference = (actual - torch.from_numpy(np.array(expected)))[2:-2, 2:-2].abs()
    assert difference.max() < 1.5


def test_homography_maps_corners_inward():
    inward = torch.rand(5, 4, 2, generator=generator()) * 0.4
    corners = torch.tensor([[-1.0, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]])
    mapped = corners @ from_corners(inward).transpose(1, 2)
    expected = corners[:, :2] - corners[:, :2].sign() * inward
    torch.testing.assert_close(mapped[..., :2] / mapped[..., 2:], expected, atol=1e-5, rtol=1e-5)


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
