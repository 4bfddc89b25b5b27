"""The mathematics of Feature Reasoning, against loops and autograd."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ipad_rerank import FeatureReasoning


def naive_refine(reasoner: FeatureReasoning, sequence: torch.Tensor) -> torch.Tensor:
    """One sequence ``(n, D)`` in plain loops over its nodes, gradient by autograd: written from Eq. 12 and 13."""
    network, n = reasoner.network, len(sequence)
    features = sequence.clone()
    columns = list(range(n)) + list(range(reasoner.n_r, reasoner.n_r + n))
    for _ in range(reasoner.n_t):
        features = features.detach().requires_grad_()
        unit = features / features.norm(dim=1, keepdim=True)
        similarity = unit @ unit.T
        update = torch.zeros(n, n, dtype=sequence.dtype)
        for i in range(n):
            others = sorted((j for j in range(n) if j != i), key=lambda j, i=i: (-similarity[i, j].item(), j))
            order = [i, *others]
            delta = torch.cat([similarity[i, order], similarity[0, order]]).detach()
            spread, other = (row.var(unbiased=False).clamp_min(1e-6).sqrt() for row in delta.view(2, n))
            level, other_level = delta.view(2, n).mean(1)
            own = similarity[0, i].detach()
            distances = torch.stack([1 - level, 1 - other_level, 1 - own]).clamp_min(1e-3).log()
            length = torch.tensor(n / reasoner.n_r, dtype=torch.float64).log()
            rest = torch.stack([spread.log(), other.log(), (own - other_level) / other, length])
            density = torch.cat([distances, rest])
            delta = F.layer_norm(delta, (2 * n,)) * network.scale + network.shift
            hidden = F.linear(delta, network.first.weight[:, columns], network.first.bias)
            hidden = F.relu(hidden + network.density.weight @ density)
            hidden = F.relu(network.hidden(hidden))
            output = F.linear(hidden, network.last.weight[columns], network.last.bias[columns])
            for position, j in enumerate(order):
                update[i, j] += output[position]
                update[0, j] += output[n + position]
        target = (similarity + update).detach()
        (gradient,) = torch.autograd.grad(0.5 * (target - similarity).square().sum(), features)
        step = features - reasoner.step_size / n * gradient
        if reasoner.variant == "query_only":
            step = torch.cat([step[:1], features[1:]])
        features = step.detach()
    unit = F.normalize(features, dim=1)
    return unit @ unit[0]


@pytest.mark.parametrize("variant", ["full", "query_only"])
@pytest.mark.parametrize("n_t", [1, 3])
@pytest.mark.parametrize(("n", "dim"), [(20, 6), (20, 40), (11, 6)])
def test_batched_matches_loop_reference(variant, n_t, n, dim, shaken):
    reasoner = shaken(variant=variant, n_t=n_t).double()
    unit = F.normalize(torch.randn(3, n, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(2)), dim=-1)
    expected = torch.stack([naive_refine(reasoner, sequence) for sequence in unit]).detach()
    with torch.no_grad():
        torch.testing.assert_close(reasoner(unit), expected, rtol=0, atol=1e-10)
        torch.testing.assert_close(reasoner(unit, all_rows=True)[:, 0], expected, rtol=0, atol=1e-10)


def test_gram_space_matches_feature_space(shaken):
    reasoner = shaken(n_t=2)
    unit = F.normalize(torch.randn(4, 20, 30, generator=torch.Generator().manual_seed(2)), dim=-1)
    with torch.no_grad():
        torch.testing.assert_close(reasoner(unit, space="gram"), reasoner(unit, space="feature"), rtol=0, atol=5e-5)


def test_low_precision_stays_close(shaken):
    unit = F.normalize(torch.randn(4, 20, 30, generator=torch.Generator().manual_seed(2)), dim=-1)
    with torch.no_grad():
        full, low = shaken(0.1)(unit), shaken(0.1, low_precision=True)(unit)
    assert 0 < (full - low).abs().max() < 0.05


def test_network_sees_how_dense_a_sequence_is(shaken):
    """The instance norm alone could not tell similarities from the same ones closer together."""
    network = shaken().network
    center = torch.rand(1, 20, 20).sort(dim=-1, descending=True).values
    query = center[:, :1].expand_as(center)
    closer = (1 - 0.1 * (1 - center), 1 - 0.1 * (1 - query))
    with torch.no_grad():
        difference = (network(*closer)[0] - network(center, query)[0]).abs().max()
        network.density.weight.zero_()
        blind = (network(*closer)[0] - network(center, query)[0]).abs().max()
    assert float(difference) > 10 * float(blind)
    assert float(blind) < 2e-2, "the norm's epsilon only"
