from __future__ import annotations

import os

import pytest
from click.testing import CliRunner

from ipad_data import DatasetFilesNotFoundError
from ipad_data.cli import main
from ipad_data.doctor import examine
from ipad_data.image_check import map_in_processes, unreadable_images


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


def test_recognises_each_dataset_alone_and_below_one_folder(asen, darn_tree, deepfashion_tree, tmp_path):
    for tree, name in ((asen(), "fashionai"), (darn_tree(10, 1.0), "darn"), (deepfashion_tree(10), "deepfashion")):
        assert [diagnosis.dataset for diagnosis in examine(tree.folder, read_images=False)] == [name]
        renamed = tree.folder.rename(tree.folder.with_name("unpacked"))
        assert [diagnosis.dataset for diagnosis in examine(renamed, read_images=False)] == [name]
        renamed.rename(tree.folder)
    (tmp_path / "FashionAI").symlink_to(tmp_path / "data" / "FashionAI")
    found = examine(tmp_path, read_images=False)
    assert {diagnosis.dataset for diagnosis in found} >= {"darn", "deepfashion", "fashionai"}


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


def test_nothing_known(tmp_path):
    with pytest.raises(DatasetFilesNotFoundError, match="files of a known dataset not found"):
        examine(tmp_path)
    with pytest.raises(DatasetFilesNotFoundError, match="data folder not found"):
        examine(tmp_path / "nowhere")
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
    assert list(unreadable_images([path] * 1200 + [str(broken)], workers=2)) == [str(broken)]
    with pytest.raises(ValueError, match="workers must be at least 1"):
        list(map_in_processes(str, [1], workers=0))
