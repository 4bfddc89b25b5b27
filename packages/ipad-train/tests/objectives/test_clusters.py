from __future__ import annotations

import torch
from torch import nn

from ipad_core import create_model
from ipad_train.config import ClusterConfig
from ipad_train.objectives import BranchClusters

MODEL = {
    "image_size": 32,
    "embed_dim": 16,
    "latent_dim": 16,
    "crop_size": 32,
    "trunk": {"options": {"channels": [8, 8, 16, 16], "stem_width": 8, "output_stride": 8}},
    "semantic_trunk": {"options": {"embed_dim": 16, "depth": 1, "num_heads": 2, "mlp_ratio": 2.0}},
}


class Objective(nn.Module):
    """A parent, as the objective of stage 2 is: its ``load_state_dict`` does not call that of its parts."""

    def __init__(self):
        super().__init__()
        model = create_model("ipad_tiny", num_attributes=2, **MODEL)
        config = ClusterConfig(queue_length=2, refresh_every=5)
        counts, owners = torch.tensor([4, 4, 4, 4]), torch.tensor([0, 0, 1, 1])
        self.clusters = BranchClusters(model, config, counts, owners, 0.2, 100, train_spatial=False)


def test_a_started_cluster_loss_is_still_started_after_a_resume():
    before, after = Objective(), Objective()
    assert not before.clusters.started
    before.clusters.started_at.fill_(7)
    after.load_state_dict(before.state_dict())
    assert after.clusters.started
    after.load_state_dict(Objective().state_dict())
    assert not after.clusters.started


def test_one_that_has_not_started_stays_so_under_a_partial_state():
    clusters = Objective()
    tensors = {name: value for name, value in Objective().state_dict().items() if "momentum" not in name}
    clusters.load_state_dict(tensors, strict=False)
    assert not clusters.clusters.started
