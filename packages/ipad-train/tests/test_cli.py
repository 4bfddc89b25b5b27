from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from accelerate import Accelerator
from click.testing import CliRunner

from ipad_core import AttributeEmbedder
from ipad_rerank import read_embeddings
from ipad_train.cli import main
from ipad_train.config_files import load_config, load_run_config
from ipad_train.data import load_data
from ipad_train.embed import embed_split


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_an_unknown_key_names_the_nearest_and_exits_with_an_error():
    result = run("stage1.stps=3")
    assert result.exit_code == 1
    assert "nearest: stage1.steps" in result.output
    assert "Traceback" not in result.output


def test_help_lists_the_commands():
    output = run("--help").output
    assert all(text in output for text in ("train", "evaluate", "embed", "compare", "report", "KEY=VALUE"))


def test_a_missing_data_folder_is_one_line(small_config):
    config = small_config()
    result = run(
        "train", "data.name=table", "data.options={}", "data.dir=/nowhere/at/all", f"output_dir={config.output_dir}"
    )
    assert result.exit_code == 1
    assert "/nowhere/at/all" in result.output


def test_evaluate_writes_a_table_in_three_forms(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    result = run("evaluate", folder)
    assert result.exit_code == 0, result.output
    results = json.loads((folder / "evaluation-test.json").read_text())
    assert [row["name"] for row in results["rows"]] == [
        "random",
        "stage 0 alone",
        "IP-SP",
        "IP-SE",
        "fused",
    ]
    assert f"the run delivers: {results['final']}" in result.output
    assert (folder / "evaluation-test.md").read_text().strip() in result.output


def test_evaluate_refuses_an_unknown_split_and_a_folder_that_is_no_run(finished, tmp_path):
    assert "split must be one of" in run("evaluate", finished[0], "--split", "tset").output
    assert "is no run" in run("evaluate", tmp_path).output


def test_embeddings_go_to_a_file_that_ipad_rerank_reads(finished, tmp_path):
    out = tmp_path / "test.safetensors"
    result = run("embed", finished[0], "--out", out)
    assert result.exit_code == 0, result.output
    read = read_embeddings(out)
    vectors = np.asarray(read.embeddings)
    assert len(vectors) == len(read.labels) == len(read.group_ids) == len(read.ids)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert set(np.asarray(read.roles).tolist()) == {1, 2}


def test_one_branch_is_embedded_without_the_other(finished, tmp_path):
    out = tmp_path / "spatial.safetensors"
    result = run("embed", finished[0], "--branch", "spatial", "--stage", "stage2", "--out", out)
    assert result.exit_code == 0, result.output
    config = load_run_config(finished[0], [])
    model, data = AttributeEmbedder.from_pretrained(finished[0] / "stages" / "stage2"), load_data(config.data)
    both = embed_split(model, data.splits["test"], config.data, Accelerator(cpu=True))
    np.testing.assert_allclose(read_embeddings(out).embeddings, both.spatial, atol=1e-5)
    assert not np.allclose(both.spatial, both.fused, atol=1e-2)


def test_a_branch_or_a_stage_that_is_not_there_is_refused_with_those_that_are(finished, tmp_path):
    arguments = ("embed", finished[0], "--out", tmp_path / "x.safetensors")
    output = run(*arguments, "--stage", "stage0", "--branch", "semantic").output
    assert "stages/stage0 has no 'semantic' branch; stages of the run: stage0, stage1, stage2" in output
    assert "stage must be one that the run has: stage0, stage1, stage2, got 'stage7'" in run(
        *arguments, "--stage", "stage7"
    ).output.replace("\n", " ")


@pytest.mark.slow
def test_compare_trains_every_method_from_one_stage_zero_once_a_seed_and_goes_on_where_it_was(small_config, tmp_path):
    folder = tmp_path / "all"
    arguments = (
        "compare",
        "--config",
        small_config.path,
        "--models",
        "csn",
        "--seeds",
        "0,3",
        f"output_dir={folder}",
        "stage0.steps=1",
        "stage1.steps=3",
        "stage2.steps=2",
    )
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    results = json.loads((folder / "comparison.json").read_text())
    names = ["random", "stage 0 alone", "CSN mask", "IP-SP", "IP-SE", "fused"]
    assert [row["name"] for row in results["rows"]] == names
    assert [len(row["seeds"]) for row in results["rows"]] == [2] * len(names)
    one = json.loads((folder / "seed-3" / "comparison.json").read_text())
    assert results["rows"][2]["seeds"][1] == one["rows"][2]["overall"]
    pairs = {(d["first"], d["second"]) for d in results["differences"]}
    assert ("IP-SP", "CSN mask") in pairs
    assert all(d["low"] <= d["mean"] <= d["high"] for d in results["differences"])
    assert (folder / "comparison.md").read_text().strip() in result.output
    again = run(*arguments)
    assert again.output.count("compared already") == 2
    assert load_run_config(folder / "seed-3" / "csn").model.options["embed_dim"] == 16
    from ipad_train.report import write_report

    assert "0, 3" in write_report(folder, announce=lambda line: None).read_text(encoding="utf-8")


def test_seeds_that_are_no_numbers_are_refused():
    assert (
        "--seeds must be whole numbers with commas between them, got '0;1'" in run("compare", "--seeds", "0;1").output
    )
    assert "seeds must be different whole numbers" in run("compare", "--seeds", "1,1").output


def test_a_misspelled_command_names_the_nearest_and_h_is_help():
    output = run("evalute", "runs/x").output
    assert "no command 'evalute'; did you mean: evaluate" in output
    assert "Commands:" in run("-h").output


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_embedded(finished, tmp_path):
    result = run("embed", finished[0], "--out", tmp_path / "nowhere" / "x.safetensors")
    assert "is no folder that can be written to" in result.output
    assert "embedding" not in result.output


def test_print_config_prints_what_load_config_reads_back_and_trains_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("--config", "tiny", "--print-config", "seed=7", "data.dir=photos")
    assert result.exit_code == 0, result.output
    (tmp_path / "printed.yaml").write_text(result.output)
    expected = load_config("tiny", ["seed=7", f"data.dir={tmp_path / 'photos'}"])
    assert load_config(tmp_path / "printed.yaml") == expected
    assert [path.name for path in tmp_path.iterdir()] == ["printed.yaml"]


def test_configs_explains_keys():
    assert "loop.save_every=200  (int)" in run("configs", "--keys", "loop").output
    assert "nearest: loop" in run("configs", "--keys", "loops").output
