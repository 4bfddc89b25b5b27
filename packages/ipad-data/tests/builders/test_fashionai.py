from __future__ import annotations

import json
import shutil

import pytest

from ipad_data import (
    AttributeSchema,
    BatchDataset,
    DatasetFilesNotFoundError,
    DataWarning,
    EvaluationPlans,
    LabelFileError,
    load,
)
from ipad_data.builders.fashionai import SCHEMA, FashionAI, read_label_csv
from ipad_data.meta_file import read_meta
from ipad_data.random_ranking import expected_random_map
from ipad_data.roles import GALLERY, QUERY, TRAIN
from ipad_data.split_writing import write_splits

GOOD = "Images/skirt_length_labels/a.jpg,skirt_length_labels,nnynnm"


def entries(dataset):
    return [
        (row["image_id"], row["attribute_ids"], row["value_ids"], row["roles"])
        for row in dataset.remove_columns("image")
    ]


@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize("nested", [True, False])
def test_published_layout(asen, prefix, nested):
    tree = asen(prefix, nested)
    for folder in (tree.folder, tree.folder.parent):
        dataset = load("fashionai", folder)
        assert {split: len(rows) for split, rows in dataset.items()} == {"train": 160, "validation": 80, "test": 80}
        assert AttributeSchema.from_features(dataset["train"].features) == SCHEMA
        row = dataset["validation"][17]
        _, attribute, value, _ = tree.rows[160 + 17]
        assert row["image"]["path"].endswith(tree.rows[160 + 17][0])
        assert (row["image_id"], row["attribute_ids"], row["roles"]) == (17, [attribute], [GALLERY])
        assert row["value_ids"] == [SCHEMA.flat_value_id(attribute, value)]
        assert sum(roles == [QUERY] for roles in dataset["test"]["roles"]) == 16
        assert {role for roles in dataset["train"]["roles"] for role in roles} == {TRAIN}


def test_rows_become_batches(asen):
    dataset = load("fashionai", asen().folder, split="test")
    batches = BatchDataset(dataset, 32)
    counts = [batches[plan]["images"].shape for plan in EvaluationPlans(dataset, batch_size=50)]
    assert sum(shape[0] for shape in counts) == 80


@pytest.mark.parametrize("counts", [{"": 160}, {"train1": 100, "deep/rank": 60}])
def test_random_splits_of_one_and_several_archives(fashionai_raw, counts):
    tree = fashionai_raw(counts)
    dataset = load("fashionai", tree.folder, protocol="random", seed=5)
    assert sum(len(rows) for rows in dataset.values()) == 160
    letters = {name.rpartition("/")[2]: (a, v) for name, a, v, _ in tree.rows}
    for rows in dataset.values():
        for row in rows:
            attribute, value = letters[row["image"]["path"].rpartition("/")[2]]
            assert (row["attribute_ids"], row["value_ids"]) == ([attribute], [SCHEMA.flat_value_id(attribute, value)])
    assert entries(load("fashionai", tree.folder, "train", protocol="random", seed=5)) == entries(dataset["train"])
    assert entries(load("fashionai", tree.folder, "train", protocol="random", seed=6)) != entries(dataset["train"])


def test_written_random_splits_load_as_published(fashionai_raw, tmp_path):
    tree = fashionai_raw()
    random = load("fashionai", tree.folder, protocol="random")
    reader = FashionAI.without_cache(FashionAI.BUILDER_CONFIG_CLASS(data_dir=str(tree.folder), protocol="random"))
    write_splits(tmp_path / "splits", reader.splits(), reader.schema, "FashionAI")
    again = load("fashionai", tmp_path / "splits", images_dir=tree.folder)
    for split in random:
        assert random[split].to_list() == again[split].to_list()


def test_maybe_changes_training_only(fashionai_raw):
    tree = fashionai_raw()
    by_policy = {
        maybe: load("fashionai", tree.folder, protocol="random", maybe=maybe) for maybe in ("ignore", "drop", "also")
    }
    maybe_names = {name for name, *_, letters in tree.rows if "m" in letters}
    ignored = by_policy["ignore"]["train"]
    held = [row["image_id"] for row in ignored if "/".join(row["image"]["path"].split("/")[-3:]) in maybe_names]
    assert held
    assert [i for i in ignored["image_id"] if i not in held] == list(by_policy["drop"]["train"]["image_id"])
    for before, after in zip(ignored, by_policy["also"]["train"], strict=True):
        assert after["value_ids"][:1] == before["value_ids"]
        assert len(after["value_ids"]) == (2 if before["image_id"] in held else 1)
        assert len(set(after["attribute_ids"])) == 1
        assert after["roles"] == [TRAIN] * len(after["value_ids"])
    for maybe in ("drop", "also"):
        assert by_policy[maybe]["test"].to_list() == by_policy["ignore"]["test"].to_list()


def test_maybe_with_published_splits_needs_the_letters(asen, fashionai_raw, lines):
    tree = asen()
    with pytest.raises(DatasetFilesNotFoundError, match=r"label.csv of FashionAI not found"):
        load("fashionai", tree.folder, maybe="drop")
    rows = [f"{name},{SCHEMA.attributes[a]}_labels,{letters}" for name, a, _, letters in tree.rows[:160]]
    lines(tree.folder / "Annotations" / "label.csv", rows[:-1])
    with pytest.raises(DatasetFilesNotFoundError, match="letters of 1 training images"):
        load("fashionai", tree.folder, maybe="drop")
    lines(tree.folder / "Annotations" / "label.csv", rows)
    assert len(load("fashionai", tree.folder, "train", maybe="drop")) == sum(
        "m" not in row[3] for row in tree.rows[:160]
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (GOOD.replace("y", "n"), "exactly one y, got 0"),
        (GOOD.replace("m", "y"), "exactly one y, got 2"),
        (GOOD.replace("m", "x"), "letters must be y, m or n, got 'x'"),
        (GOOD + "n", "takes 6 letters, got 7"),
        (GOOD[:-6] + "?", "unlabelled questions"),
        (GOOD.replace("skirt_length_labels,", "skirt_lenght_labels,"), "unknown attribute .*did you mean"),
        (GOOD + ",1", "got 4 fields"),
        ("image_id", "got 1 fields"),
        ("Images/skirt_length_labels/b.jpg,skirt_length_labels,nnynnm", "has a row already"),
        ("../../etc/passwd,skirt_length_labels,nnynnm", "no path inside the data folder"),
    ],
)
def test_label_csv_faults_name_file_and_line(tmp_path, lines, line, message):
    path = lines(tmp_path / "label.csv", [GOOD.replace("a.jpg", "b.jpg"), "", line])
    with pytest.raises(LabelFileError, match=rf"label.csv:3: .*{message}"):
        read_label_csv(path)


def test_label_csv_accepts_bom_crlf_blank_lines_and_other_scripts(tmp_path):
    path = tmp_path / "label.csv"
    path.write_bytes(("\ufeff" + GOOD.replace("a.jpg", "\u88d9.jpg") + "\r\n\r\n" + GOOD + "\r\n").encode())
    first, second = read_label_csv(path)
    assert first.name.endswith("\u88d9.jpg")
    assert (second.attribute_id, second.value_id, second.maybe_ids) == (0, 2, (5,))


def test_faults_reach_the_caller_of_load(fashionai_raw):
    tree = fashionai_raw({"": 10}, images=False)
    path = tree.folder / "Annotations" / "label.csv"
    path.write_text(path.read_text() + GOOD.replace("y", "n") + "\n")
    with pytest.raises(LabelFileError, match=r"label.csv:11: expected exactly one y"):
        load("fashionai", tree.folder, protocol="random")


def test_archives_that_disagree(fashionai_raw, lines):
    tree = fashionai_raw({"a": 10}, images=False)
    name, attribute, _, letters = tree.rows[0]
    turned = letters[-1] + letters[:-1]
    lines(tree.folder / "b" / "Annotations" / "label.csv", [f"{name},{SCHEMA.attributes[attribute]}_labels,{turned}"])
    with pytest.raises(LabelFileError, match=r"b/Annotations/label\.csv:1: .* in another archive"):
        load("fashionai", tree.folder, protocol="random")


def test_missing_images_policies_keep_ids(asen):
    tree = asen()
    for name in tree.names[160:170]:
        (tree.folder / name.removeprefix("valid/")).unlink()
    with pytest.raises(DatasetFilesNotFoundError, match=r"(?s)10 labelled images.*looked at.*missing_images='skip'"):
        load("fashionai", tree.folder)
    with pytest.warns(DataWarning, match=r"rows of 10 missing images are left out \(train: 160 of 160 images found"):
        skipped = load("fashionai", tree.folder, missing_images="skip")
    assert list(skipped["validation"]["image_id"]) == list(range(10, 80))
    assert "validation: 70 of 80 images found (87.5 %)" in skipped["validation"].info.description
    kept = load("fashionai", tree.folder, missing_images="label_only")["validation"]
    assert list(kept["image_id"]) == list(range(80))
    assert [row["image"] is None for row in kept] == [True] * 10 + [False] * 70


def test_skip_without_any_image_is_an_error(asen):
    with pytest.raises(DatasetFilesNotFoundError, match="320 labelled images of FashionAI"):
        load("fashionai", asen(images=False).folder, missing_images="skip")


def test_link_out_of_the_folder_is_refused(asen, tmp_path):
    tree = asen()
    shutil.move(tree.folder / "Images", tmp_path / "big_disk")
    (tree.folder / "Images").symlink_to(tmp_path / "big_disk")
    with pytest.raises(LabelFileError, match="leads through the link 'Images'"):
        load("fashionai", tree.folder, "train")


def test_nothing_there(tmp_path):
    with pytest.raises(DatasetFilesNotFoundError, match="folder of FashionAI not found"):
        load("fashionai", tmp_path / "nowhere")
    with pytest.raises(
        DatasetFilesNotFoundError, match=r"split files of FashionAI not found.*\n.*\n.*\n.*protocol='random'"
    ):
        load("fashionai", tmp_path)
    with pytest.raises(DatasetFilesNotFoundError, match=r"label.csv of FashionAI not found"):
        load("fashionai", tmp_path, protocol="random")


@pytest.mark.parametrize(
    ("option", "value"),
    [("protocol", "official"), ("maybe", "soft"), ("missing_images", "ignore"), ("seed", -1)],
)
def test_bad_options(tmp_path, option, value):
    with pytest.raises(ValueError, match=f"{option} must"):
        load("fashionai", tmp_path, **{option: value})


def test_cache_sees_edits_and_new_images_and_is_hit_otherwise(asen, cache_folder, monkeypatch):
    tree = asen()
    calls = []
    generate = FashionAI._generate_examples
    monkeypatch.setattr(FashionAI, "_generate_examples", lambda self, rows: calls.append(1) or generate(self, rows))
    load("fashionai", tree.folder)
    assert len(calls) == 3
    load("fashionai", tree.folder)
    assert len(calls) == 3  # unchanged: a hit
    (tree.folder / tree.rows[200][0]).unlink()
    load("fashionai", tree.folder, missing_images="label_only")
    assert len(calls) == 6
    (tree.folder / tree.rows[201][0]).unlink()
    rows = load("fashionai", tree.folder, "validation", missing_images="label_only")
    assert sum(image is None for image in rows["image"]) == 2  # a changed listing was seen
    label = tree.folder / "label_train.txt"
    first, _, rest = label.read_text().partition("\n")
    label.write_text(first[:-1] + str((int(first[-1]) + 1) % 5) + "\n" + rest)
    before = rows.info.version
    edited = load("fashionai", tree.folder, "train", missing_images="label_only")
    assert edited[0]["value_ids"] == [SCHEMA.flat_value_id(0, (int(first[-1]) + 1) % 5)]  # an edited label was seen
    monkeypatch.setattr(FashionAI, "VERSION", "1.0.1")
    assert str(load("fashionai", tree.folder, "train", missing_images="label_only").info.version) != str(before)


@pytest.mark.filterwarnings("ignore:.*no split files of")
def test_real_validation_split(published_fashionai):
    rows = load("fashionai", published_fashionai, "validation", missing_images="label_only")
    roles = [role for roles in rows["roles"] for role in roles]
    assert (len(rows), roles.count(QUERY), roles.count(GALLERY)) == (18_000, 3_600, 14_400)
    assert {len(ids) for ids in rows["attribute_ids"]} == {1}
    assert AttributeSchema.from_features(rows.features) == SCHEMA
    assert read_meta(published_fashionai / "meta.json", "fashionai") == SCHEMA
    names = (published_fashionai / "filenames_valid.txt").read_text().split()
    sure = {row.name: row.value_id for row in read_label_csv(published_fashionai / "label.csv")}
    assert len(sure) == 18_000
    for row in rows.remove_columns("image"):
        assert row["value_ids"] == [sure[names[row["image_id"]].removeprefix("valid/")]]


@pytest.mark.filterwarnings("ignore:.*no split files of")
def test_real_validation_split_ranked_at_random(published_fashionai):
    """Figures computed from the files with the formula; within 0.5 points of the test split's."""
    rows = load("fashionai", published_fashionai, "validation", missing_images="label_only")
    result = expected_random_map(rows, SCHEMA)
    assert list(result.num_queries.values()) == [439, 596, 515, 419, 356, 330, 668, 277]
    expected = [17.38, 12.40, 13.41, 17.53, 22.80, 21.38, 11.22, 20.97]
    assert [round(100 * value, 2) for value in result.per_attribute.values()] == expected
    assert round(100 * result.overall, 2) == 16.04
    test_split = [17.15, 12.48, 13.31, 17.50, 22.36, 21.57, 11.06, 21.33]
    assert [100 * value for value in result.per_attribute.values()] == pytest.approx(test_split, abs=0.5)


def test_meta_of_another_dataset(asen):
    tree = asen()
    (tree.folder.parent / "meta.json").write_text(json.dumps({"DARN": {}}))
    with pytest.raises(LabelFileError, match="has no section for 'FashionAI'"):
        load("fashionai", tree.folder)
