"""The objectives of stage 2: their terms, what they remember, and what a step costs."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from ipad_core import create_model
from ipad_train.config import ClusterConfig, LossConfig
from ipad_train.objectives import AttributeDiverging, BatchLayout, BranchClusters, TwoBranches

SIZES = {
    "image_size": 32,
    "embed_dim": 16,
    "latent_dim": 16,
    "crop_size": 32,
    "trunk": {"options": {"channels": [8, 8, 16, 16], "stem_width": 8, "output_stride": 8}},
    "semantic_trunk": {"options": {"embed_dim": 16, "depth": 1, "num_heads": 2, "mlp_ratio": 2.0}},
}
OWNERS = torch.tensor([0, 0, 0, 1, 1])
LOSSES = LossConfig(semantic_weight=0.5, contrast_weight=0.25, semantic_center_weight=2.0, spatial_center_weight=3.0)


def make(sampler="triplet", train_spatial=True, views=0, losses=LOSSES, length=2, **clusters):
    torch.manual_seed(0)
    model = create_model("ipad_tiny", num_attributes=2, **SIZES)
    config = ClusterConfig(queue_length=length, refresh_every=1, start=0.0, **clusters)
    branches = BranchClusters(model, config, torch.full((5,), 4), OWNERS, 0.2, 100, train_spatial)
    return AttributeDiverging(model, BatchLayout(sampler, views), losses, branches, train_spatial).train()


def make_batch(triplets=4, views=0, seed=1):
    generator = torch.Generator().manual_seed(seed)
    values = torch.arange(triplets) % 4
    others = torch.tensor([1, 2, 0, 4])[values]
    value_ids = torch.cat([values, values, others, values.repeat(views)])
    count = len(value_ids)
    image_ids = torch.cat([torch.arange(3 * triplets), torch.arange(triplets).repeat(views)])
    return {
        "images": torch.rand(count, 3, 48, 48, generator=generator),
        "image_index": torch.arange(count),
        "attribute_ids": OWNERS[value_ids],
        "value_ids": value_ids,
        "image_ids": image_ids,
    }


def started(objective):
    """With centers of one batch, as after the first refresh."""
    for seed in (5, 6):
        objective.clusters.enqueue(make_batch(seed=seed), 3)
    objective.clusters.step_done(99)
    assert objective.clusters.started
    return objective


def test_the_loss_is_the_weighted_sum_of_its_parts():
    losses = started(make())(make_batch())
    expected = (
        losses["triplet_spatial"]
        + 0.5 * losses["triplet_semantic"]
        + 0.25 * losses["contrast"]
        + 2.0 * losses["centers_semantic"]
        + 3.0 * losses["centers_spatial"]
    )
    torch.testing.assert_close(losses["loss"].detach(), expected)
    assert all(not value.requires_grad for name, value in losses.items() if name != "loss")


@pytest.mark.parametrize("views", [0, 2])
def test_equation_19_is_the_sum_of_three_means(views):
    """Against a loop over the entries; views are anchors."""
    objective = started(make(views=views)).eval()
    batch = make_batch(views=views)
    with torch.no_grad():
        losses = objective(batch)
        semantic = objective.model(batch["images"], batch["attribute_ids"], batch["image_index"]).semantic
    centers = objective.clusters.centers["semantic"]
    parts = {"anchor": [], "positive": [], "negative": []}
    for entry in range(len(semantic)):
        name = ["anchor", "positive", "negative", *["anchor"] * views][entry // 4]
        value = int(batch["value_ids"][entry])
        similarity = [F.cosine_similarity(semantic[entry], center, dim=0) for center in centers.centers]
        others = [v for v in range(5) if OWNERS[v] == OWNERS[value] and v != value and centers.valid[v]]
        if centers.valid[value] and others:
            terms = [F.relu(0.2 - similarity[value] + similarity[v]) for v in others]
            parts[name].append(sum(terms) / len(terms))
    expected = sum(sum(terms) / len(terms) for terms in parts.values())
    torch.testing.assert_close(losses["centers_semantic"], expected)


def test_a_frozen_first_branch_gets_no_gradient_and_its_crops_are_cut_once_a_step(monkeypatch):
    objective = make(train_spatial=False)
    cuts = []
    original = objective.model.crops
    monkeypatch.setattr(objective.model, "crops", lambda *arguments: cuts.append(1) or original(*arguments))
    seen = []
    momentum = objective.clusters.momentum
    monkeypatch.setattr(
        momentum.network, "forward", lambda crops, ids: seen.append(crops) or torch.zeros(len(ids), 16)
    )
    before = [parameter.detach().clone() for parameter in objective.model.spatial.parameters()]
    batch = make_batch()
    objective(batch)["loss"].backward()
    objective.after_step([batch], 0)
    assert len(cuts) == 1
    assert seen[0].shape == (12, 3, 32, 32)
    boxes = objective.model(batch["images"], batch["attribute_ids"], batch["image_index"]).boxes
    torch.testing.assert_close(seen[0], original(batch["images"], boxes, batch["image_index"]))
    assert all(parameter.grad is None for parameter in objective.model.spatial.parameters())
    for parameter, expected in zip(objective.model.spatial.parameters(), before, strict=True):
        assert torch.equal(parameter, expected)


def test_views_of_anchors_are_not_queued():
    objective = make(views=2, length=8)
    objective.after_step([make_batch(views=2)], 0)
    queued = objective.clusters.queues["semantic"].count
    expected = torch.bincount(make_batch()["value_ids"], minlength=5)
    assert torch.equal(queued, expected)


def test_micro_batches_are_queued_one_after_the_other_after_one_move_of_the_momentum_encoder():
    together, apart = make(length=8), make(length=8)
    one, other = make_batch(seed=1), make_batch(seed=2)
    moves = []
    follow = apart.clusters.follow
    apart.clusters.follow = lambda model: moves.append(1) or follow(model)
    apart.after_step([one, other], 0)
    together.clusters.follow(together.model)
    together.clusters.enqueue(one, 3)
    together.clusters.enqueue(other, 3)
    assert moves == [1]
    for name in ("spatial", "semantic"):
        torch.testing.assert_close(apart.clusters.queues[name].storage, together.clusters.queues[name].storage)


def test_what_is_remembered_is_out_of_an_engines_sight():
    objective = make(queue_dtype="bfloat16")
    assert not any("momentum" in name or "queues" in name for name in objective.state_dict())
    assert objective.memory is objective.clusters
    objective.bfloat16()  # as an engine may do
    assert {parameter.dtype for parameter in objective.model.parameters()} == {torch.bfloat16}
    assert {parameter.dtype for parameter in objective.memory.momentum.parameters()} == {torch.float32}
    assert objective.memory.queues["semantic"].storage.dtype == torch.bfloat16
    assert objective.memory.centers["semantic"].centers.dtype == torch.float32


def test_half_the_memory_for_queues_moves_the_centers_by_rounding_only():
    wide, narrow = make(length=8), make(length=8, queue_dtype="bfloat16")
    for objective in (wide, narrow):
        objective.after_step([make_batch()], 0)
    assert narrow.clusters.nbytes * 2 == wide.clusters.nbytes
    one, other = (objective.clusters.centers["semantic"].centers for objective in (wide, narrow))
    torch.testing.assert_close(other, one, rtol=0, atol=2**-8)


def test_two_branches_is_equation_18_and_remembers_nothing():
    torch.manual_seed(0)
    model = create_model("rpf_tiny", num_attributes=2, **{k: v for k, v in SIZES.items() if k != "latent_dim"})
    objective = TwoBranches(model, BatchLayout("triplet"), LOSSES, train_spatial=True)
    losses = objective(make_batch())
    expected = losses["triplet_spatial"] + 0.5 * losses["triplet_semantic"] + 0.25 * losses["contrast"]
    torch.testing.assert_close(losses["loss"].detach(), expected)
    assert objective.memory is None
    assert objective.after_step([make_batch()], 0) == []


def test_a_network_without_a_background_trains_without_the_contrast_only():
    torch.manual_seed(0)
    options = {key: SIZES[key] for key in ("image_size", "embed_dim", "latent_dim", "crop_size", "trunk")}
    model = create_model("asen_pp_tiny", num_attributes=2, **options)
    with pytest.raises(ValueError, match="background must be False: ASEN"):
        TwoBranches(model, BatchLayout("triplet"), LOSSES, train_spatial=True)(make_batch())
    losses = TwoBranches(model, BatchLayout("triplet"), LossConfig(contrast_weight=0.0), train_spatial=True)(
        make_batch()
    )
    assert losses["loss"] > 0
