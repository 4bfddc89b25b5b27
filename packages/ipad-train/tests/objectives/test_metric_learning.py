from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cosine_similarity

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
    torch.testing.assert_close(EntryTriplets("triplet", 0.2, views)(embeddings, {}), expected)
