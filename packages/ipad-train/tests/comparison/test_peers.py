"""Who the peers of a network are, what they share with it, and what their rows are called."""

from __future__ import annotations

import pytest

from ipad_train.comparison.peers import PEERS, check_peers, name_rows, peer_config, row_name
from ipad_train.data import load_data
from ipad_train.networks import make_model, network_options


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
