from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from ipad_data import ImageDecodeError
from ipad_data.transforms import decode_image
from ipad_data.transforms.decode import image_size, open_image


@pytest.fixture
def photo():
    """Smooth image, 60 wide and 40 high: red grows to the right, green downwards."""
    x, y = np.meshgrid(np.linspace(0, 255, 60), np.linspace(0, 255, 40))
    return Image.fromarray(np.stack([x, y, np.full_like(x, 80)], -1).astype(np.uint8))


def saved(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def assert_near(actual: np.ndarray, expected: Image.Image, tolerance: float = 6) -> None:
    size = actual.shape[0]
    wanted = np.asarray(expected.convert("RGB").resize((size, size), Image.Resampling.BILINEAR), dtype=float)
    assert np.abs(actual.astype(float) - wanted).mean() < tolerance


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
def test_formats(photo, kind):
    assert_near(decode_image(saved(photo, kind), 24), photo, 12 if kind == "GIF" else 6)


def test_path_and_bytes_agree(photo, tmp_path):
    path = tmp_path / "größe.jpg"
    path.write_bytes(saved(photo, "JPEG"))
    np.testing.assert_array_equal(decode_image(path, 16), decode_image(path.read_bytes(), 16))


def test_no_resize_keeps_the_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decode_image(saved(Image.fromarray(pixels), "PNG"), 32), pixels)


def test_large_jpegs_decode_reduced_to_nearly_the_same(photo):
    large = photo.resize((2400, 1600), Image.Resampling.BICUBIC)
    assert_near(decode_image(saved(large, "JPEG", quality=95), 96), large, 2)


@pytest.mark.parametrize(
    ("target", "decoded"), [(200, (300, 200)), (201, (600, 400)), (96, (300, 200)), (None, (2400, 1600))]
)
def test_large_jpegs_are_decoded_at_a_part_of_their_size(photo, target, decoded):
    large = saved(photo.resize((2400, 1600), Image.Resampling.BICUBIC), "JPEG")
    assert open_image(large, target).size == decoded


@pytest.mark.parametrize("size", [(60, 40), (24, 24), (24, 96), (480, 336), (1200, 90), (3, 2), (24, 1)])
def test_resizing_is_pillows_to_within_a_level(size):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    expected = Image.fromarray(pixels).resize((24, 24), Image.Resampling.BILINEAR, reducing_gap=2.0)
    actual = decode_image(saved(Image.fromarray(pixels), "PNG"), 24)
    assert np.abs(actual.astype(int) - np.asarray(expected, dtype=int)).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(photo, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = {3: 180, 6: 270, 8: 90}
    data = saved(photo, "JPEG", exif=exif, quality=95)
    decoded = decode_image(data, 20)
    if orientation == 1:
        assert_near(decoded, photo)
    elif orientation in turned:
        assert_near(decoded, photo.rotate(turned[orientation], expand=True))
    else:
        methods = {2: "FLIP_LEFT_RIGHT", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 7: "TRANSVERSE"}
        assert_near(decoded, photo.transpose(getattr(Image.Transpose, methods[orientation])))


def test_cmyk(photo):
    assert_near(decode_image(saved(photo.convert("CMYK"), "JPEG", quality=95), 24), photo)


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_other_modes(photo, mode):
    assert_near(decode_image(saved(photo.convert(mode), "PNG"), 24), photo.convert(mode), 12)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_lies_over_white(mode):
    image = Image.new("RGBA", (20, 20), (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 10, 20))
    options = {}
    if mode == "P":
        image = image.convert("RGB").quantize(2)
        image.putdata([0] * 200 + [1] * 200)
        image.putpalette([0, 0, 0, 0, 0, 0])
        image = image.transpose(Image.Transpose.TRANSPOSE)
        options = {"transparency": 0}
    else:
        image = image.convert(mode)
    decoded = decode_image(saved(image, "PNG", **options), 20)
    assert (decoded[:, :10] == 255).all()
    assert (decoded[:, 10:] == 0).all()


def test_16_bit_gray():
    values = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    decoded = decode_image(saved(Image.fromarray(values), "PNG"), 16)
    np.testing.assert_array_equal(decoded, np.arange(256).reshape(16, 16, 1).repeat(3, 2))


def test_float_gray():
    values = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    decoded = decode_image(saved(Image.fromarray(values), "TIFF"), 16)
    assert np.abs(decoded[..., 0].ravel() - np.arange(256.0)).max() <= 1


def test_animations_give_their_first_frame():
    frames = [Image.new("RGB", (12, 12), color) for color in ("red", "blue")]
    decoded = decode_image(saved(frames[0], "GIF", save_all=True, append_images=frames[1:]), 12)
    assert (decoded == (255, 0, 0)).all()


def test_letterbox_keeps_the_shape(photo):
    decoded = decode_image(saved(photo, "PNG"), 30, fit="letterbox")
    assert (decoded[:4] == 255).all()
    assert (decoded[-4:] == 255).all()
    expected = np.asarray(photo.resize((30, 20), Image.Resampling.BILINEAR), dtype=float)
    assert np.abs(decoded[5:25] - expected).max() < 2
    assert decoded[15, 28, 0] > 230
    assert decoded[15, 1, 0] < 25


def bomb() -> bytes:
    """PNG header that claims 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty.jpg", r"empty\.jpg: not an image file, it begins with nothing \(0 bytes\)"),
        ("page.jpg", r"page\.jpg: not an image file, it begins with b'<!DOCTYPE html>"),
        ("truncated.jpg", r"truncated\.jpg: cannot be decoded: image file is truncated"),
        ("truncated.png", r"truncated\.png: cannot be decoded"),
        ("damaged.png", r"damaged\.png: cannot be decoded"),
        ("bomb.png", r"bomb\.png: too many pixels to be decoded safely"),
        ("missing.jpg", r"missing\.jpg: no such file"),
        (".", r"cannot be decoded"),
    ],
)
def test_broken_files_are_named(photo, tmp_path, name, message):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8))
    png = saved(noise, "PNG")
    contents = {
        "empty.jpg": b"",
        "page.jpg": b"<!DOCTYPE html><html>not found</html>",
        "truncated.jpg": saved(noise, "JPEG")[:2000],
        "truncated.png": png[:2000],
        "damaged.png": png[:300] + b"\xff" * 40 + png[340:],
        "bomb.png": bomb(),
    }
    if name in contents:
        (tmp_path / name).write_bytes(contents[name])
    with pytest.raises(ImageDecodeError, match=message):
        decode_image(tmp_path / name, 32)


def test_large_photos_pass_and_bombs_do_not(monkeypatch, photo):
    """The photo has 2400 pixels: as many as a photo of 108 megapixels to Pillow's limit of 89, then twice that limit."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    assert_near(decode_image(saved(photo, "PNG"), 24), photo)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(
        ImageDecodeError, match=r"photo: too many pixels .* smaller copy of it, or raise PIL\.Image\.MAX"
    ):
        decode_image(saved(photo, "PNG"), 8, name="photo")


@pytest.mark.parametrize(
    "exif",
    [b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0\0garbage!" * 9],
)
def test_exif_that_cannot_be_read_does_not_cost_the_photo(photo, tmp_path, exif):
    path = tmp_path / "a.jpg"
    path.write_bytes(saved(photo, "JPEG", exif=exif, quality=95))
    assert_near(decode_image(path, 20), photo)
    assert image_size(path) == photo.size


@pytest.mark.parametrize("value", [9, 0, (6, 6), b"6", "6"])
def test_an_orientation_that_is_none_is_ignored(photo, monkeypatch, value):
    monkeypatch.setattr(Image.Image, "getexif", lambda self: {0x0112: value})
    assert_near(decode_image(saved(photo, "JPEG", quality=95), 20), photo)


def test_orientation_behind_the_pixels_of_a_png(photo):
    exif = Image.Exif()
    exif[0x0112] = 3
    data = saved(photo, "PNG", exif=exif)
    start = data.index(b"eXIf") - 4
    end = start + 12 + struct.unpack(">I", data[start : start + 4])[0]
    moved = data[:start] + data[end:-12] + data[start:end] + data[-12:]
    assert_near(decode_image(moved, 20), photo.rotate(180))


@pytest.mark.parametrize("mode", ["RGB", "L", "I;16"])
def test_a_color_that_a_png_calls_transparent_becomes_white(mode):
    image = Image.new("RGB", (20, 20), (200, 0, 0))
    image.paste((0, 0, 0), (0, 0, 10, 20))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L"), dtype=np.uint16) * 257)
    else:
        image = image.convert(mode)
    decoded = decode_image(saved(image, "PNG", transparency=(0, 0, 0) if mode == "RGB" else 0), 20)
    assert (decoded[:, :10] == 255).all()
    assert (decoded[:, 10:, 0] < 255).all()


def test_size_of_an_image_without_decoding_it(tmp_path):
    path = tmp_path / "a.jpg"
    for orientation, size in ((1, (40, 24)), (3, (40, 24)), (6, (24, 40)), (8, (24, 40))):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.new("RGB", (40, 24)).save(path, exif=exif)
        assert image_size(path) == size == open_image(path).size
    path.write_bytes(path.read_bytes()[:-10])  # the head is enough
    assert image_size(path) == (24, 40)
    for content, message in ((b"<html>", "not an image file"), (b"", "nothing")):
        path.write_bytes(content)
        with pytest.raises(ImageDecodeError, match=rf"a\.jpg: .*{message}"):
            image_size(path)
    with pytest.raises(ImageDecodeError, match="no such file"):
        image_size(tmp_path / "b.jpg")
