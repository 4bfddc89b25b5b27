from __future__ import annotations

import math

import pytest
import torch

from ipad_core.layers import AttributeAttention, HierarchicalAttention, OneHotAttention

TOKENS = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
KINDS = {
    "v1": lambda: OneHotAttention(3, 5, 4, 2),
    "v2": lambda: AttributeAttention(3, 5, 4, 2),
    "levels": lambda: HierarchicalAttention([0, 1, 0], 5, 4, 2),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def linear(layer, x):
    return [
        sum(w * v for w, v in zip(row, x, strict=True)) + b
        for row, b in zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
    ]


def normalized(values):
    top = max(values)
    exps = [math.exp(v - top) for v in values]
    return [e / sum(exps) for e in exps]


def loop_maps(layer, tokens, attribute):
    """The attention of one attribute over one map, position by position."""
    if isinstance(layer, OneHotAttention):
        query = [math.tanh(v) for v in layer.query.weight[attribute].tolist()]
        weight, bias = layer.score.weight[0].tolist(), layer.score.bias.item()
        return normalized(
            [
                math.tanh(
                    sum(w * math.tanh(k) * q for w, k, q in zip(weight, linear(layer.key, x), query, strict=True))
                    + bias
                )
                for x in tokens.tolist()
            ]
        )

    def activations(embedding):
        query = [math.tanh(v) for v in linear(layer.query, embedding.tolist())]
        norm = layer.key_norm
        found = []
        for x in tokens.tolist():
            keys = [
                math.tanh((k - m) / math.sqrt(v + norm.eps) * g + b)
                for k, m, v, g, b in zip(
                    linear(layer.key, x),
                    norm.running_mean.tolist(),
                    norm.running_var.tolist(),
                    norm.weight.tolist(),
                    norm.bias.tolist(),
                    strict=True,
                )
            ]
            found.append(sum(k * q for k, q in zip(keys, query, strict=True)) / math.sqrt(len(query)))
        return found

    own = activations(layer.table.weight[attribute])
    if isinstance(layer, HierarchicalAttention):
        region = normalized(activations(layer.type_table.weight[layer.types[attribute]]))
        own = [a + math.log(r + 1e-6) for a, r in zip(own, region, strict=True)]
    return normalized(own)


def loop_gate(layer, located, attribute):
    if isinstance(layer, OneHotAttention):
        context = [max(0.0, v) for v in layer.context.weight[attribute].tolist()]
    else:
        embedding = layer.table.weight[attribute]
        if isinstance(layer, HierarchicalAttention):
            embedding = embedding + layer.type_table.weight[layer.types[attribute]]
        context = [max(0.0, v) for v in linear(layer.context, embedding.tolist())]
    hidden = [max(0.0, v) for v in linear(layer.squeeze, located + context)]
    return [1 / (1 + math.exp(-v)) for v in linear(layer.excite, hidden)]


@every_kind
def test_equals_loops(kind):
    layer = KINDS[kind]().double().eval()
    if kind != "v1":
        layer.key_norm.running_mean.normal_()
        layer.key_norm.running_var.uniform_(0.5, 2.0)
    with torch.no_grad():
        attended = layer(TOKENS)
    assert attended.maps.shape == (2, 3, 6)
    for n in range(2):
        for a in range(3):
            maps = loop_maps(layer, TOKENS[n], a)
            located = [sum(w * TOKENS[n, i, c].item() for i, w in enumerate(maps)) for c in range(5)]
            gated = [g * v for g, v in zip(loop_gate(layer, located, a), located, strict=True)]
            torch.testing.assert_close(attended.maps[n, a], torch.tensor(maps).double())
            torch.testing.assert_close(attended.located[n, a], torch.tensor(located).double())
            torch.testing.assert_close(attended.gated[n, a], torch.tensor(gated).double())


@every_kind
def test_one_attribute_a_map_equals_all_of_them(kind):
    layer = KINDS[kind]().double().eval()
    with torch.no_grad():
        every, alone = layer(TOKENS), layer(TOKENS, torch.tensor([2, 1]))
    for whole, part in ((every.maps, alone.maps), (every.located, alone.located), (every.gated, alone.gated)):
        torch.testing.assert_close(part[:, 0], whole[[0, 1], [2, 1]])


@every_kind
def test_gradients(kind):
    layer = KINDS[kind]().double().eval()
    assert torch.autograd.gradcheck(lambda x: layer(x).gated, TOKENS.clone().requires_grad_())


def test_the_region_of_a_type_rules_out_what_lies_outside():
    layer = HierarchicalAttention([0, 0], 5, 4, 2).double().eval()
    with torch.no_grad():
        layer.query.bias.zero_()
        layer.query.weight.copy_(torch.eye(4) * 9)
        layer.key.weight.copy_(torch.eye(4, 5) * 9)
        layer.key.bias.zero_()
        layer.type_table.weight.fill_(0.0)
        layer.type_table.weight[0, 0] = 1.0
        tokens = torch.zeros(1, 3, 5, dtype=torch.float64)
        tokens[0, 0, 0] = 1.0  # what the type looks for
        before = layer(tokens).maps
        layer.type_table.weight.zero_()
        without = layer(tokens).maps
    assert (before[0, :, 0] > without[0, :, 0]).all()
