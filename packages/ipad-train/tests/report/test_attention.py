from __future__ import annotations

import numpy as np
import pytest

from ipad_core import AttributeEmbedder
from ipad_train.config_files import load_run_config
from ipad_train.data import load_data
from ipad_train.embed import embed_split
from ipad_train.launch import make_accelerator
from ipad_train.report.attention import attended_images, attention_examples, distance_to_boxes, in_boxes
from ipad_train.report.failures import attention_misses
from ipad_train.report.pictures import CROP_BOX, TRUE_BOX, SplitPictures, draw_boxes, heat_overlay


@pytest.fixture(scope="module")
def looked(single):
    config = load_run_config(single[0])
    data = load_data(config.data)
    model = AttributeEmbedder.from_pretrained(single[0] / "best")
    return model, embed_split(model, data.splits["test"], config.data, make_accelerator(config)), data


def test_hits_are_those_of_the_evaluation(single, looked):
    model, entries, data = looked
    pictures = SplitPictures(data.splits["test"])
    mine = np.flatnonzero(entries.attribute_ids == 0)
    shown = attended_images(model, pictures, entries.image_ids[mine], 0, ["?"] * len(mine), 64)
    share = 100 * np.mean([example.hit for example in shown])
    assert share == pytest.approx(single[1]["localization"]["sleeve_length"])
    assert {len(example.maps) for example in shown} == {3}


def test_examples_take_every_value_in_turn(looked):
    model, entries, data = looked
    pictures = SplitPictures(data.splits["test"])
    examples = attention_examples(model, pictures, entries, data.schema, 64, seed=3, count=4)
    assert list(examples) == list(data.schema.attributes)
    for shown in examples.values():
        assert len({example.value for example in shown}) == 4


def test_farthest_miss_of_each_attribute(looked):
    model, entries, data = looked
    pictures = SplitPictures(data.splits["test"])
    misses = attention_misses(model, pictures, entries, data.schema, 64)
    for miss in misses:
        attribute = data.schema.attribute_id(miss.attribute.replace(" ", "_"))
        distances = [
            distance_to_boxes(entries.peak[i], pictures.true_boxes(int(entries.image_ids[i]), attribute))
            for i in np.flatnonzero(entries.attribute_ids == attribute)
        ]
        assert miss.distance == pytest.approx(100 * max(distances))
        assert miss.example.hit is False
    assert misses == sorted(misses, key=lambda miss: -miss.distance)


def test_distance_by_hand():
    boxes = np.array([[0.0, 0.0, 0.2, 0.2], [0.5, 0.5, 1.0, 1.0]])
    assert distance_to_boxes(np.array([0.1, 0.2]), boxes) == 0.0
    assert distance_to_boxes(np.array([0.5, 0.1]), boxes) == pytest.approx(0.3)
    assert distance_to_boxes(np.array([0.47, 0.46]), boxes) == pytest.approx(0.05)
    assert in_boxes(np.array([0.2, 0.2]), boxes)
    assert not in_boxes(np.array([0.3, 0.3]), boxes)


def test_heat_lies_where_the_attention_does():
    attention = np.zeros((4, 4))
    attention[0, 3] = 1.0
    overlay = heat_overlay(np.full((64, 64, 3), 120, dtype=np.uint8), attention).astype(int)
    assert overlay[8, 56].sum() > 500  # the middle of the top right cell is nearly white
    assert overlay[56, 8].tolist() == [72, 72, 72]  # elsewhere the image, dimmed
    np.testing.assert_array_equal(heat_overlay(np.zeros((8, 8, 3), np.uint8), np.zeros((2, 2))), 0)


def test_boxes_are_drawn_where_they_are():
    picture = np.asarray(
        draw_boxes(
            np.full((48, 48, 3), 90, np.uint8),
            np.array([[0.25, 0.25, 0.5, 0.75]]),
            np.array([0.5, 0.0, 1.0, 0.5]),
            np.array([0.75, 0.75]),
            side=200,
        )
    ).astype(int)
    cyan = np.argwhere((picture == TRUE_BOX).all(axis=2))
    assert np.abs(cyan.min(axis=0) - [50, 50]).max() <= 2
    assert np.abs(cyan.max(axis=0) - [149, 99]).max() <= 2
    white = (picture == CROP_BOX).all(axis=2)
    assert white[:3, 100:].any()
    assert white[70:80, 140:160].sum() == 0  # within the ring
    assert white[140:160, 140:160].any()
