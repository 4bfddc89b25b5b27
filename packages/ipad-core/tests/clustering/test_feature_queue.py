from __future__ import annotations

from collections import defaultdict, deque

import pytest
import torch

from ipad_core.clustering import FeatureQueue


def held(queue, value):
    """What a value's queue holds, as a sorted list of rows."""
    return sorted(queue.features[value, : int(queue.count[value])].tolist())


def test_matches_deques_over_many_batches():
    queue, expected = FeatureQueue(4, length=5, dim=3), defaultdict(lambda: deque(maxlen=5))
    for _ in range(12):
        value_ids = torch.randint(0, 4, (int(torch.randint(1, 14, ())),))
        features = torch.randn(len(value_ids), 3)
        queue.enqueue(features, value_ids)
        for feature, value in zip(features.tolist(), value_ids.tolist(), strict=True):
            expected[value].append(feature)
        for value in range(4):
            assert held(queue, value) == sorted(expected[value])


def test_wraps_around_and_overwrites_the_oldest():
    queue = FeatureQueue(1, length=3, dim=1)
    for step in range(5):
        queue.enqueue(torch.tensor([[float(step)]]), torch.tensor([0]))
    assert queue.features[0, :, 0].tolist() == [3.0, 4.0, 2.0]
    assert queue.position.tolist() == [2]
    assert queue.count.tolist() == [3]


def test_more_of_a_value_than_its_queue_holds_leaves_the_last():
    queue = FeatureQueue(2, length=3, dim=1)
    queue.enqueue(torch.arange(8.0)[:, None], torch.tensor([0, 0, 1, 0, 0, 0, 1, 0]))
    assert held(queue, 0) == [[4.0], [5.0], [7.0]]
    assert held(queue, 1) == [[2.0], [6.0]]
    assert (queue.storage[-1] == 0).all()


def test_partially_filled_means_divide_by_what_is_there():
    queue = FeatureQueue(3, length=10, dim=2)
    queue.enqueue(torch.tensor([[1.0, 2.0], [3.0, 6.0], [5.0, 5.0]]), torch.tensor([0, 0, 2]))
    means, valid = queue.means()
    assert means.tolist() == [[2.0, 4.0], [0.0, 0.0], [5.0, 5.0]]
    assert valid.tolist() == [True, False, True]


def test_an_empty_batch_changes_nothing():
    queue = FeatureQueue(2, length=3, dim=2)
    queue.enqueue(torch.zeros(0, 2), torch.zeros(0, dtype=torch.long))
    assert queue.count.tolist() == [0, 0]
    assert queue.means()[1].tolist() == [False, False]


def test_state_survives_a_round_trip():
    queue, copy = FeatureQueue(3, length=4, dim=2), FeatureQueue(3, length=4, dim=2)
    queue.enqueue(torch.randn(9, 2), torch.randint(0, 3, (9,)))
    copy.load_state_dict(queue.state_dict())
    features, value_ids = torch.randn(7, 2), torch.randint(0, 3, (7,))
    for each in (queue, copy):
        each.enqueue(features, value_ids)
    assert all(torch.equal(a, b) for a, b in zip(queue.state_dict().values(), copy.state_dict().values(), strict=True))


def test_memory_is_taken_at_once_and_halved_by_bfloat16():
    full, half = FeatureQueue(10, 20, 8), FeatureQueue(10, 20, 8, dtype=torch.bfloat16)
    assert full.nbytes == (10 * 20 + 1) * 8 * 4 == 2 * half.nbytes
    storage = half.storage.data_ptr()
    half.enqueue(torch.randn(500, 8), torch.randint(0, 10, (500,)))
    assert half.storage.data_ptr() == storage
    means, _ = half.means()
    assert means.dtype == torch.float32
    torch.testing.assert_close(means, half.features.float().mean(dim=1))


def test_stores_no_graph():
    queue = FeatureQueue(1, 2, 2)
    queue.enqueue(torch.randn(2, 2, requires_grad=True), torch.zeros(2, dtype=torch.long))
    assert not queue.storage.requires_grad


@pytest.mark.parametrize("name", ["num_values", "length", "dim"])
def test_rejects_sizes(name):
    with pytest.raises(ValueError, match=f"{name} must be positive, got 0"):
        FeatureQueue(**{"num_values": 2, "length": 2, "dim": 2, name: 0})


@pytest.mark.parametrize(("features", "value_ids"), [((3,), 3), ((3, 4), 3), ((3, 2), 2)])
def test_rejects_shapes(features, value_ids):
    with pytest.raises(ValueError, match=r"features must be \(B, 2\) and value_ids \(B,\)"):
        FeatureQueue(2, 2, 2).enqueue(torch.zeros(features), torch.zeros(value_ids, dtype=torch.long))
