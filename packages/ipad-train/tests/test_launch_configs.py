"""The configurations that ship for `accelerate launch`."""

from __future__ import annotations

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from click.testing import CliRunner

from ipad_train.cli import main
from ipad_train.config_files import load_config
from ipad_train.launch_configs import launch_configs

NAMES = ["cpu", "deepspeed-zero2", "gpus-8", "nodes-4x8", "one-gpu"]


def test_there_is_one_for_every_machine_of_the_documentation():
    assert list(launch_configs()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_accelerate_reads_what_is_printed(name, tmp_path):
    printed = CliRunner().invoke(main, ["configs", name])
    assert printed.exit_code == 0
    path = tmp_path / f"{name}.yaml"
    path.write_text(printed.output, encoding="utf-8")
    read = load_config_from_file(str(path))
    expected = yaml.safe_load(printed.output)
    assert read.num_processes == expected["num_processes"]
    assert f"--config_file {name}.yaml" in printed.output


def test_the_list_says_what_each_is_for():
    lines = CliRunner().invoke(main, ["configs"]).output.splitlines()
    assert [line.split()[0] for line in lines] == NAMES
    assert "the paper's 32" in lines[3]


def test_an_unknown_name_is_answered_with_the_nearest():
    result = CliRunner().invoke(main, ["configs", "gpu-8"])
    assert result.exit_code == 1
    assert "no launch configuration 'gpu-8'; there are: gpus-8" in result.output


def test_the_papers_presets_differ_in_their_data_only():
    presets = [load_config(name).to_dict() for name in ("fashionai", "darn", "deepfashion")]
    for preset in presets:
        preset.pop("output_dir")
        preset["data"].pop("name")
    assert presets[0] == presets[1] == presets[2]
    assert presets[0]["stage1"]["steps"] == 50000
    assert presets[0]["model"]["name"] == "ipad_resnet50_vitb16"
