from __future__ import annotations

import io

import datasets
import numpy as np
import pytest
import torch
from datasets import Dataset, Features
from PIL import Image
from torch.utils.data import DataLoader

from ipad_data import (
    AttributeSchema,
    BatchDataset,
    BatchPlan,
    DenseSampler,
    EntryTable,
    EvaluationPlans,
    ImageDecodeError,
    TripletSampler,
    plans,
)
from ipad_data.builders._base import make_row, row_features
from ipad_data.prepare import prepare
from ipad_data.prepared import load_prepared
from ipad_data.render import render_image


def test_batch_is_the_contract(rendered):
    sampler = DenseSampler(EntryTable.from_dataset(rendered["train"], "train"), 8)
    plan = sampler.plan(0, 1)
    batch = BatchDataset(rendered["train"], 48)[plan]
    num_entries = len(plan.value_ids)
    assert {name: (tuple(t.shape), t.dtype) for name, t in batch.items()} == {
        "images": ((8, 3, 48, 48), torch.uint8),
        "rows": ((8,), torch.int64),
        "image_index": ((num_entries,), torch.int64),
        "attribute_ids": ((num_entries,), torch.int64),
        "value_ids": ((num_entries,), torch.int64),
        "image_ids": ((num_entries,), torch.int64),
        "skipped": ((), torch.int64),
    }
    ids = [rendered["train"][int(row)]["image_id"] for row in plan.rows]
    assert batch["image_ids"].tolist() == [ids[i] for i in plan.image_index]
    expected = np.asarray(render_image(ids[3], size=64).image.resize((48, 48), Image.Resampling.BILINEAR), dtype=float)
    assert np.abs(batch["images"][3].permute(1, 2, 0).numpy() - expected).mean() < 4


def test_a_batch_without_images_says_the_same_of_them(rendered):
    plan = DenseSampler(EntryTable.from_dataset(rendered["train"], "train"), 8).plan(1, 0)
    whole = BatchDataset(rendered["train"], 48)[plan]
    bare = BatchDataset(rendered["train"], 48, with_images=False)[plan]
    assert set(whole) - set(bare) == {"images"}
    for name, tensor in bare.items():
        assert torch.equal(tensor, whole[name])
    assert bare["rows"].tolist() == plan.rows.tolist()


@pytest.mark.parametrize("num_workers", [1, 2])
def test_batches_do_not_depend_on_workers(rendered, num_workers):
    sampler = TripletSampler(EntryTable.from_dataset(rendered["train"], "train"), 4, triplets_per_epoch=24, seed=1)
    images = BatchDataset(rendered["train"], 16)
    expected = list(DataLoader(images, sampler=plans(sampler, 0), batch_size=None))
    found = list(DataLoader(images, sampler=plans(sampler, 0), batch_size=None, num_workers=num_workers))
    assert len(expected) == len(found) == 6
    for a, b in zip(expected, found, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            torch.testing.assert_close(a[name], b[name], rtol=0, atol=0)


def test_plans_start_at_any_step(rendered):
    sampler = TripletSampler(EntryTable.from_dataset(rendered["train"], "train"), 4, triplets_per_epoch=24)
    whole, rest = list(plans(sampler, 2)), plans(sampler, 2, start_step=4)
    assert len(rest) == 2
    for a, b in zip(whole[4:], rest, strict=True):
        np.testing.assert_array_equal(a.rows[a.image_index], b.rows[b.image_index])
    with pytest.raises(ValueError, match=r"start_step must be within \[0, 6\], got 7"):
        plans(sampler, 0, start_step=7)


@pytest.fixture
def partly_broken(tmp_path):
    """Twelve images of two values, as files; the one of row 5 is no image."""
    schema = AttributeSchema({"a": ["x", "y"], "b": ["z"]})
    rows = []
    for i in range(12):
        path = tmp_path / f"{i}.png"
        Image.new("RGB", (10, 10), (20 * i, 0, 0)).save(path)
        rows.append(make_row(str(path), 500 + i, [(0, i % 2, 0), (1, 2, 0)]))
    (tmp_path / "5.png").write_text("<html>404</html>")
    return Dataset.from_list(rows, features=Features(row_features(schema)))


def test_broken_images_raise_with_their_name(partly_broken):
    images = BatchDataset(partly_broken, 8)
    with pytest.raises(ImageDecodeError, match=r"5\.png: not an image file, it begins with b'<html>404</html>'"):
        images[next(iter(EvaluationPlans(partly_broken, 12, roles=["train"])))]


def test_skipping_drops_the_images_entries_and_counts(partly_broken):
    images = BatchDataset(partly_broken, 8, on_error="skip")
    batch = images[next(iter(EvaluationPlans(partly_broken, 12, roles=["train"])))]
    assert batch["skipped"] == 1
    assert len(batch["images"]) == 11
    ids = [i for i in range(12) if i != 5]
    assert batch["image_ids"].tolist() == [500 + i for i in ids for _ in range(2)]
    red = batch["images"][batch["image_index"], 0, 0, 0]
    assert red.tolist() == [20 * i for i in ids for _ in range(2)]


@pytest.mark.filterwarnings("ignore:left out of triplets")
def test_skipping_drops_whole_triplets(partly_broken):
    sampler = TripletSampler(EntryTable.from_dataset(partly_broken), 20)
    images = BatchDataset(partly_broken, 8, on_error="skip")
    seen_skip = False
    for step in range(20):
        plan = sampler.plan(0, step)
        batch = images[plan]
        hit = (plan.rows[plan.image_index] == 5).reshape(3, -1).any(0)
        seen_skip |= bool(hit.any())
        kept = plan.rows[plan.image_index].reshape(3, -1)[:, ~hit].reshape(-1)
        assert batch["image_ids"].tolist() == (500 + kept).tolist()
        anchors, positives, negatives = batch["value_ids"].view(3, -1)
        assert (anchors == positives).all()
        assert (anchors != negatives).all()
    assert seen_skip


def test_a_batch_of_which_nothing_is_left_names_its_files(partly_broken, tmp_path):
    only = BatchDataset(partly_broken.select([5]), 8, on_error="skip")
    with pytest.raises(
        ImageDecodeError, match=r"1 of a batch's 1 images cannot be read, and nothing of it is left:\n"
    ):
        only[BatchPlan(*(np.zeros(1, dtype=np.int64) for _ in range(4)))]
    triplet = BatchPlan(np.array([4, 5, 6]), np.arange(3), np.zeros(3, int), np.array([0, 0, 1]), parts=3)
    with pytest.raises(ImageDecodeError, match=r"1 of a batch's 3 images cannot be read(.|\n)*5\.png: not an image"):
        BatchDataset(partly_broken, 8, on_error="skip")[triplet]


def test_a_plan_without_rows_gives_an_empty_batch(partly_broken):
    nothing = np.zeros(0, dtype=np.int64)
    batch = BatchDataset(partly_broken, 8, on_error="skip")[BatchPlan(nothing, nothing, nothing, nothing)]
    assert batch["images"].shape == (0, 3, 8, 8)
    assert (len(batch["value_ids"]), batch["skipped"]) == (0, 0)


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_rows_without_an_image_say_so(fashionai_labels, on_error):
    with pytest.raises(ImageDecodeError, match=r"row 0: has labels but no image \(missing_images='label_only'\)"):
        BatchDataset(fashionai_labels, 8, on_error)[BatchPlan(*(np.zeros(1, dtype=np.int64) for _ in range(4)))]


@pytest.fixture
def fashionai_labels(make_dataset):
    rows = make_dataset(AttributeSchema({"a": ["x", "y"]}), [[(0, 0)], [(0, 1)]])
    return rows.map(lambda row: {"image": None}, features=rows.features)


def test_bytes_without_a_path_are_named_by_row(partly_broken):
    buffer = io.BytesIO()
    Image.new("RGB", (9, 9)).save(buffer, "PNG")
    schema = AttributeSchema.from_features(partly_broken.features)
    rows = [make_row(data, i, [(0, 0, 0)]) for i, data in enumerate([buffer.getvalue(), b""])]
    dataset = Dataset.from_list(rows, features=Features(row_features(schema)))
    with pytest.raises(ImageDecodeError, match="row 1: not an image file, it begins with nothing"):
        BatchDataset(dataset, 8)[next(iter(EvaluationPlans(dataset, 2, roles=["train"])))]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_error": "ignore"}, "on_error must be one of raise, skip, got 'ignore'"),
        ({"fit": "crop"}, "fit must be one of squash, letterbox, got 'crop'"),
        ({"detail_size": 0}, "detail_size must be at least 1, got 0"),
    ],
)
def test_arguments(rendered, options, message):
    with pytest.raises(ValueError, match=message):
        BatchDataset(rendered["train"], **{"detail_size": 8, **options})


def test_a_column_cast_to_decoded_images_is_read_as_stored(partly_broken, tmp_path):
    rows = partly_broken.select([0, 1])
    plan = next(iter(EvaluationPlans(rows, 2, roles=["train"])))
    expected = BatchDataset(rows, 8, on_error="skip")[plan]
    cast = rows.cast_column("image", datasets.Image())
    for found, wanted in zip(BatchDataset(cast, 8, on_error="skip")[plan].values(), expected.values(), strict=True):
        torch.testing.assert_close(found, wanted)
    prepare(datasets.DatasetDict(train=cast), tmp_path / "out", size=16, unreadable="skip")
    assert not load_prepared(tmp_path / "out", "train").features["image"].decode
