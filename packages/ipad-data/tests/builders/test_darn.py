from __future__ import annotations

import pytest

from ipad_data import AttributeSchema, DatasetFilesNotFoundError, DataWarning, LabelFileError, load
from ipad_data.builders.darn import DARN, SCHEMA, read_attribute_list, read_url_list


def reader(folder, **options):
    return DARN.without_cache(DARN.BUILDER_CONFIG_CLASS(data_dir=str(folder), **options))


def test_schema():
    assert SCHEMA.num_values == (20, 13, 55, 7, 28, 11, 26, 8, 17)
    assert SCHEMA.total_values == 185


@pytest.mark.filterwarnings("ignore::ipad_data.DataWarning")
def test_partial_image_set(darn_tree):
    tree = darn_tree()
    with pytest.raises(DatasetFilesNotFoundError, match="34 labelled images of DARN"):
        load("darn", tree.folder, protocol="random")
    for _ in range(2):  # what was built before is said again
        with pytest.warns(DataWarning, match="rows of 34 missing images are left out") as said:
            dataset = load("darn", tree.folder, protocol="random", missing_images="skip")
        assert any("no query of clothes_color" in str(warning.message) for warning in said)
    assert sum(len(rows) for rows in dataset.values()) == 66
    assert AttributeSchema.from_features(dataset["train"].features) == SCHEMA
    labels = {line.split()[0]: line.split()[1:] for line in (tree.folder / "label.txt").read_text().splitlines()}
    for row in dataset["train"]:
        texts = labels[row["image"]["path"].rpartition("/")[2]]
        wanted = [(a, SCHEMA.flat_value_id(a, int(v))) for a, v in enumerate(texts) if v != "-1"]
        assert list(zip(row["attribute_ids"], row["value_ids"], strict=True)) == wanted


def test_splits_do_not_depend_on_the_images_at_hand(darn_tree):
    tree = darn_tree()
    before = reader(tree.folder, protocol="random").splits()
    next((tree.folder / "pic").iterdir()).unlink()
    assert reader(tree.folder, protocol="random").splits() == before


def test_coverage_report(darn_tree):
    tree = darn_tree()
    urls = reader(tree.folder).url_coverage()
    assert urls == (100, 66, 1)
    coverage = reader(tree.folder, protocol="random").coverage()
    assert sum(counts.labelled for counts in coverage.values()) == 100
    assert sum(counts.found for counts in coverage.values()) == 66
    assert all(len(counts.missing) == counts.labelled - counts.found for counts in coverage.values())


@pytest.mark.filterwarnings("ignore:.*no split files of")
def test_published_split_files(darn_tree, lines):
    tree = darn_tree(10, alive=1.0)
    for split, names in (("train", tree.names[:5]), ("test", tree.names[5:])):
        lines(tree.folder / f"filenames_{split}.txt", [f"pic/{name}" for name in names])
    lines(tree.folder / "label_train.txt", [f"{i} 0 19 8 16" for i in range(5)])
    lines(tree.folder / "query_test.txt", ["0 0 3", "0 8 1"])
    lines(tree.folder / "candidate_test.txt", [f"{i} 0 3" for i in range(1, 5)])
    dataset = load("darn", tree.folder)
    assert dataset["train"][0]["value_ids"] == [19, 184]
    assert dataset["test"][0]["roles"] == [1, 1]
    assert len(dataset["test"]) == 5


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("b.jpg 1 2 3", "expected an image name and 9 value ids"),
        ("b.jpg 0 0 0 0 0 0 0 0 17", r"value id of 'sleeve_shape' must be within \[0, 17\), got 17"),
        ("b.jpg -2 0 0 0 0 0 0 0 0", "must be within"),
        ("b.jpg x 0 0 0 0 0 0 0 0", "value id of clothes_category must be an integer, got 'x'"),
        ("a.jpg 0 0 0 0 0 0 0 0 0", "'a.jpg' was on line 1 already"),
        ("../b.jpg 0 0 0 0 0 0 0 0 0", "no path inside the data folder"),
    ],
)
def test_list_faults(tmp_path, lines, line, message):
    path = lines(tmp_path / "label.txt", ["a.jpg 0 0 0 0 0 0 0 0 0", line])
    with pytest.raises(LabelFileError, match=rf"label.txt:2: .*{message}"):
        read_attribute_list(path)


def test_url_list(tmp_path, lines):
    path = lines(tmp_path / "urls.txt", ["a b.jpg http://x/1", "c.jpg\thttps://x/2", "c.jpg http://x/3"])
    assert read_url_list(path) == ({"a b.jpg": "http://x/1", "c.jpg": "https://x/2"}, 1)
    with pytest.raises(LabelFileError, match=r"urls.txt:2: expected an image name and its URL"):
        read_url_list(lines(path, ["a.jpg http://x/1", "b.jpg"]))
    with pytest.raises(LabelFileError, match="no path inside"):
        read_url_list(lines(path, ["../../a.jpg http://x/1"]))


def test_no_annotations(tmp_path):
    with pytest.raises(DatasetFilesNotFoundError, match=r"(?s)annotation list of DARN not found.*label.txt"):
        load("darn", tmp_path, protocol="random")


def test_images_without_a_label_are_counted(darn_tree):
    tree = darn_tree(alive=1.0)
    with (tree.folder / "label.txt").open("a", encoding="utf-8") as file:
        file.writelines(f"bare{i}.jpg {' '.join(['-1'] * 9)}\n" for i in range(3))
    with pytest.warns(DataWarning, match="3 of 103 images have no label and are left out"):
        assert sum(load("darn", tree.folder, protocol="random").num_rows.values()) == 100
