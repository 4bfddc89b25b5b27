"""Networks side by side: who their peers are, and that all of them train, whatever the trunk."""

from __future__ import annotations

import json

import pytest
import timm
import torch
from safetensors.torch import save_file

from ipad_train.budget import Budget
from ipad_train.compare import compare, compare_seeds
from ipad_train.config_files import load_run_config
from ipad_train.data import load_data
from ipad_train.networks import make_model, network_options
from ipad_train.peers import PEERS, check_peers, name_rows, peer_config, row_name

FEW = ("stage0.steps=1", "stage1.steps=5", "stage2.steps=4")


def nothing(line):
    pass


def test_peers_share_the_trunk_and_the_sizes_and_train_what_they_have(small_config, tmp_path):
    config = small_config("losses.contrast_weight=0.0")
    options = network_options(config, load_data(config.data))
    peers = {name: peer_config(config, name, options, None, tmp_path / name) for name in PEERS}
    assert {peer.model.options["embed_dim"] for peer in peers.values()} == {16}
    assert all(peer.model.options["trunk"] == options["trunk"] for peer in peers.values())
    assert "latent_dim" not in peers["csn"].model.options
    assert peers["rpf"].model.options["attribute_dim"] == options["latent_dim"]
    assert [name for name, peer in peers.items() if peer.stage2.is_trained] == ["asen_pp", "rpf"]
    assert not any(peer.clusters.enabled or peer.rerank.enabled or peer.stage0.is_trained for peer in peers.values())
    assert peers["rpf"].losses.contrast_weight == 0.04  # it is what RPF is about
    assert peers["asen_pp"].losses.contrast_weight == 0.0


def test_haen_reads_its_types_from_the_names_of_the_attributes(small_config, tmp_path):
    config = small_config("stage0.steps=0")
    data = load_data(config.data)
    peer = peer_config(config, "haen", network_options(config, data), None, tmp_path)
    assert make_model(peer, "stage1", data, tmp_path).options["types"] == [0, 1, 1, 1, 0, 0]  # lengths and designs


def test_names_of_networks():
    assert check_peers(["all"], "ipad") == list(PEERS)
    assert check_peers(["csn", "ipad", "rpf"], "ipad") == ["csn", "rpf"]
    with pytest.raises(ValueError, match="unknown network 'isnl' to compare; did you mean one of: isln"):
        check_peers(["isnl"], "ipad")
    with pytest.raises(ValueError, match="a lens is not trained: it has its row unasked"):
        check_peers(["csn", "lens"], "ipad")
    with pytest.raises(ValueError, match="'csn' is there twice"):
        check_peers(["csn", "csn"], "ipad")


def test_rows_under_the_peers_name():
    rows = [{"name": name} for name in ("IP-SP", "IP-SE", "fused")]
    assert [row["name"] for row in name_rows("rpf", rows)] == ["RPF region", "RPF patch", "RPF"]
    assert [row["name"] for row in name_rows("rpf", [{"name": "rpf"}])] == ["RPF"]


@pytest.mark.parametrize(
    ("asked", "found"),
    [(None, None), ("csn", "CSN mask"), ("csn MASK", "CSN mask"), ("ipad", "fused"), ("rpf patch", "RPF patch")],
)
def test_a_row_by_its_name_or_that_of_its_network(asked, found):
    assert row_name(asked, ["csn", "rpf"], "ipad") == found


def test_mistakes_are_found_before_anything_is_trained(small_config, tmp_path):
    config = small_config()
    for options, message in (
        ({"against": "CNS mask"}, "against must be a row of the table, got 'CNS mask'; did you mean: CSN mask"),
        ({"against": "rpf"}, "against must be a row of the table"),
        ({"split": "tset"}, "split must be one of train, validation, test, got 'tset'"),
    ):
        with pytest.raises(ValueError, match=message):
            compare(config, ["csn"], announce=nothing, **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_all_peers_within_equal_steps_and_a_network_more_later(small_config, tmp_path):
    config = small_config(*FEW)
    budget = Budget.parse("steps")
    results = compare(config, ["csn", "rpf"], announce=nothing, budget=budget, against="csn")
    folder = tmp_path / "run"
    assert load_run_config(folder / "csn").stage1.steps == 9
    assert load_run_config(folder / "rpf").stage2.steps == 4
    rows = {row["name"]: row for row in results["rows"]}
    assert rows["CSN mask"]["costs"]["images_per_second"] > 0
    assert rows["CSN mask"]["costs"]["parameters"] < rows["RPF"]["costs"]["parameters"]
    assert "difference" in rows["fused"]
    assert "difference" not in rows["CSN mask"]
    said: list[str] = []
    again = compare(config, ["csn", "rpf", "haen", "asen_pp"], announce=said.append, budget=budget)
    assert sum("trained already" in line for line in said) == 3
    more = [row["name"] for row in again["rows"]]
    assert {"HAEN", "ASEN++"} <= set(more)
    assert {row["name"]: row["overall"] for row in again["rows"]}["RPF"] == pytest.approx(rows["RPF"]["overall"])
    with pytest.raises(ValueError, match="holds runs of other settings: budget differ"):
        compare(config, ["csn"], announce=nothing)
    with pytest.raises(ValueError, match=r"holds runs of other settings: stage1\.learning_rate differ"):
        compare(small_config(*FEW, "stage1.learning_rate=1e-4"), ["csn"], announce=nothing, budget=budget)


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
        f"model.options.trunk={trunk}", f"model.options.semantic_trunk={tokens}", "model.options.semantic_heads=2",
        "stage2.spatial_learning_rate=0.0", *FEW, "stage0.steps=0",
    )  # fmt: skip


@pytest.mark.slow
def test_every_peer_trains_on_the_kept_maps_of_a_frozen_trunk_and_all_seeds_share_one_lens(
    small_config, frozen_overrides, tmp_path
):
    config, said = small_config(*frozen_overrides), []
    means = compare_seeds(config, [0, 1], ["all"], announce=said.append, against="lens")
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
    compare_seeds(config, [0, 1], ["csn"], announce=said.append, budget=budget)
    assert sum("timing a few steps" in line for line in said) == 2
    kept = json.loads((tmp_path / "run" / "step-seconds.json").read_text())
    expected = max(1, round(0.3 / kept["csn"]["seconds"]["stage1"]))
    assert load_run_config(tmp_path / "run" / "seed-1" / "csn").stage1.steps == expected
