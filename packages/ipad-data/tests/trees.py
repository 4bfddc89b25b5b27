"""Generators of the three datasets' trees, with the headers and quirks of the real ones, and small real JPEGs."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from ipad_data.builders.darn import SCHEMA as DARN_SCHEMA
from ipad_data.builders.fashionai import SCHEMA as FASHIONAI_SCHEMA
from ipad_data.builders.fashionai import FashionAI
from ipad_data.ccp_files import TAGS as CCP_TAGS
from ipad_data.deepfashion_files import TYPES

TYPE_COUNTS = (156, 218, 180, 216, 230)


def write_jpeg(path: Path, seed: int = 0, size: tuple[int, int] = (48, 64)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    color = tuple(np.random.default_rng(seed).integers(0, 255, 3).tolist())
    Image.new("RGB", size, color).save(path, "JPEG")
    return path


def write_lines(path: Path, lines: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


@dataclass
class Tree:
    """A generated dataset: its folder, and what was put there."""

    folder: Path
    names: list[str] = field(default_factory=list)
    rows: list[tuple[str, int, int, str]] = field(default_factory=list)  # name, attribute, local value, letters


def fashionai_rows(count: int, seed: int = 0) -> list[tuple[str, int, int, str]]:
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        attribute = i % 8
        number = FASHIONAI_SCHEMA.num_values[attribute]
        value = int(rng.integers(number))
        letters = ["n"] * number
        if rng.random() < 0.2:
            letters[(value + 1) % number] = "m"
        letters[value] = "y"
        name = hashlib.md5(f"{seed}/{i}".encode()).hexdigest()
        path = f"Images/{FASHIONAI_SCHEMA.attributes[attribute]}_labels/{name}.jpg"
        rows.append((path, attribute, value, "".join(letters)))
    return rows


def label_csv(rows: list[tuple[str, int, int, str]]) -> list[str]:
    return [f"{name},{FASHIONAI_SCHEMA.attributes[a]}_labels,{letters}" for name, a, _, letters in rows]


@pytest.fixture(autouse=True)
def small_fashionai(monkeypatch):
    """The trees here have some hundred images where FashionAI has 180,000, and that is said otherwise."""
    monkeypatch.setattr(FashionAI, "KNOWN_COUNTS", {})


@pytest.fixture
def jpeg():
    return write_jpeg


@pytest.fixture
def lines():
    return write_lines


@pytest.fixture
def fashionai_raw(tmp_path):
    """Function: the raw release, one or several archives, unpacked flat or side by side."""

    def make(counts: dict[str, int] | None = None, images: bool = True) -> Tree:
        tree = Tree(tmp_path / "FashionAI")
        for number, (archive, count) in enumerate((counts or {"": 160}).items()):
            rows = fashionai_rows(count, seed=number)
            write_lines(tree.folder / archive / "Annotations" / "label.csv", label_csv(rows))
            tree.rows += rows
            for seed, (name, *_) in enumerate(rows if images else []):
                write_jpeg(tree.folder / archive / name, seed)
        tree.names = [name for name, *_ in tree.rows]
        return tree

    return make


@pytest.fixture
def asen(tmp_path):
    """Function: the layout ``data/meta.json``, ``data/FashionAI/{filenames_*, label_train, query_*, candidate_*}``."""

    def make(prefix: bool = True, nested: bool = True, images: bool = True) -> Tree:
        import json

        data = tmp_path / "data"
        tree = Tree(data / "FashionAI")
        for number, (split, count) in enumerate({"train": 160, "valid": 80, "test": 80}.items()):
            rows = fashionai_rows(count, seed=10 + number)
            names = [f"{split}/{name}" if prefix and split != "train" else name for name, *_ in rows]
            write_lines(tree.folder / f"filenames_{split}.txt", names)
            entries = [f"{i} {a} {v}" for i, (_, a, v, _) in enumerate(rows)]
            if split == "train":
                write_lines(tree.folder / "label_train.txt", entries)
            else:
                write_lines(tree.folder / f"query_{split}.txt", entries[:16][::-1])
                write_lines(tree.folder / f"candidate_{split}.txt", entries[16:])
            tree.rows += rows
            tree.names += names
            for seed, (name, *_) in enumerate(rows if images else []):
                write_jpeg(tree.folder / name, 1000 * number + seed)
        section: dict = {
            "ATTRIBUTES": list(FASHIONAI_SCHEMA.attributes),
            "ATTRIBUTES_NUM": dict(zip(FASHIONAI_SCHEMA.attributes, FASHIONAI_SCHEMA.num_values, strict=True)),
        }
        if not nested:
            section["ATTRIBUTES_VALUES"] = {a: list(v) for a, v in FASHIONAI_SCHEMA.values.items()}
        meta = {"FashionAI": section, "DARN": {"ATTRIBUTES": ["x"], "ATTRIBUTES_NUM": {"x": 2}}} if nested else section
        (data / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
        return tree

    return make


@pytest.fixture
def darn_tree(tmp_path):
    """Function: an attribute list, a link list with repeated lines, and the images that are still alive."""

    def make(count: int = 100, alive: float = 0.66) -> Tree:
        rng = np.random.default_rng(0)
        tree = Tree(tmp_path / "DARN")
        labels, links = [], []
        for i in range(count):
            name = f"{i:06d}_0.jpg"
            values = [int(rng.integers(-1, number)) for number in DARN_SCHEMA.num_values]
            values[0] = max(values[0], 0)
            labels.append(f"{name} {' '.join(map(str, values))}")
            links.append(f"{name} http://img.example.com/{i}.jpg")
            tree.names.append(name)
            if i < alive * count:
                write_jpeg(tree.folder / "pic" / name, i)
        write_lines(tree.folder / "label.txt", labels)
        write_lines(tree.folder / "darn_url.txt", [*links, links[0]])
        return tree

    return make


@pytest.fixture
def deepfashion_tree(tmp_path):
    """Function: Anno_coarse (or Anno), Eval and img, with the two header lines and ragged spaces of the release."""

    def make(count: int = 60, anno: str = "Anno_coarse", images: bool = True) -> Tree:
        rng = np.random.default_rng(0)
        tree = Tree(tmp_path / "DeepFashion")
        kinds = np.repeat(np.arange(5), TYPE_COUNTS)
        rng.shuffle(kinds)
        cloth = [f"{TYPES[k]} print no {c}".ljust(32) + str(k + 1) for c, k in enumerate(kinds)]
        write_lines(tree.folder / anno / "list_attr_cloth.txt", ["1000", "attribute_name  attribute_type", *cloth])
        attributes, partition, boxes = [], [], []
        for i in range(count):
            name = f"img/Sheer_Pleated-Front_Blouse_{i // 10}/img_{i:08d}.jpg"
            tree.names.append(name)
            columns = rng.choice([-1, 0], 1000)
            columns[rng.choice(40, 4, replace=False)] = 1
            attributes.append(name.ljust(70) + " ".join(f"{value:2d}" for value in columns))
            partition.append(f"{name.ljust(70)}{'train' if i % 5 < 3 else 'val' if i % 5 == 3 else 'test'}")
            boxes.append(f"{name.ljust(70)}005 010 040 060")
            if images:
                write_jpeg(tree.folder / name, i)
        head = [str(count)]
        write_lines(tree.folder / anno / "list_attr_img.txt", [*head, "image_name  attribute_labels", *attributes])
        write_lines(tree.folder / anno / "list_bbox.txt", [*head, "image_name  x_1  y_1  x_2  y_2", *boxes])
        write_lines(
            tree.folder / "Eval" / "list_eval_partition.txt", [*head, "image_name  evaluation_status", *partition]
        )
        return tree

    return make


CCP_LABELS = ["null", "hair", "skin", *sorted({tag for tags in CCP_TAGS.values() for tag in tags}), "watch"]


def write_tags(path: Path, tags: list[str]) -> Path:
    """An annotation of a whole photo, as the repository of Clothing Co-Parsing has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"tags": np.array([[CCP_LABELS.index(tag) for tag in ["null", *tags]]], dtype=np.uint8)})
    return path


def write_pixels(path: Path, regions: list[tuple[str, int, int, int, int]], size: tuple[int, int] = (48, 64)) -> Path:
    """An annotation of a photo's pixels: ``tag, x0, y0, x1, y1`` one over the other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros(size[::-1], dtype=np.uint8)
    for tag, x0, y0, x1, y1 in regions:
        pixels[y0:y1, x0:x1] = CCP_LABELS.index(tag)
    savemat(path, {"groundtruth": pixels}, do_compression=True)
    return path


@pytest.fixture
def ccp_tree(tmp_path):
    """Function: the repository of Clothing Co-Parsing, every other photo with annotated pixels."""

    def make(count: int = 60) -> Tree:
        tree = Tree(tmp_path / "clothing-co-parsing")
        rng = np.random.default_rng(0)
        for i in range(count):
            name = f"{i + 1:04d}"
            tags = [str(rng.choice(tags[:2])) for tags in CCP_TAGS.values() if len(tags) > 1 or rng.random() < 0.5]
            write_jpeg(tree.folder / "photos" / f"{name}.jpg", i)
            if i % 2:
                write_tags(tree.folder / "annotations" / "image-level" / f"{name}.mat", ["hair", *tags])
            else:
                regions = [(tag, 10, 6 * row, 10 + 4 * (row + 1), 6 * row + 6) for row, tag in enumerate(tags)]
                write_pixels(
                    tree.folder / "annotations" / "pixel-level" / f"{name}.mat", [("skin", 8, 0, 50, 62), *regions]
                )
            tree.names.append(f"{name}.jpg")
        savemat(tree.folder / "label_list.mat", {"label_list": np.array([CCP_LABELS], dtype=object)})
        return tree

    return make


@pytest.fixture(scope="session")
def published_fashionai():
    """Folder of FashionAI's real validation files, where there is one: it may not be given away with the tests."""
    places = [os.environ.get("IPAD_FASHIONAI_FILES", "")]
    repository = next((p for p in Path(__file__).parents if (p / ".git").exists()), None)
    if repository is not None:
        places += [str(place) for place in repository.parent.glob("*/data/fashionai")]
    for place in places:
        if place and (Path(place) / "filenames_valid.txt").is_file():
            return Path(place)
    pytest.skip("no real FashionAI files; name their folder with IPAD_FASHIONAI_FILES")
