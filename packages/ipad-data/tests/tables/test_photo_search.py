"""Where the names of a table lead, and what is said where they lead nowhere."""

from __future__ import annotations

import os
import re

import pytest

from ipad_data import DatasetFilesNotFoundError, LabelFileError, load
from ipad_data.tables import PhotoFinder, where_else


def test_names_count_from_the_table_first_and_from_images_then(tmp_path, jpeg):
    beside, below = jpeg(tmp_path / "t" / "a.jpg"), jpeg(tmp_path / "images" / "b.jpg")
    finder = PhotoFinder([tmp_path / "images"])
    assert finder.find(tmp_path / "t", "a.jpg") == beside
    assert finder.find(tmp_path / "t", "b.jpg") == below
    assert finder.find(tmp_path / "t", "c.jpg") is None
    assert finder.places(tmp_path / "t", "c.jpg") == [tmp_path / "t" / "c.jpg", tmp_path / "images" / "c.jpg"]


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need rights")
def test_a_name_of_two_files(tmp_path, jpeg):
    first = jpeg(tmp_path / "t" / "a.jpg")
    finder = PhotoFinder([tmp_path / "images"])
    second = jpeg(tmp_path / "images" / "a.jpg", "blue")
    with pytest.raises(ValueError, match=rf"'a\.jpg' stands for different files: {first}, {second}; rename one"):
        finder.find(tmp_path / "t", "a.jpg")
    second.unlink()
    second.symlink_to(first)
    assert finder.find(tmp_path / "t", "a.jpg") == first


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need rights")
def test_the_folder_of_images_may_be_a_link_and_the_images_may_not(photos, records, write, tmp_path, jpeg):
    (photos / "images").rename(tmp_path / "elsewhere")
    (photos / "images").symlink_to(tmp_path / "elsewhere")
    write(photos / "metadata.jsonl", records)
    assert sum(load("table", photos).num_rows.values()) == 30
    jpeg(tmp_path / "secret.jpg")
    (photos / "images" / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    write(photos / "metadata.jsonl", [*records, {"file_name": "images/link.jpg", "color": "red"}])
    with pytest.raises(LabelFileError, match=r"metadata\.jsonl:31: image names must stay inside .*through a link"):
        load("table", photos)


def test_an_image_under_two_names(photos, records, write):
    write(photos / "metadata.jsonl", [*records, {"file_name": "p03.jpg", "color": "red"}])
    with pytest.raises(LabelFileError, match=r"metadata\.jsonl:31: image 'p03\.jpg' comes twice, first at .*:4"):
        load("table", photos)


@pytest.mark.parametrize(
    ("moved_to", "prefix", "advice"),
    [
        ("pictures/all", "", "load with images='pictures/all'"),
        ("pictures/images", "images/", "load with images='pictures'"),
        ("pictures", "images/", "the table must call them 'pictures/p00.jpg'"),
    ],
)
def test_a_table_that_names_no_image_says_where_it_looked_and_where_they_are(
    photos, records, write, moved_to, prefix, advice
):
    (photos / moved_to).parent.mkdir(parents=True, exist_ok=True)
    (photos / "images").rename(photos / moved_to)
    write(photos / "metadata.csv", [{**row, "file_name": prefix + row["file_name"][7:]} for row in records])
    with pytest.raises(DatasetFilesNotFoundError) as caught:
        load("table", photos, missing="skip")
    message = str(caught.value)
    assert message.startswith(f"30 of 30 images of the table {photos / 'metadata.csv'} not found.")
    assert f"looked at: {photos / prefix / 'p00.jpg'}" in message
    assert f"The nearest folder that has files of these names is {photos / moved_to}: {advice}" in message
    assert "missing='skip'" not in message
    if found := re.search(r"images='(.*)'", advice):
        assert sum(load("table", photos, images=found.group(1)).num_rows.values()) == 30


def test_images_that_are_nowhere(tmp_path, jpeg):
    jpeg(tmp_path / "a" / "b" / "other.jpg")
    assert where_else(tmp_path, ["x.jpg"]).startswith(f"No file below {tmp_path} has one of these names")
    jpeg(tmp_path / "a" / "b" / "c" / "x.jpg")
    jpeg(tmp_path / "z" / "x.jpg")
    assert "images='z'" in where_else(tmp_path, ["x.jpg"])  # the nearest, not the first
