from __future__ import annotations

import pytest

from ipad_data.image_tree import ImageTree


@pytest.mark.parametrize(
    ("stored", "name"),
    [
        ("Images/coat/a.jpg", "Images/coat/a.jpg"),
        ("Images/coat/a.jpg", "valid/Images/coat/a.jpg"),
        ("valid/Images/coat/a.jpg", "Images/coat/a.jpg"),
        ("rank/images/coat/a.JPG", "test/Images/coat/a.JPG"),
        ("Images/\u8863/\u00fc 1.jpg", "Images/\u8863/\u00fc 1.jpg"),
        ("coat/a.jpg", "Images/coat/a.jpg"),
    ],
)
def test_finds_images_in_every_layout(tmp_path, jpeg, stored, name):
    path = jpeg(tmp_path / stored)
    assert ImageTree(tmp_path, "Images").find(name) == str(path)


def test_nested_anchor_as_in_deepfashion(tmp_path, jpeg):
    path = jpeg(tmp_path / "Img" / "img" / "Dress" / "img_1.jpg")
    assert ImageTree(tmp_path, "img").find("img/Dress/img_1.jpg") == str(path)


def test_the_own_archive_comes_first(tmp_path, jpeg):
    jpeg(tmp_path / "base" / "Images" / "a.jpg")
    mine = jpeg(tmp_path / "rank" / "Images" / "a.jpg")
    assert ImageTree(tmp_path, "Images").find("Images/a.jpg", archive="rank") == str(mine)


def test_missing_and_not_an_image(tmp_path, jpeg):
    jpeg(tmp_path / "Images" / "a.jpg")
    (tmp_path / "Images" / "b.txt").write_text("no image")
    tree = ImageTree(tmp_path, "Images")
    assert tree.find("Images/b.txt").endswith("b.txt")  # what a label file names is found; decoding tells what it is
    assert "Images/b.txt" not in tree.files
    assert tree.find("Images/c.jpg") is None
    assert list(tree.files) == ["Images/a.jpg"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_links_out_of_the_folder_are_refused(tmp_path, jpeg, kind):
    secret = jpeg(tmp_path / "elsewhere" / "a.jpg")
    images = tmp_path / "data" / "Images"
    images.parent.mkdir()
    if kind == "file":
        images.mkdir()
        (images / "a.jpg").symlink_to(secret)
    else:
        images.symlink_to(secret.parent)
    tree = ImageTree(tmp_path / "data", "Images")
    assert not tree.files
    assert len(tree.outside) == 1
    with pytest.raises(ValueError, match=r"leads through the link .* name that folder with images_dir="):
        tree.find("Images/a.jpg")


def test_links_inside_circles_and_a_linked_root(tmp_path, jpeg):
    path = jpeg(tmp_path / "real" / "store" / "Images" / "a.jpg")
    (tmp_path / "real" / "again").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "Images").symlink_to(path.parent)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    tree = ImageTree(tmp_path / "link", "Images")
    assert tree.find("Images/a.jpg").endswith("a.jpg")
    assert not tree.outside
