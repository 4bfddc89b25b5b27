from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.numpy import save_file

from ipad_core import AttributeEmbedder, create_model
from ipad_train.cli import main
from ipad_train.comparison import ComparisonPlan, compare
from ipad_train.data import load_data
from ipad_train.training import Training
from ipad_train.vectors import photo_keys, read_vectors, vectors_of, write_vectors

TRUNK = "model.options.trunk={name: vectors, options: {dim: 6}}"


@pytest.fixture
def file(small_config, tmp_path):
    """Vectors for the rendered photos, from whose values a lens can read the first attribute."""
    data, names, rows = load_data(small_config().data), [], []
    random = np.random.default_rng(0)
    for name, split in data.splits.items():
        names += photo_keys(split)
        for row in split.select_columns(["value_ids"]).with_format(None):
            vector = random.normal(0, 0.1, 6)
            vector[row["value_ids"][0]] += 1.0
            rows.append(vector)
        assert photo_keys(split)[0] == f"{name}/{split[0]['image_id']}"
    path = tmp_path / "own.safetensors"
    write_vectors(path, np.array(rows, dtype=np.float32), names)
    return path


@pytest.fixture
def config_of(small_config, file):
    def make(name, *overrides):
        model = ("model.name=" + name, "model.options={embed_dim: 16}", TRUNK)
        return small_config(*model, f"data.vectors={file}", "stage0.steps=0", "stage2.steps=0", *overrides)

    return make


def test_a_head_trains_on_vectors_and_its_run_is_evaluated_and_embedded(config_of, tmp_path):
    config = config_of("csn", "stage1.steps=60", "stage1.learning_rate=1e-2")
    results = Training(config, None, lambda line: None).run()
    rows = {row["name"]: row["attributes"]["sleeve_length"] for row in results["rows"]}
    assert rows["CSN mask"] > rows["random"] + 20
    run = CliRunner().invoke(main, ["evaluate", str(tmp_path / "run")])
    assert run.exit_code == 0, run.output
    out = tmp_path / "test.safetensors"
    run = CliRunner().invoke(main, ["embed", str(tmp_path / "run"), "--out", str(out)])
    assert run.exit_code == 0, run.output
    assert AttributeEmbedder.from_pretrained(tmp_path / "run" / "best").weights["trunk"]["source"] == "vectors"
    run = CliRunner().invoke(main, ["export", str(tmp_path / "run"), "--format", "torch"])
    assert run.exit_code == 0, run.output
    assert json.loads((tmp_path / "run" / "export" / "export.json").read_text())["image_size"] is None


def test_a_lens_on_vectors_in_one_command(config_of, small_config, file, tmp_path):
    arguments = [
        "lens",
        "--config",
        str(small_config.path),
        f"output_dir={tmp_path / 'lens'}",
        "model.name=csn",
        "model.options={embed_dim: 8}",
        TRUNK,
        f"data.vectors={file}",
    ]
    run = CliRunner().invoke(main, arguments)
    assert run.exit_code == 0, run.output
    rows = {row["name"]: row for row in json.loads((tmp_path / "lens" / "lens-test.json").read_text())["rows"]}
    assert list(rows) == ["random", "frozen trunk", "lens"]
    assert rows["lens"]["attributes"]["sleeve_length"] > 90
    assert AttributeEmbedder.from_pretrained(tmp_path / "lens" / "lens" / "best").is_fitted
    again = CliRunner().invoke(main, [*arguments, "data.flip=0.1"])
    assert "holds runs of other settings: data.flip differ" in again.output


def test_heads_are_compared_on_vectors(config_of):
    config = config_of("csn", "stage1.steps=4")
    rows = [row["name"] for row in compare(config, ComparisonPlan(["triplet"]), lambda line: None)["rows"]]
    assert rows == ["random", "frozen trunk", "lens", "triplet", "CSN mask"]


def test_features_of_a_trunk_once_for_every_head(small_config, tmp_path):
    out = tmp_path / "features.npy"
    options = "{channels: [8, 8, 16, 16], stem_width: 8}"
    run = CliRunner().invoke(
        main,
        [
            "features",
            "--config",
            str(small_config.path),
            "--trunk",
            f"{{name: resnet10t, options: {options}}}",
            "--out",
            str(out),
            f"output_dir={tmp_path / 'x'}",
        ],
    )
    assert run.exit_code == 0, run.output
    assert "108 vectors of 16 numbers" in run.output
    array, places = read_vectors(out)
    assert array.shape == (108, 16)
    data = load_data(small_config().data)
    assert set(places) == {key for split in data.splits.values() for key in photo_keys(split)}


def test_photos_are_found_by_the_end_of_their_path(small_config, tmp_path):
    config = small_config().data
    split = load_data(config).splits["test"].select(range(2))
    named = split.map(
        lambda row, i: {"image": {"path": f"/data/photos/{'ab'[i]}/1.jpg", "bytes": None}}, with_indices=True
    )
    np.save(tmp_path / "v.npy", np.arange(6, dtype=np.float32).reshape(3, 2))
    (tmp_path / "v.txt").write_text("other.jpg\nb/1.jpg\na/1.jpg\n")
    model = create_model("triplet", num_attributes=1, embed_dim=3, trunk={"name": "vectors", "options": {"dim": 2}})
    config = small_config(f"data.vectors={tmp_path / 'v.npy'}").data
    found = vectors_of(model, named, config).read(torch.tensor([0, 1, 1]))[0]
    assert found[:, :, 0, 0].tolist() == [[4, 5], [2, 3], [2, 3]]
    (tmp_path / "v.txt").write_text("other.jpg\nc/1.jpg\na/1.jpg\n")
    read_vectors.cache_clear()
    with pytest.raises(ValueError, match=r"lacks 1 of 2 photos of the split test, e\.g\. /data/photos/b/1\.jpg"):
        vectors_of(model, named, config)


def test_a_second_branch_on_vectors_is_refused_before_the_first_batch(small_config, file):
    config = small_config(TRUNK, f"data.vectors={file}", "stage0.steps=0", "stage2.steps=4")
    with pytest.raises(
        ValueError, match=r"the trunk 'vectors' has no images, .* leave that branch out with semantic=False"
    ):
        Training(config, None, lambda line: None)


def test_what_the_network_reads_and_the_file_holds_must_agree(config_of, small_config, file):
    data = load_data(small_config().data)
    model = create_model("triplet", num_attributes=6, embed_dim=3, trunk={"name": "vectors", "options": {"dim": 7}})
    with pytest.raises(ValueError, match=r"has 6 numbers a photo, and the network reads 7; set .*dim: 6"):
        vectors_of(model, data.splits["test"], config_of("csn").data)
    with pytest.raises(ValueError, match=r"give data\.vectors=FILE"):
        vectors_of(model, data.splits["test"], small_config().data)


def test_bad_files(tmp_path):
    def refused(name, message, kind=ValueError):
        with pytest.raises(kind, match=message):
            read_vectors(tmp_path / name)

    refused("none.npy", "there is no file", FileNotFoundError)
    (tmp_path / "a.npy").write_bytes(pickle.dumps([1]))
    refused("a.npy", "needs the names of its photos, one a line", FileNotFoundError)
    (tmp_path / "a.txt").write_text("x\n")
    refused("a.npy", "cannot be read")
    np.save(tmp_path / "b.npy", np.zeros((2, 3), dtype=np.float32))
    (tmp_path / "b.txt").write_text("x\n")
    refused("b.npy", "2, 3. and 1 names")
    (tmp_path / "b.txt").write_text("x\nx\n")
    refused("b.npy", "names a photo twice: x")
    (tmp_path / "c.csv").write_text("1")
    refused("c.csv", "must be .npy or .safetensors")
    (tmp_path / "d.safetensors").write_bytes(b"no")
    refused("d.safetensors", "must hold 'embeddings'")
    save_file(
        {"embeddings": np.zeros((1, 2), dtype=np.int64)}, tmp_path / "e.safetensors", metadata={"names": '["x"]'}
    )
    refused("e.safetensors", "must be .N, D. floats")
