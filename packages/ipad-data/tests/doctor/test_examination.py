from __future__ import annotations

import json
import os
import re
import shlex
import shutil

import pytest
from click.testing import CliRunner
from PIL import Image

from ipad_data import DatasetFilesNotFoundError, load
from ipad_data.cli import main
from ipad_data.doctor import examine
from ipad_data.image_check import examine_images, map_in_processes
from ipad_data.prepare import prepare
from ipad_data.render.export import write_rendered


def test_healthy_tree(asen):
    tree = asen()
    (diagnosis,) = examine(tree.folder)
    assert (diagnosis.dataset, diagnosis.images, diagnosis.unreadable) == ("fashionai", 320, {})
    assert diagnosis.healthy
    text = str(diagnosis)
    assert "[x] filenames_{train,valid,test}.txt" in text
    assert "[ ] [ARCHIVE/]Annotations/label.csv" in text
    assert "train: 160 of 160 images found (100.0 %)" in text
    assert "sleeve_length: 20 labels" in text
    assert "ipad_data.load('fashionai'" in text


def test_recognises_each_dataset_alone_and_below_one_folder(asen, darn_tree, deepfashion_tree, ccp_tree, tmp_path):
    for tree, name in (
        (asen(), "fashionai"),
        (darn_tree(10, 1.0), "darn"),
        (deepfashion_tree(10), "deepfashion"),
        (ccp_tree(10), "ccp"),
    ):
        assert [diagnosis.dataset for diagnosis in examine(tree.folder, read_images=False)] == [name]
        renamed = tree.folder.rename(tree.folder.with_name("unpacked"))
        assert [diagnosis.dataset for diagnosis in examine(renamed, read_images=False)] == [name]
        renamed.rename(tree.folder)
    (tmp_path / "FashionAI").symlink_to(tmp_path / "data" / "FashionAI")
    found = examine(tmp_path, read_images=False)
    assert {diagnosis.dataset for diagnosis in found} >= {"darn", "deepfashion", "fashionai", "ccp"}


def test_partial_darn(darn_tree):
    (diagnosis,) = examine(darn_tree().folder, read_images=False)
    text = str(diagnosis)
    assert not diagnosis.healthy
    assert "Link list: 66 of 100 linked images are here; 1 lines repeat a name" in text
    assert "missing_images='skip', protocol='random'" in text
    assert "images were not read" in text
    assert "--size 512 -o missing_images=skip -o protocol=random" in text


def test_labels_without_images(fashionai_raw):
    (diagnosis,) = examine(fashionai_raw(images=False).folder)
    assert "missing_images='label_only'" in str(diagnosis)
    assert "tianchi.aliyun.com" in str(diagnosis)


def test_copies_under_other_names_are_named(asen, tmp_path, jpeg):
    tree = asen(prefix=False)
    names = {split: (tree.folder / f"filenames_{split}.txt").read_text().split() for split in ("train", "test")}
    for copy, original in ((names["test"][3], names["train"][5]), (names["train"][0], names["train"][8])):
        shutil.copy(tree.folder / original, tree.folder / copy)
    (diagnosis,) = examine(tree.folder)
    assert diagnosis.healthy  # whether they hurt is for the reader to say
    text = str(diagnosis)
    assert "2 images are a copy of another, with labels of the same attribute or in two splits, e.g. " in text
    assert f"{names['train'][5]} of train and {names['test'][3]} of test" in text
    for i in range(40):
        jpeg(tmp_path / "shop" / ["red", "blue"][i % 2] / f"{i}.jpg", i)
    shutil.copy(tmp_path / "shop/red/0.jpg", tmp_path / "shop/blue/copy.jpg")
    (diagnosis,) = examine(tmp_path / "shop")
    assert "1 images are a copy of another" in str(diagnosis)
    assert "copy of another" not in str(examine(tmp_path / "shop", read_images=False)[0])


def test_unreadable_images_are_named(fashionai_raw):
    tree = fashionai_raw({"": 20})
    html, cut, empty = (tree.folder / name for name in tree.names[:3])
    html.write_text("<html>404</html>")
    cut.write_bytes(cut.read_bytes()[:-200])
    empty.write_bytes(b"")
    (diagnosis,) = examine(tree.folder)
    assert set(diagnosis.unreadable) == {str(html), str(cut), str(empty)}
    assert "3 of them unreadable" in str(diagnosis)
    assert not diagnosis.healthy


def test_faulty_labels_are_reported_not_raised(fashionai_raw):
    tree = fashionai_raw({"": 10})
    path = tree.folder / "Annotations" / "label.csv"
    path.write_text(path.read_text().replace("y", "n", 1))
    (diagnosis,) = examine(tree.folder, read_images=False)
    assert "cannot be read" in str(diagnosis)
    assert "label.csv:1: expected exactly one y, got 0" in str(diagnosis)


def test_anno_fine_is_explained(deepfashion_tree):
    tree = deepfashion_tree(5)
    (tree.folder / "Anno_coarse").rename(tree.folder / "Anno_fine")
    (diagnosis,) = examine(tree.folder, read_images=False)
    assert "the 26 attributes of Anno_fine" in str(diagnosis)


@pytest.fixture
def shop(tmp_path, jpeg, lines):
    """A table of 40 photos."""
    folder = tmp_path / "shop"
    for i in range(40):
        jpeg(folder / "images" / f"{i}.jpg", i)
    rows = [f"{i}.jpg,{('short', 'long')[i % 2]},{('shirt', '', 'stand', '')[i % 4]}" for i in range(40)]
    lines(folder / "labels.csv", ["file_name,sleeve,collar", *rows])
    return folder


def test_a_table_is_examined_like_the_others(shop, jpeg):
    with (shop / "labels.csv").open("a", encoding="utf-8") as file:
        file.write("gone.jpg,long,\n40.jpg,,\n")
    jpeg(shop / "images" / "40.jpg")
    (shop / "images" / "1.jpg").write_text("<html>404</html>")
    jpeg(shop / "images" / "spare.jpg")
    (diagnosis,) = examine(shop)
    text = str(diagnosis)
    assert diagnosis.dataset == "table"
    assert not diagnosis.healthy
    assert "[x] labels.csv" in text
    assert "42 image files\n1 of them unreadable\n" in text
    assert "1.jpg: not an image file, it begins with b'<html>404" in text
    assert "table: 41 of 42 images found (97.6 %)\n    missing: gone.jpg" in text
    assert "sleeve: 40 labels, 2 of 2 values seen, 20 to 20 images a value (imbalance 1.0)" in text
    assert "collar: 20 labels, 2 of 2 values seen" in text
    assert "1 images have no label and are left out" in text
    assert "1 image files are not in the table: images/spare.jpg" in text
    assert re.search(r"Splits, drawn: train \d+, validation [45] \(\d queries\), test [45] \(\d queries\)", text)
    assert f"ipad_data.load('table', {str(shop)!r}, missing='skip')" in text


def test_a_whole_table_is_healthy_and_a_faulty_one_is_reported(shop):
    assert CliRunner().invoke(main, ["doctor", str(shop)]).exit_code == 0
    with (shop / "labels.csv").open("a", encoding="utf-8") as file:
        file.write("0.jpg,long,\n")
    result = CliRunner().invoke(main, ["doctor", str(shop)])
    assert result.exit_code == 1
    assert "labels.csv:42: image '0.jpg' comes twice, first at" in result.output
    assert "Mend what is said above" in result.output


def test_the_forms_of_hugging_face_and_of_boxes(shop, lines):
    (shop / "labels.csv").unlink()
    rows = [
        {
            "file_name": f"images/{i}.jpg",
            "sleeve": ("short", "long")[i % 2],
            "brand": "acme",
            "boxes": {"sleeve": [0, 0, 1, 1]},
        }
        for i in range(40)
    ]
    lines(shop / "metadata.jsonl", [json.dumps(row) for row in rows])
    (diagnosis,) = examine(shop)
    text = str(diagnosis)
    assert (diagnosis.dataset, diagnosis.healthy) == ("table", True)
    assert "metadata.jsonl" in text
    assert "sleeve: 40 labels, 2 of 2 values seen" in text
    assert "40 images have boxes" in text
    assert "attribute 'brand' has the single value 'acme', and is left out of training and evaluation" in text
    for split in ("train", "test"):
        (shop / split).mkdir()
        lines(shop / split / "metadata.jsonl", [json.dumps(row) for row in rows])
    (shop / "metadata.jsonl").unlink()
    (shop / "test" / "metadata.jsonl").write_text("{")
    (diagnosis,) = examine(shop)
    assert "test/metadata.jsonl:1: not JSON" in str(diagnosis)


def test_a_table_whose_images_are_elsewhere(shop):
    (shop / "images").rename(shop / "pictures")
    (diagnosis,) = examine(shop)
    text = str(diagnosis)
    assert not diagnosis.healthy
    assert "table: 0 of 40 images found" in text
    assert (
        f"The nearest folder that has files of these names is {shop / 'pictures'}: load with images='pictures'" in text
    )


def test_a_prepared_folder(shop, tmp_path):
    out = prepare(load("table", shop), tmp_path / "out", size=32, options={"seed": 0}).out
    (diagnosis,) = examine(out)
    text = str(diagnosis)
    assert (diagnosis.dataset, diagnosis.healthy) == ("prepared", True)
    assert "images found (100.0 %)" in text
    assert " labels, 2 of 2 values seen, " in text
    assert "Prepared from table, seed=0: shorter side 32 pixels at most, JPEG quality 90" in text
    assert f"ipad_data.load('table', {str(out)!r})" in text
    next((out / "data").glob("test-*")).unlink()
    (diagnosis,) = examine(out)
    assert not diagnosis.healthy
    assert "1 of 1 shards of test" in str(diagnosis)


def test_a_rendered_export(tmp_path):
    write_rendered(tmp_path / "r", 40, 32, progress=False)
    (diagnosis,) = examine(tmp_path / "r")
    text = str(diagnosis)
    assert (diagnosis.dataset, diagnosis.healthy, diagnosis.images) == ("rendered", True, 40)
    assert "validation: 4 of 4 images found" in text
    assert "ipad_data.load('fashionai'" in text


def test_nothing_known(tmp_path):
    with pytest.raises(DatasetFilesNotFoundError, match="files of a known dataset not found"):
        examine(tmp_path)
    (tmp_path / "fashionAI_attributes_train1.zip").write_bytes(b"PK")
    with pytest.raises(
        DatasetFilesNotFoundError, match=r"Unpack fashionAI_attributes_train1\.zip first\. Name it with"
    ):
        examine(tmp_path)
    with pytest.raises(DatasetFilesNotFoundError, match="data folder not found"):
        examine(tmp_path / "nowhere")
    with pytest.raises(
        ValueError, match="dataset must be one of fashionai, darn, deepfashion, ccp, table, prepared, rendered"
    ):
        examine(tmp_path, "imagenet")
    (diagnosis,) = examine(tmp_path, "deepfashion")
    assert "[ ] Anno_coarse/list_attr_img.txt" in str(diagnosis)


def test_command(asen, darn_tree):
    result = CliRunner().invoke(main, ["doctor", str(asen().folder)])
    assert result.exit_code == 0, result.output
    assert "Expected (x = found)" in result.output
    result = CliRunner().invoke(main, ["doctor", "--no-read-images", str(darn_tree().folder)])
    assert result.exit_code == 1
    result = CliRunner().invoke(main, ["doctor", "nowhere"])
    assert result.exit_code == 1
    assert "Error: data folder not found" in result.output
    assert "Traceback" not in result.output


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root reads everything")
def test_unreadable_folder(asen):
    tree = asen()
    tree.folder.chmod(0)
    try:
        result = CliRunner().invoke(main, ["doctor", str(tree.folder)])
    finally:
        tree.folder.chmod(0o755)
    assert result.exit_code == 1
    assert "Permission denied" in result.output


@pytest.mark.multiprocess
def test_several_processes_find_the_same(tmp_path, jpeg):
    path, broken = str(jpeg(tmp_path / "a.jpg")), tmp_path / "b.jpg"
    broken.write_bytes(b"<html>")
    found = examine_images([path] * 1200 + [str(broken)], workers=2)
    assert list(found.unreadable) == [str(broken)]
    assert list(found.digests) == [path]
    with pytest.raises(ValueError, match="workers must be at least 1"):
        list(map_in_processes(str, [1], workers=0))


def test_images_of_any_suffix_are_read_as_load_would(fashionai_raw, photos_of_any_suffix):
    tree = fashionai_raw()
    names = [tree.folder / name for name in tree.names[:4]]
    renamed = [
        names[0].with_suffix(""),
        *(name.with_suffix(suffix) for name, suffix in zip(names[1:], (".jfif", ".jpe", ".data"), strict=True)),
    ]
    for old, new in zip(names, renamed, strict=True):
        old.rename(new)
    label_csv = tree.folder / "Annotations" / "label.csv"
    text = label_csv.read_text(encoding="utf-8")
    for name, new in zip(tree.names, renamed, strict=False):
        text = text.replace(name, new.relative_to(tree.folder).as_posix())
    label_csv.write_text(text, encoding="utf-8")
    renamed[3].write_text("<html>")
    (diagnosis,) = examine(tree.folder)
    assert diagnosis.images == 160
    assert list(diagnosis.unreadable) == [str(renamed[3])]
    assert sum(load("fashionai", tree.folder, protocol="random").num_rows.values()) == 160
    (diagnosis,) = examine(photos_of_any_suffix)
    assert diagnosis.images == 20
    assert [os.path.basename(path) for path in diagnosis.unreadable] == ["3"]


@pytest.fixture
def photos_of_any_suffix(tmp_path):
    folder = tmp_path / "own photos"
    folder.mkdir()
    for i in range(20):
        Image.new("RGB", (8, 8)).save(folder / f"{i}.png")
    for i, suffix in enumerate((".jfif", ".avif", ".x", "")):
        (folder / f"{i}.png").rename(folder / f"{i}{suffix}")
    (folder / "3").write_text("<html>")
    names = [f"{i}{suffix}" for i, suffix in enumerate((".jfif", ".avif", ".x", "", *[".png"] * 16))]
    (folder / "labels.csv").write_text(
        "\n".join(["file_name,a", *(f"{name},{'xy'[i % 2]}" for i, name in enumerate(names))])
    )
    return folder


def test_commands_quote_folders_with_spaces(asen, photos_of_any_suffix):
    (diagnosis,) = examine(photos_of_any_suffix)
    command = next(step for step in diagnosis.advice if step.startswith("accelerate"))
    assert shlex.split(command)[-1] == f"data.dir={photos_of_any_suffix}"
    folder = asen().folder.rename(photos_of_any_suffix.parent / "fashion ai")
    (diagnosis,) = examine(folder, "fashionai", read_images=False)
    command = next(step for step in diagnosis.advice if step.startswith("ipad-data"))
    assert shlex.split(command)[:4] == ["ipad-data", "prepare", "fashionai", str(folder)]


def test_images_behind_links_lead_to_images_dir(asen, tmp_path):
    """As the README of ASEN++ and RPF has it: split files in data/FashionAI, the unpacked images linked into it."""
    tree, target = asen(), tmp_path / "un packed" / "Images"
    target.parent.mkdir()
    (tree.folder / "Images").rename(target)
    (tree.folder / "Images").symlink_to(target)
    (diagnosis,) = examine(tree.folder, read_images=False)
    text = str(diagnosis)
    assert "1 links lead out of the folder" in text
    assert f"ipad_data.load('fashionai', '{tree.folder}', images_dir='{target}')" in text
    assert f"-o 'images_dir={target}'" in text
    assert load("fashionai", tree.folder, images_dir=target).num_rows["train"] == 160


def test_coarse_annotations_beside_the_fine_ones_are_named(deepfashion_tree, lines):
    tree = deepfashion_tree()
    fine = [f"attribute {i}  {1 + i % 5}" for i in range(26)]
    lines(tree.folder / "Anno_fine" / "list_attr_cloth.txt", ["26", "attribute_name attribute_type", *fine])
    lines(tree.folder / "Anno_fine" / "list_attr_img.txt", ["0", "image_name attribute_labels"])
    assert "1000" not in (tree.folder / "Anno_fine" / "list_attr_cloth.txt").read_text()
    (diagnosis,) = examine(tree.folder / "Anno_fine", "deepfashion", read_images=False)
    assert f"{tree.folder / 'Anno_coarse'} is here: name {tree.folder} as the folder of the data" in str(diagnosis)


@pytest.mark.parametrize("elsewhere", ["archive/Images", "FashionAI/deep/pictures"])
def test_images_beside_lead_to_images_dir(asen, elsewhere):
    tree = asen()
    target = tree.folder.parent / elsewhere
    target.parent.mkdir(exist_ok=True)
    (tree.folder / "Images").rename(target)
    (diagnosis,) = examine(tree.folder, read_images=False)
    assert f"images_dir='{target}')" in str(diagnosis)
    assert load("fashionai", tree.folder, images_dir=target).num_rows["train"] == 160


def test_images_that_are_nowhere_need_no_folder(asen):
    (diagnosis,) = examine(asen(images=False).folder, read_images=False)
    assert "images_dir" not in diagnosis.advice[-1]
