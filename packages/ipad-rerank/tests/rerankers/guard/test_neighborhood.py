from __future__ import annotations

import numpy as np
import torch

from ipad_rerank import AverageQueryExpansion
from ipad_rerank.rerankers.guard.neighborhood import neighborhood
from ipad_rerank.rerankers.retrieval import Retrieval


def test_features_against_plain_loops(search):
    query, gallery, ranking = search
    after = AverageQueryExpansion(k=20).rerank(query, gallery, ranking)
    found = neighborhood(Retrieval(query, gallery, ranking), after)
    unit = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
    for row in range(len(query)):
        asked = query[row] / np.linalg.norm(query[row])
        cosine = [float(asked @ unit[i]) for i in ranking.indices[row][:50]]
        expected = [cosine[place - 1] for place in (1, 3, 10, 30, 50)]
        for count in (5, 10, 30):
            near = unit[ranking.indices[row][:count]]
            pairs = [float(near[i] @ near[j]) for i in range(count) for j in range(count) if i != j]
            expected.append(np.mean(pairs))
        expected.append(np.mean([value > (cosine[0] + cosine[-1]) / 2 for value in cosine]))
        expected.append(len({*ranking.indices[row][:10]} & {*after.indices[row][:10]}) / 10)
        expected.append(np.mean([float(asked @ unit[i]) for i in after.indices[row][:10]]))
        np.testing.assert_allclose(found[row], expected, atol=1e-5)
    assert found.shape == (len(query), 11)
    assert bool(torch.isfinite(neighborhood(Retrieval(query, gallery, ranking.top(1)), after.top(1))).all())
