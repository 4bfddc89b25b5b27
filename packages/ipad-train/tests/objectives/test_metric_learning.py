from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cosine_similarity

from ipad_train.config import LossConfig
from ipad_train.objectives import BatchLayout
from ipad_train.objectives.metric_learning import EntryTriplets


@pytest.mark.parametrize("views", [0, 1, 2])
def test_every_view_of_an_anchor_forms_a_triplet(views):
    """Against a loop over the triplets of anchors and views."""
    embeddings = torch.randn((3 + views) * 5, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    terms = []
    for triplet in range(5):
        positive, negative = embeddings[5 + triplet], embeddings[10 + triplet]
        for anchor in [embeddings[triplet], *(embeddings[15 + 5 * view + triplet] for view in range(views))]:
            gap = cosine_similarity(anchor, positive, dim=0) - cosine_similarity(anchor, negative, dim=0)
            terms.append(max(0.0, 0.2 - gap.item()))
    expected = torch.tensor(sum(terms) / len(terms), dtype=torch.float64)
    batch = {"attribute_ids": torch.tensor([0, 0, 2, 2, 2]).repeat(3 + views)}
    loss, active = EntryTriplets(BatchLayout("triplet", views), LossConfig(margin=0.2), 3)(embeddings, batch)
    torch.testing.assert_close(loss, expected)
    by_attribute = torch.tensor(terms).view(5, 1 + views) > 0  # anchors and their views, triplet by triplet
    torch.testing.assert_close(active["active/0"], by_attribute[:2].float().mean())
    torch.testing.assert_close(active["active/2"], by_attribute[2:].float().mean())
    assert active["active/1"].isnan()


def test_share_of_active_triplets_of_a_dense_batch():
    """Hand-worked: attribute 0 is learned (no term above zero), attribute 1 has not begun, attribute 2 has no triplet."""
    apart = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    embeddings = torch.cat([apart, torch.ones(3, 2), torch.ones(1, 2)])
    batch = {
        "attribute_ids": torch.tensor([0, 0, 0, 1, 1, 1, 2]),
        "value_ids": torch.tensor([0, 0, 1, 2, 2, 3, 4]),
        "image_ids": torch.tensor([0, 1, 2, 0, 1, 2, 0]),
    }
    loss, active = EntryTriplets(BatchLayout("dense"), LossConfig(margin=0.2, average="attributes"), 3)(
        embeddings, batch
    )
    assert loss.item() == pytest.approx(0.2)
    assert active["active/0"] == 0
    assert active["active/1"] == 1
    assert active["active/2"].isnan()
