from __future__ import annotations

import numpy as np
import pytest

from ipad_data.render import SCHEMA, render_image


def pixels(index: int, **options) -> np.ndarray:
    return np.asarray(render_image(index, **options).image)


def test_is_a_pure_function_of_seed_and_index():
    expected = pixels(7)
    pixels(3)
    np.testing.assert_array_equal(pixels(7), expected)
    assert (pixels(7, seed=1) != expected).any()
    assert (pixels(8) != expected).any()


@pytest.mark.parametrize("size", [32, 64, 128, 200])
def test_size(size):
    assert render_image(0, size=size).image.size == (size, size)


@pytest.mark.parametrize("difficulty", ["easy", "hard", 0.3])
def test_difficulty_changes_pixels_but_not_labels(difficulty):
    standard, other = render_image(5), render_image(5, difficulty=difficulty)
    assert other.labels == standard.labels
    assert (np.asarray(other.image) != np.asarray(standard.image)).any()


@pytest.mark.parametrize("difficulty", ["medium", -0.1, 1.5])
def test_rejects_unknown_difficulty(difficulty):
    with pytest.raises(ValueError, match="difficulty must be one of easy, standard, hard or within"):
        render_image(0, difficulty=difficulty)


def test_labels_are_sparse_and_values_balanced():
    labels = [render_image(i, size=32, difficulty="easy").labels for i in range(600)]
    for found in labels:
        assert ("skirt_length" in found) != ("pant_length" in found)
        assert ("collar_design" in found) == (found["neckline_design"] != "off_shoulder")
    for attribute, values in SCHEMA.values.items():
        counts = [sum(found.get(attribute) == value for found in labels) for value in values]
        expected = sum(counts) / 5
        assert max(abs(count - expected) for count in counts) < 4.5 * (expected * 0.8) ** 0.5


def test_boxes_belong_to_labelled_attributes_and_lie_in_the_image():
    for index in range(40):
        rendered = render_image(index, difficulty="hard", size=32)
        assert rendered.boxes.keys() == rendered.labels.keys()
        for attribute, boxes in rendered.boxes.items():
            assert len(boxes) == (2 if attribute == "sleeve_length" else 1)
            for x0, y0, x1, y1 in boxes:
                assert 0 <= x0 < x1 <= 1
                assert 0 <= y0 < y1 <= 1


@pytest.mark.parametrize(
    ("attribute", "field"),
    [("neckline_design", "neckline"), ("collar_design", "collar"), ("front_design", "front")],
)
def test_value_changes_pixels_only_inside_its_box(monkeypatch, attribute, field):
    """Draw one figure with each value of an attribute: what differs lies in the attribute's true box."""
    from dataclasses import replace

    from ipad_data.render.attributes import Garment

    draw = Garment.draw
    base = next(i for i in range(50) if attribute in render_image(i, difficulty="easy").labels)
    images = {}
    for value in SCHEMA.values[attribute][: 4 if attribute == "neckline_design" else 5]:
        monkeypatch.setattr(Garment, "draw", lambda rng, v=value: replace(draw(rng), **{field: v}))
        rendered = render_image(base, difficulty="easy")
        images[value] = np.asarray(rendered.image).astype(int)
        x0, y0, x1, y1 = (round(v * 128) for v in rendered.boxes[attribute][0])
    reference = images.pop(next(iter(images)))
    for value, image in images.items():
        differs = (image != reference).any(-1)
        assert differs.sum() > 20, value
        inside = differs[max(0, y0 - 2) : y1 + 2, max(0, x0 - 2) : x1 + 2].sum()
        # a deeper neckline also moves the first button a little
        assert inside >= (0.6 if attribute == "neckline_design" else 0.9) * differs.sum(), value
