"""Networks side by side: all of them train, whatever the trunk, and what is done is not done again."""

from __future__ import annotations

import json

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from ipad_train.budget import Budget
from ipad_train.comparison import ComparisonPlan, compare, compare_seeds
from ipad_train.comparison.peers import PEERS
from ipad_train.config_files import load_run_config
from ipad_train.tracking import read_timings
from ipad_train.training import Training

FEW = ("stage0.steps=1", "stage1.steps=5", "stage2.steps=4")


def nothing(line):
    pass


def test_mistakes_are_found_before_anything_is_trained(small_config, tmp_path):
    config = small_config()
    for options, message in (
        ({"against": "CNS mask"}, "against must be a row of the table, got 'CNS mask'; did you mean: CSN mask"),
        ({"against": "rpf"}, "against must be a row of the table"),
        ({"split": "tset"}, "split must be one of train, validation, test, got 'tset'"),
    ):
        with pytest.raises(ValueError, match=message):
            compare(config, ComparisonPlan(["csn"], **options), nothing)
    assert not (tmp_path / "run").exists()


def test_the_dataset_is_opened_once_and_each_run_is_the_one_that_it_is_by_itself(small_config, tmp_path, opened):
    config = small_config("stage0.steps=0", "stage1.steps=2", "stage2.steps=0")
    compare(config, ComparisonPlan(["csn"]), nothing)
    assert opened == ["rendered"]
    alone = load_run_config(tmp_path / "run" / "csn", [f"output_dir={tmp_path / 'alone'}"])
    Training(alone, None, nothing).run()
    assert len(opened) == 2
    one, other = (load_file(tmp_path / name / "best" / "model.safetensors") for name in ("run/csn", "alone"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_within_equal_steps_a_branch_each_branch_trains_what_one_branch_trains_in_all(small_config, tmp_path):
    config = small_config(
        "stage0.steps=0", "stage1.steps=0", "stage1.epochs=1", "stage1.batch_size=24", "stage2.steps=1"
    )  # of 48 images: two steps and one
    budget = Budget.parse("steps-per-branch")
    results = compare(config, ComparisonPlan(["csn", "rpf"], budget=budget), nothing)
    assert results["budget"] == "steps per branch"
    trained = {
        folder: {
            stage: sum(row["steps"] for row in read_timings(tmp_path / "run" / folder) if row["stage"] == stage)
            for stage in ("stage1", "stage2")
        }
        for folder in (config.model.name, "csn", "rpf")
    }
    assert trained == {
        config.model.name: {"stage1": 3, "stage2": 3},
        "csn": {"stage1": 3, "stage2": 0},
        "rpf": {"stage1": 3, "stage2": 3},
    }
    said: list[str] = []
    again = compare(config, ComparisonPlan(["csn", "rpf"], budget=budget), said.append)
    assert sum("trained already" in line for line in said) == 3
    assert [row["overall"] for row in again["rows"]] == [row["overall"] for row in results["rows"]]


@pytest.mark.slow
def test_all_peers_within_equal_steps_and_a_network_more_later(small_config, tmp_path):
    config = small_config(*FEW)
    budget = Budget.parse("steps")
    results = compare(config, ComparisonPlan(["csn", "rpf"], against="csn", budget=budget), nothing)
    folder = tmp_path / "run"
    assert load_run_config(folder / "csn").stage1.steps == 9
    assert load_run_config(folder / "rpf").stage2.steps == 4
    rows = {row["name"]: row for row in results["rows"]}
    assert rows["CSN mask"]["costs"]["images_per_second"] > 0
    assert rows["CSN mask"]["costs"]["parameters"] < rows["RPF"]["costs"]["parameters"]
    assert "difference" in rows["fused"]
    assert "difference" not in rows["CSN mask"]
    said: list[str] = []
    again = compare(config, ComparisonPlan(["csn", "rpf", "haen", "asen_pp"], budget=budget), said.append)
    assert sum("trained already" in line for line in said) == 3
    more = [row["name"] for row in again["rows"]]
    assert {"HAEN", "ASEN++"} <= set(more)
    assert {row["name"]: row["overall"] for row in again["rows"]}["RPF"] == pytest.approx(rows["RPF"]["overall"])
    with pytest.raises(ValueError, match="holds runs of other settings: budget differ"):
        compare(config, ComparisonPlan(["csn"]), nothing)
    with pytest.raises(ValueError, match=r"holds runs of other settings: stage1\.learning_rate differ"):
        compare(small_config(*FEW, "stage1.learning_rate=1e-4"), ComparisonPlan(["csn"], budget=budget), nothing)


@pytest.fixture
def frozen_overrides(tmp_path):
    """Of a run whose trunk starts from a file and is frozen whole, so that its maps are kept."""
    torch.manual_seed(0)
    file = tmp_path / "resnet10t.safetensors"
    network = timm.create_model("resnet10t", num_classes=0, channels=[8, 8, 16, 16], stem_width=8, output_stride=8)
    save_file(network.state_dict(), file)
    options = "{channels: [8, 8, 16, 16], stem_width: 8, output_stride: 8}"
    trunk = f"{{stage: 3, freeze: all, weights: {file}, options: {options}}}"
    tokens = "{name: hybrid, stage: last, options: {embed_dim: 16, depth: 0, num_heads: 2}}"
    return (
        f"model.options.trunk={trunk}",
        f"model.options.semantic_trunk={tokens}",
        "model.options.semantic_heads=2",
        "stage2.spatial_learning_rate=0.0",
        *FEW,
        "stage0.steps=0",
    )


@pytest.mark.slow
def test_every_peer_trains_on_the_kept_maps_of_a_frozen_trunk_and_all_seeds_share_one_lens(
    small_config, frozen_overrides, tmp_path
):
    config, said = small_config(*frozen_overrides), []
    means = compare_seeds(config, [0, 1], ComparisonPlan(["all"], against="lens"), said.append)
    names = [row["name"] for row in means["rows"]]
    assert {"frozen trunk", "lens", *PEERS.values()} <= set(names)
    for name in ("frozen trunk", "lens"):
        first, second = means["rows"][names.index(name)]["seeds"]
        assert first == second
    assert sum("trunk's maps" in line for line in said) == 1  # of the training images, for all seeds and networks
    folder = tmp_path / "run"
    assert (folder / "lens" / "best" / "config.json").is_file()
    assert not list(folder.glob("seed-*/lens"))
    one = json.loads((folder / "seed-1" / "comparison.json").read_text())
    assert one["models"] == list(PEERS)
    assert all("difference" in row for row in means["rows"] if row["name"] in ("CSN mask", "ISLN"))


@pytest.mark.slow
def test_equal_minutes_are_timed_once(small_config, tmp_path):
    config, said = small_config(*FEW), []
    budget = Budget("minutes", 0.005)
    compare_seeds(config, [0, 1], ComparisonPlan(["csn"], budget=budget), said.append)
    assert sum("timing a few steps" in line for line in said) == 2
    kept = json.loads((tmp_path / "run" / "step-seconds.json").read_text())
    expected = max(1, round(0.3 / kept["csn"]["seconds"]["stage1"]))
    assert load_run_config(tmp_path / "run" / "seed-1" / "csn").stage1.steps == expected
