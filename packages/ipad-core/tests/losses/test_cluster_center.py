from __future__ import annotations

import pytest
import torch

from ipad_core.losses import ClusterCenterLoss

OWNERS = torch.tensor([0, 0, 0, 1, 1, 2])


def loop_centers(embeddings, centers, valid, value_ids, margin):
    """Eq. 16, entry by entry and center by center."""

    def similarity(a, b):
        return float(a @ b) / max(float(a.norm() * b.norm()), 1e-12)

    per_entry = []
    for embedding, own in zip(embeddings, value_ids.tolist(), strict=True):
        others = [v for v in range(len(OWNERS)) if OWNERS[v] == OWNERS[own] and v != own and valid[v]]
        if not valid[own] or not others:
            continue
        positive = similarity(embedding, centers[own])
        terms = [max(0.0, margin - positive + similarity(embedding, centers[v])) for v in others]
        per_entry.append(sum(terms) / len(terms))
    return sum(per_entry) / max(1, len(per_entry))


@pytest.mark.parametrize("margin", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("missing", [[], [1], [3, 0]])
def test_matches_loop_of_equation_16(margin, missing):
    embeddings, centers = torch.randn(12, 4, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
    valid = torch.ones(6, dtype=torch.bool)
    valid[missing] = False
    value_ids = torch.randint(0, 6, (12,))
    expected = loop_centers(embeddings, centers, valid, value_ids, margin)
    actual = ClusterCenterLoss(OWNERS, margin)(embeddings, centers, valid, value_ids)
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64))


def test_hand_worked():
    centers, valid = torch.eye(2), torch.ones(2, dtype=torch.bool)
    loss = ClusterCenterLoss(torch.tensor([0, 0]), 0.2)
    assert loss(torch.eye(2), centers, valid, torch.tensor([1, 0])).item() == pytest.approx(1.2)
    assert loss(torch.eye(2), centers, valid, torch.tensor([0, 1])).item() == 0.0


@pytest.mark.parametrize(
    "case", ["nothing valid", "own center missing", "only one center of the attribute", "attribute with one value"]
)
def test_entries_without_centers_are_left_out(case):
    valid = torch.ones(6, dtype=torch.bool)
    value_ids = torch.tensor([0])
    if case == "nothing valid":
        valid[:] = False
    elif case == "own center missing":
        valid[0] = False
    elif case == "only one center of the attribute":
        valid[1:3] = False
    else:
        value_ids = torch.tensor([5])
    embeddings = torch.randn(1, 4, requires_grad=True)
    loss = ClusterCenterLoss(OWNERS)(embeddings, torch.randn(6, 4), valid, value_ids)
    loss.backward()
    assert loss.item() == 0.0
    assert (embeddings.grad == 0).all()


def test_scale_of_embeddings_and_centers_does_not_matter():
    embeddings, centers, valid = torch.randn(9, 4), torch.randn(6, 4), torch.ones(6, dtype=torch.bool)
    value_ids, loss = torch.randint(0, 6, (9,)), ClusterCenterLoss(OWNERS)
    scaled = loss(7 * embeddings, centers * torch.rand(6, 1).add(0.1), valid, value_ids)
    torch.testing.assert_close(scaled, loss(embeddings, centers, valid, value_ids))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [0.0, 1.0, 6e4], ids=["zero", "identical", "huge"])
def test_finite_in_low_precision(dtype, value):
    embeddings = torch.full((4, 8), value, dtype=dtype, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        loss = ClusterCenterLoss(OWNERS)(
            embeddings, torch.full((6, 8), value), torch.ones(6, dtype=torch.bool), torch.tensor([0, 1, 2, 3])
        )
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(0.2)
    assert embeddings.grad.isfinite().all()


@pytest.mark.parametrize("margin", [-0.1, 2.5])
def test_rejects_margin(margin):
    with pytest.raises(ValueError, match=r"margin must be within \[0, 2\]"):
        ClusterCenterLoss(OWNERS, margin)


@pytest.mark.parametrize(
    ("embeddings", "centers", "valid", "value_ids"),
    [
        ((5,), (6, 5), 6, 5),
        ((3, 4), (5, 4), 6, 3),
        ((3, 4), (6, 3), 6, 3),
        ((3, 4), (6, 4), 5, 3),
        ((3, 4), (6, 4), 6, 2),
    ],
)
def test_rejects_shapes(embeddings, centers, valid, value_ids):
    with pytest.raises(ValueError, match="must be"):
        ClusterCenterLoss(OWNERS)(
            torch.zeros(embeddings),
            torch.zeros(centers),
            torch.ones(valid, dtype=torch.bool),
            torch.zeros(value_ids, dtype=torch.long),
        )


def test_gradcheck():
    embeddings = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    centers = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    valid = torch.tensor([True, True, False, True, True, True])
    loss = ClusterCenterLoss(OWNERS, 0.5)
    assert torch.autograd.gradcheck(lambda e, c: loss(e, c, valid, torch.tensor([0, 1, 3, 4])), (embeddings, centers))


def test_an_image_is_not_pushed_from_its_own_other_value():
    centers, valid = torch.eye(3), torch.ones(3, dtype=torch.bool)
    loss = ClusterCenterLoss(torch.tensor([0, 0, 0]), 0.2)
    embeddings, value_ids, image_ids = torch.eye(3)[[0, 0]], torch.tensor([0, 1]), torch.tensor([7, 7])
    # Entry 0 lies on its center: 0. Entry 1 lies on that of the image's other value: 0 + 0.2 to the third center.
    assert loss(embeddings, centers, valid, value_ids, image_ids).item() == pytest.approx((0.0 + 0.2) / 2)
    assert loss(embeddings, centers, valid, value_ids).item() == pytest.approx((0.0 + (1.2 + 0.2) / 2) / 2)
    distinct = torch.tensor([7, 8])
    assert torch.equal(
        loss(embeddings, centers, valid, value_ids, distinct), loss(embeddings, centers, valid, value_ids)
    )


def test_the_sum_of_equation_19_is_three_times_the_mean_over_a_triplet_batch():
    centers, valid = torch.randn(3, 4), torch.ones(3, dtype=torch.bool)
    loss = ClusterCenterLoss(torch.tensor([0, 0, 0]), 0.2)
    embeddings, value_ids = torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    parts = [loss(embeddings[i : i + 2], centers, valid, value_ids[i : i + 2]) for i in (0, 2, 4)]
    torch.testing.assert_close(sum(parts), 3 * loss(embeddings, centers, valid, value_ids))
