from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ipad_core.losses import BatchAllTripletLoss, TripletLoss


def cosine(a, b):
    return float((a @ b) / (a.norm() * b.norm()))


def loop_triplets(embeddings, attribute_ids, value_ids, image_ids, margin):
    """Every triplet of the batch, one by one; the mean over those above zero."""
    values_of = {}
    if image_ids is not None:
        for image, value in zip(image_ids.tolist(), value_ids.tolist(), strict=True):
            values_of.setdefault(image, set()).add(value)
    terms, count = [], len(embeddings)
    for a in range(count):
        for p in range(count):
            for n in range(count):
                if a == p or value_ids[a] != value_ids[p] or value_ids[a] == value_ids[n]:
                    continue
                if attribute_ids[a] != attribute_ids[n]:
                    continue
                if image_ids is not None and (
                    image_ids[a] == image_ids[p] or int(value_ids[a]) in values_of[int(image_ids[n])]
                ):
                    continue
                e = embeddings
                terms.append(max(0.0, margin - cosine(e[a], e[p]) + cosine(e[a], e[n])))
    active = [term for term in terms if term > 0]
    return sum(active) / max(1, len(active))


def entries(count, attributes=3, values=3):
    attribute_ids = torch.randint(0, attributes, (count,))
    return attribute_ids, attribute_ids * values + torch.randint(0, values, (count,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("margin", [0.0, 0.2, 1.0])
def test_triplets_match_loop_of_equation_14(dtype, margin):
    anchor, positive, negative = torch.randn(3, 7, 5, dtype=dtype)
    rows = zip(anchor, positive, negative, strict=True)
    expected = sum(max(0.0, margin - cosine(a, p) + cosine(a, n)) for a, p, n in rows) / 7
    torch.testing.assert_close(TripletLoss(margin)(anchor, positive, negative), torch.tensor(expected, dtype=dtype))


def test_triplet_hand_worked():
    anchor, positive, negative = (torch.tensor([v]) for v in ([1.0, 0.0], [0.0, 2.0], [3.0, 0.0]))
    assert TripletLoss(0.2)(anchor, positive, negative).item() == pytest.approx(1.2)
    assert TripletLoss(0.2)(anchor, negative, positive).item() == 0.0


@pytest.mark.parametrize("margin", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("count", [1, 2, 20])
def test_batch_all_matches_loop(margin, count):
    embeddings = torch.randn(count, 5, dtype=torch.float64)
    attribute_ids, value_ids = entries(count)
    expected = loop_triplets(embeddings, attribute_ids, value_ids, None, margin)
    actual = BatchAllTripletLoss(margin)(embeddings, attribute_ids, value_ids)
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("margin", [0.2, 2.0])
def test_batch_all_with_several_values_per_image_matches_loop(margin):
    embeddings = torch.randn(24, 5, dtype=torch.float64)
    attribute_ids, value_ids = entries(24, attributes=2)
    image_ids = torch.randint(0, 8, (24,))
    expected = loop_triplets(embeddings, attribute_ids, value_ids, image_ids, margin)
    actual = BatchAllTripletLoss(margin)(embeddings, attribute_ids, value_ids, image_ids)
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64))


def test_batch_all_hand_worked():
    embeddings = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    loss = BatchAllTripletLoss(0.2)(embeddings, torch.tensor([0, 0, 0]), torch.tensor([0, 0, 1]))
    # anchor 0: 0.2 - 0 + 1; anchor 1: 0.2 - 0 + 0; anchor 2 has no positive.
    assert loss.item() == pytest.approx((1.2 + 0.2) / 2)


def test_an_image_that_also_has_the_value_is_no_negative():
    embeddings = torch.eye(4)
    attribute_ids, value_ids = torch.zeros(4, dtype=torch.long), torch.tensor([0, 0, 0, 1])
    loss = BatchAllTripletLoss(0.2)
    assert loss(embeddings, attribute_ids, value_ids, torch.tensor([0, 1, 2, 3])) > 0
    # Every image with value 0 in which value 1 shows is itself an image of value 0: images 2 and 3 are one.
    assert loss(embeddings, attribute_ids, value_ids, torch.tensor([0, 1, 2, 2])) == 0


def test_values_of_other_attributes_form_no_triplets():
    loss = BatchAllTripletLoss(0.2)(torch.randn(4, 3), torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 5, 5]))
    assert loss.item() == 0.0


@pytest.mark.parametrize("case", ["one value", "all different", "one entry"])
def test_no_triplet_gives_zero_with_zero_gradient(case):
    count = 1 if case == "one entry" else 4
    embeddings = torch.randn(count, 3, requires_grad=True)
    value_ids = torch.zeros(count, dtype=torch.long) if case == "one value" else torch.arange(count)
    loss = BatchAllTripletLoss()(embeddings, torch.zeros(count, dtype=torch.long), value_ids)
    loss.backward()
    assert loss.item() == 0.0
    assert (embeddings.grad == 0).all()


def test_order_and_scale_do_not_matter():
    embeddings, (attribute_ids, value_ids), order = torch.randn(20, 5), entries(20), torch.randperm(20)
    loss = BatchAllTripletLoss()
    first = loss(embeddings, attribute_ids, value_ids)
    scaled = embeddings[order] * torch.rand(20, 1).add(0.1)
    torch.testing.assert_close(loss(scaled, attribute_ids[order], value_ids[order]), first)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["identical", "zero", "huge"])
def test_finite_in_low_precision(dtype, kind):
    value = {"identical": 1.0, "zero": 0.0, "huge": 6e4}[kind]
    embeddings = torch.full((6, 8), value, dtype=dtype, requires_grad=True)
    value_ids = torch.tensor([0, 0, 1, 1, 0, 1])
    with torch.autocast("cpu", torch.bfloat16):
        total = BatchAllTripletLoss()(embeddings, torch.zeros(6, dtype=torch.long), value_ids)
        total = total + TripletLoss()(*embeddings.chunk(3))
    total.backward()
    assert total.dtype == torch.float32
    assert total.item() == pytest.approx(0.4)
    assert embeddings.grad.isfinite().all()


def test_autocast_does_not_round_similarities():
    embeddings, (attribute_ids, value_ids) = torch.randn(20, 5), entries(20)
    expected = BatchAllTripletLoss()(embeddings, attribute_ids, value_ids)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(BatchAllTripletLoss()(embeddings, attribute_ids, value_ids), expected)


@pytest.mark.parametrize("kind", [TripletLoss, BatchAllTripletLoss])
@pytest.mark.parametrize("margin", [-0.1, 2.1])
def test_rejects_margin(kind, margin):
    with pytest.raises(ValueError, match=r"margin must be within \[0, 2\]"):
        kind(margin)


def test_rejects_shapes():
    with pytest.raises(ValueError, match=r"anchor, positive and negative must be \(T, D\)"):
        TripletLoss()(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 4))
    ids = torch.zeros(2, dtype=torch.long)
    with pytest.raises(ValueError, match=r"embeddings must be \(B, D\)"):
        BatchAllTripletLoss()(torch.zeros(3, 4), ids, ids)
    with pytest.raises(ValueError, match=r"attribute_ids and value_ids must be \(B,\)"):
        BatchAllTripletLoss()(torch.zeros(2, 4), ids[:, None], ids)


def test_gradcheck():
    embeddings = F.normalize(torch.randn(9, 4, dtype=torch.float64), dim=1).requires_grad_()
    attribute_ids, value_ids = entries(9, attributes=1, values=2)
    assert torch.autograd.gradcheck(lambda e: BatchAllTripletLoss(0.5)(e, attribute_ids, value_ids), embeddings)
    assert torch.autograd.gradcheck(lambda e: TripletLoss(0.5)(*e.chunk(3)), embeddings)


def naive_balanced(embeddings, attribute_ids, value_ids, margin):
    unit = torch.nn.functional.normalize(embeddings, dim=1)
    means = []
    for attribute in attribute_ids.unique():
        entries = (attribute_ids == attribute).nonzero()[:, 0].tolist()
        terms = []
        for a in entries:
            for p in entries:
                for n in entries:
                    if a != p and value_ids[a] == value_ids[p] and value_ids[a] != value_ids[n]:
                        term = margin - unit[a] @ unit[p] + unit[a] @ unit[n]
                        if term > 0:
                            terms.append(term)
        if terms:
            means.append(torch.stack(terms).mean())
    return torch.stack(means).mean()


def test_mean_over_attributes_matches_loops_and_counts_active_triplets():
    generator = torch.Generator().manual_seed(3)
    embeddings = torch.randn(14, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    attribute_ids = torch.tensor([0] * 9 + [2] * 5)
    value_ids = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2, 7, 7, 8, 8, 8])
    loss = BatchAllTripletLoss(0.3, average="attributes")
    actual = loss(embeddings, attribute_ids, value_ids)
    torch.testing.assert_close(actual, naive_balanced(embeddings, attribute_ids, value_ids, 0.3))
    sums, active, triplets = loss.by_attribute(embeddings, attribute_ids, value_ids, num_attributes=4)
    # attribute 0: values of 4, 3, 2 images give 4*3*5 + 3*2*6 + 2*1*7; attribute 2: 2*1*3 + 3*2*2
    assert triplets.tolist() == [110, 0, 18, 0]
    assert (active <= triplets).all()
    assert sums[1] == sums[3] == 0
    assert torch.autograd.gradcheck(lambda e: loss(e, attribute_ids, value_ids), (embeddings,))


def test_mean_over_attributes_gives_both_attributes_the_same_weight():
    """Hand-worked: a single attribute with its term at the margin weighs as much as one with many."""
    attribute_ids = torch.tensor([0, 0, 0, 1, 1, 1, 1])
    value_ids = torch.tensor([0, 0, 1, 5, 5, 6, 6])
    embeddings = torch.ones(7, 3)  # every term is the margin
    loss = BatchAllTripletLoss(0.2, average="attributes")
    assert loss(embeddings, attribute_ids, value_ids).item() == pytest.approx(0.2)
    sums, active, _ = loss.by_attribute(embeddings, attribute_ids, value_ids)
    assert active.tolist() == [2, 8]
    torch.testing.assert_close(sums, torch.tensor([0.4, 1.6]))


def test_rejects_an_unknown_average():
    with pytest.raises(ValueError, match="average must be one of triplets, attributes, got 'mean'"):
        BatchAllTripletLoss(0.2, average="mean")
