from __future__ import annotations

import pytest
from click.testing import CliRunner

from ipad_data import load
from ipad_data.cli import main
from ipad_data.prepared import load_prepared


def labels(dataset):
    return dataset.remove_columns("image").to_list()


def test_command(asen, tmp_path):
    tree = asen()
    out = tmp_path / "out"
    arguments = ["prepare", "fashionai", str(tree.folder), "--out", str(out), "--size", "32", "--shard-mb", "0.01"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "train 160 rows in 2 shards" in result.output
    assert load_prepared(out, "test").num_rows == 80
    assert load("fashionai", out, "test").num_rows == 80
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, "exists already" in result.output) == (1, True)
    result = CliRunner().invoke(main, [*arguments[:3], "--out", str(tmp_path / "b"), "-o", "protocl=random"])
    assert "has no option 'protocl'; did you mean one of: protocol?" in result.output
    result = CliRunner().invoke(main, [*arguments[:3], "--out", "/proc/version/x"])
    assert result.exit_code == 1
    assert result.output.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in result.output


def test_splits_command(fashionai_raw, tmp_path):
    tree = fashionai_raw(images=False)
    result = CliRunner().invoke(
        main, ["splits", "fashionai", str(tree.folder), "--out", str(tmp_path / "s"), "-o", "seed=3"]
    )
    assert result.exit_code == 0, result.output
    written = load("fashionai", tmp_path / "s", missing_images="label_only")
    direct = load("fashionai", tree.folder, protocol="random", seed=3, missing_images="label_only")
    assert all(labels(written[split]) == labels(direct[split]) for split in direct)


@pytest.mark.parametrize(
    ("name", "protocol"), [("darn", "random"), ("deepfashion", "random"), ("deepfashion", "official")]
)
def test_split_files_of_the_other_datasets_repeat_a_run(darn_tree, deepfashion_tree, tmp_path, name, protocol):
    tree = darn_tree(count=300, alive=1.0) if name == "darn" else deepfashion_tree(count=100)
    arguments = ["splits", name, str(tree.folder), "--out", str(tmp_path / "s"), "-o", f"protocol={protocol}"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    written = load(name, tmp_path / "s", images_dir=tree.folder)
    direct = load(name, tree.folder, protocol=protocol)
    assert {split: rows.to_list() for split, rows in written.items()} == {
        split: rows.to_list() for split, rows in direct.items()
    }
    assert written["train"].features == direct["train"].features


def test_render_command(tmp_path):
    result = CliRunner().invoke(main, ["render", "--out", str(tmp_path / "r"), "--num-images", "10", "--size", "32"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "r" / "meta.json").is_file()
    assert CliRunner().invoke(main, ["doctor", str(tmp_path / "r")]).exit_code == 0


@pytest.mark.parametrize("command", [[], ["doctor"], ["prepare"], ["splits"], ["render"]])
def test_help(command):
    result = CliRunner().invoke(main, [*command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.output
