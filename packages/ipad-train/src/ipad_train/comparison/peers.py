"""The paper's other networks beside a configured one: the same trunk, sizes, data and batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ipad_core import model_options
from ipad_train.config import LossConfig, ModelConfig, RerankConfig, RunConfig, StageConfig
from ipad_train.evaluate import BRANCH_NAMES, VALUES
from ipad_train.reranking import FEATURE_REASONING, RERANKING

# Network of ipad-core -> name of its row.
PEERS = {
    "triplet": "triplet",
    "csn": "CSN mask",
    "asen": "ASEN",
    "asen_v2": "ASEN v2",
    "attn_fashion": "AttnFashion",
    "isln": "ISLN",
    "haen": "HAEN",
    "asen_pp": "ASEN++",
    "rpf": "RPF",
}
# Those with a second stage -> what their branches are called.
BRANCHES = {"asen_pp": ("global", "local"), "rpf": ("region", "patch")}
FIRST_BRANCHES = {"IP-SP", *(f"{PEERS[name]} {parts[0]}" for name, parts in BRANCHES.items())}
# Options of the configured network that its peers take over, where they know them.
SHARED_OPTIONS = (
    "image_size",
    "trunk",
    "embed_dim",
    "position_channels",
    "latent_dim",
    "reduction",
    "semantic_trunk",
    "semantic_heads",
    "crop_size",
    "crop_threshold",
    "crop_min_side",
    "crop_margin",
)


def check_peers(names: Iterable[str], configured: str) -> list[str]:
    """The networks to train beside the configured one.

    Args:
        names: Of ``PEERS``, or ``all``; the architecture of the configured network may be among them, and is left out.
        configured: Architecture of the configured network.

    Raises:
        ValueError: an unknown name (the nearest are named), one twice, or a lens, which has a row without being asked for.
    """
    asked = [peer for name in names for peer in (PEERS if name == "all" else [name])]
    wanted = [name for name in asked if name != configured]
    for name in wanted:
        if name == "lens":
            raise ValueError(
                "a lens is not trained: it has its row unasked wherever the trunk is pretrained or vectors; leave it out"
            )
        if name not in PEERS:
            near = get_close_matches(name, [*PEERS, configured]) or [*PEERS, configured, "all"]
            raise ValueError(f"unknown network {name!r} to compare; did you mean one of: {', '.join(near)}?")
        if wanted.count(name) > 1:
            raise ValueError(f"networks to compare must differ, and {name!r} is there twice")
    return wanted


def peer_config(
    config: RunConfig, name: str, options: Mapping[str, Any], trunk_weights: str | None, output_dir: Path
) -> RunConfig:
    """The run of a peer: as the configured one, from the same trunk, without stage 0 and re-ranking.

    One with a single branch has no stage 2. ASEN++ trains its second branch by the triplet loss alone, RPF with the
    contrast of Eq. 15 as well (at the default weight where the configuration has none); cluster centers are IPAD's.

    Args:
        config: The configured network's run.
        name: Of ``PEERS``.
        options: All options of the configured network.
        trunk_weights: A saved model whose trunk the peer starts from; None for that of its own options.
        output_dir: Folder of the peer's run.
    """
    known = model_options(name)
    shared = {key: options[key] for key in SHARED_OPTIONS if key in options and key in known}
    if "attribute_dim" in known and "latent_dim" in options:
        shared["attribute_dim"] = options["latent_dim"]
    losses = config.losses
    if name == "rpf":
        weight = losses.contrast_weight or LossConfig().contrast_weight
        losses = dataclasses.replace(losses, contrast_weight=weight)
    elif name in BRANCHES:
        losses = dataclasses.replace(losses, contrast_weight=0.0)
    return dataclasses.replace(
        config,
        output_dir=str(output_dir),
        model=ModelConfig(name=name, options=shared, trunk_weights=trunk_weights),
        stage0=StageConfig(),
        stage2=config.stage2 if name in BRANCHES else StageConfig(),
        losses=losses,
        clusters=dataclasses.replace(config.clusters, enabled=False),
        rerank=RerankConfig(enabled=False),
    )


def name_rows(peer: str, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of an evaluation under the peer's name; with two branches those have rows of their own before it."""
    title, rows = PEERS[peer], list(rows)
    names = dict.fromkeys((row["name"].removesuffix(VALUES) for row in rows), title)
    if len(names) > 1:
        names = dict(zip(BRANCH_NAMES.values(), (*(f"{title} {part}" for part in BRANCHES[peer]), title), strict=True))
    ends = [VALUES if row["name"].endswith(VALUES) else "" for row in rows]
    return [{**row, "name": names[row["name"].removesuffix(end)] + end} for row, end in zip(rows, ends, strict=True)]


def row_name(asked: str | None, models: Iterable[str], configured: str) -> str | None:
    """The row of a table that is meant by its name or that of its network; None for None.

    Args:
        asked: E.g. ``CSN mask``, ``csn`` or ``ipad``.
        models: Networks beside the configured one.
        configured: Architecture of that.

    Raises:
        ValueError: there will be no such row; the nearest are named.
    """
    names = ["random", "frozen trunk", "lens", "stage 0 alone"]
    for name in models:
        names += [*(f"{PEERS[name]} {part}" for part in BRANCHES.get(name, ())), PEERS[name]]
    own = list(BRANCH_NAMES.values()) if configured == "ipad" else [PEERS.get(configured, configured)]
    names += own
    names += [f"{name}{VALUES}" for name in names[3:]]
    final = [*own, *(f"{name}{VALUES}" for name in own)]
    names += [f"{name} + {kind}" for kind in (FEATURE_REASONING, RERANKING) for name in final]
    if asked is None or asked in names:
        return asked
    known = {**{name.lower(): name for name in names}, **PEERS, "ipad": "fused"}
    found = known.get(asked.lower())
    if found not in names:
        near = get_close_matches(asked, [*names, *known]) or names
        raise ValueError(f"against must be a row of the table, got {asked!r}; did you mean: {', '.join(near)}?")
    return found
