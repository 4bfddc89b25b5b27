from __future__ import annotations

import torch

from ipad_core.clustering import ClusterCenters, FeatureQueue


def test_refresh_takes_the_means_of_equation_11():
    queue, centers = FeatureQueue(3, length=4, dim=2), ClusterCenters(3, 2)
    features, value_ids = torch.randn(9, 2), torch.tensor([0, 0, 2, 0, 2, 0, 0, 0, 2])
    queue.enqueue(features, value_ids)
    assert not centers.valid.any()
    centers.refresh(queue)
    last = {0: [3, 5, 6, 7], 2: [2, 4, 8]}  # the newest four of value 0
    for value, rows in last.items():
        torch.testing.assert_close(centers.centers[value], sum(features[row] for row in rows) / len(rows))
    assert centers.valid.tolist() == [True, False, True]


def test_centers_stay_until_the_next_refresh_and_are_saved():
    queue, centers = FeatureQueue(1, 2, 2), ClusterCenters(1, 2)
    queue.enqueue(torch.ones(1, 2), torch.tensor([0]))
    centers.refresh(queue)
    queue.enqueue(torch.zeros(1, 2), torch.tensor([0]))
    assert centers.centers.tolist() == [[1.0, 1.0]]
    copy = ClusterCenters(1, 2)
    copy.load_state_dict(centers.state_dict())
    assert copy.valid.all()
    assert torch.equal(copy.centers, centers.centers)
