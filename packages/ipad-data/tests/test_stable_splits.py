from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pytest

from ipad_data import AttributeSchema
from ipad_data.roles import GALLERY, QUERY, TRAIN
from ipad_data.splits import unanswered_note
from ipad_data.stable_splits import Place, stable_splits


def draw(count: int, num_values: tuple[int, ...], seed: int = 0) -> tuple[list, list, list]:
    """Names, attribute ids and flat value ids of images that have a value of every attribute."""
    rng = np.random.default_rng(seed)
    offsets = np.cumsum([0, *num_values[:-1]])
    values = [tuple(int(o + rng.integers(n)) for o, n in zip(offsets, num_values, strict=True)) for _ in range(count)]
    return [f"p{seed}_{i}.jpg" for i in range(count)], [tuple(range(len(num_values)))] * count, values


def places(splits) -> dict[str, tuple[str, int]]:
    return {image.name: (split, image.roles[0]) for split, images in splits.items() for image in images}


def split_of(splits) -> dict[str, str]:
    return {name: split for name, (split, _) in places(splits).items()}


@pytest.mark.parametrize("num_values", [(5,), (4, 3), (3, 8, 5)])
def test_one_photo_more_moves_no_other(num_values):
    for seed in range(10):
        names, attribute_ids, value_ids = draw(401, num_values, seed)
        whole = split_of(stable_splits(names, attribute_ids, value_ids))
        for left_out in (0, 150, 400):
            rest = [i for i in range(401) if i != left_out]
            picked = ([column[i] for i in rest] for column in (names, attribute_ids, value_ids))
            assert split_of(stable_splits(*picked)).items() < whole.items()


def test_the_order_of_the_images_does_not_matter():
    names, attribute_ids, value_ids = draw(60, (3, 2))
    found = places(stable_splits(names, attribute_ids, value_ids))
    turned = places(stable_splits(names[::-1], attribute_ids[::-1], value_ids[::-1]))
    assert turned == found


def test_places_follow_from_the_name_by_hand():
    names, attribute_ids, value_ids = draw(2000, (4,))
    found = split_of(stable_splits(names, attribute_ids, value_ids, seed=7))
    for name in names:
        number = int.from_bytes(hashlib.blake2b(f"7\0split\0{name}".encode(), digest_size=8).digest(), "big") / 2**64
        assert found[name] == ("test" if number < 0.1 else "validation" if number < 0.2 else "train")


def test_shares_hold_for_every_value():
    names, attribute_ids, value_ids = draw(20_000, (4, 10))
    splits = stable_splits(names, attribute_ids, value_ids)
    total = Counter(value for values in value_ids for value in values)
    for split, share in (("train", 0.8), ("validation", 0.1), ("test", 0.1)):
        counts = Counter(value for image in splits[split] for value in image.value_ids)
        for value in range(14):
            spread = (total[value] * share * (1 - share)) ** 0.5
            assert abs(counts[value] - total[value] * share) < 4.5 * spread
        roles = Counter(role for image in splits[split] for role in image.roles)
        if split == "train":
            assert set(roles) == {TRAIN}
        else:
            assert roles[QUERY] / (roles[QUERY] + roles[GALLERY]) == pytest.approx(0.2, abs=0.05)
        assert [image.image_id for image in splits[split]] == list(range(len(splits[split])))


@pytest.mark.parametrize("images_per_value", [5, 6, 8, 10, 15, 20, 30])
@pytest.mark.parametrize("num_values", [2, 3, 4, 6, 10])
def test_small_data_stays_usable(num_values, images_per_value):
    count = num_values * images_per_value
    value_ids = [(i % num_values,) for i in range(count)]
    for seed in range(5):
        splits = stable_splits([str(i) for i in range(count)], [(0,)] * count, value_ids, seed)
        assert sorted(int(name) for name in places(splits)) == list(range(count))
        kept = Counter(image.value_ids[0] for image in splits["train"])
        assert min(kept[value] for value in range(num_values)) >= 2
        for split in ("validation", "test"):
            held = Counter(image.value_ids[0] for image in splits[split])
            assert max(held.values()) >= 2
            if images_per_value >= 20:  # else some values may have none
                assert min(held[value] for value in range(num_values)) >= 2
            gallery = {image.value_ids[0] for image in splits[split] if image.roles[0] == GALLERY}
            queries = [image.value_ids[0] for image in splits[split] if image.roles[0] == QUERY]
            assert queries
            assert set(queries) <= gallery


@pytest.mark.parametrize("seed", range(8))
def test_each_attribute_of_small_data_is_answered(seed):
    rng = np.random.default_rng(seed)
    labels = [[(0, int(rng.integers(3))), *([(1, 3 + int(rng.integers(2)))] if i % 4 == 0 else [])] for i in range(60)]
    attribute_ids, value_ids = ([[pair[k] for pair in pairs] for pairs in labels] for k in (0, 1))
    splits = stable_splits([str(i) for i in range(60)], attribute_ids, value_ids, seed)
    schema = AttributeSchema({"color": ["a", "b", "c"], "shape": ["d", "e"]})
    assert unanswered_note(splits, schema) == ""


def test_kept_places_stay_and_the_others_go_by_name():
    names, attribute_ids, value_ids = draw(300, (4,))
    before = stable_splits(names[:200], attribute_ids[:200], value_ids[:200], seed=1)
    kept = {name: Place(split, (None, "query", "gallery")[role]) for name, (split, role) in places(before).items()}
    found = places(stable_splits(names, attribute_ids, value_ids, seed=2, kept=kept))
    assert places(before).items() <= found.items()
    other = split_of(stable_splits(names, attribute_ids, value_ids, seed=2))
    assert sum(found[name][0] == other[name] for name in names[200:]) >= 98  # but for what rare values need


def test_bad_input():
    with pytest.raises(ValueError, match="differ in length: 1, 0, 0"):
        stable_splits(["a"], [], [])
    with pytest.raises(ValueError, match="names must be distinct, got 'a' twice"):
        stable_splits(["a", "a"], [(0,)] * 2, [(0,)] * 2)
