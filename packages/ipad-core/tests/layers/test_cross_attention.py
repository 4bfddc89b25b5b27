from __future__ import annotations

import math

import pytest
import torch

from ipad_core.layers import AttributeCrossAttention


def loop_cross_attention(layer, tokens, attribute_id):
    """Eq. 7 to 9 for one entry: explicit softmax, head by head."""
    dim, heads = tokens.shape[1], layer.num_heads
    width = dim // heads
    normed = torch.nn.functional.layer_norm(tokens, (dim,), layer.norm.weight, layer.norm.bias)
    query = layer.query.weight @ layer.attribute.weight[attribute_id] + layer.query.bias
    both = [layer.key_value.weight @ token + layer.key_value.bias for token in normed]
    results = []
    for h in range(heads):
        part = slice(h * width, (h + 1) * width)
        logits = [float(query[part] @ kv[:dim][part]) / math.sqrt(width) for kv in both]
        weights = [math.exp(logit) for logit in logits]
        results.append(sum(w / sum(weights) * kv[dim:][part] for w, kv in zip(weights, both, strict=True)))
    joined = layer.project.weight @ torch.cat(results) + layer.project.bias  # Eq. 8
    hidden = torch.nn.functional.layer_norm(joined, joined.shape, layer.ffn_norm.weight, layer.ffn_norm.bias)
    return joined + layer.ffn(hidden)  # Eq. 9


@pytest.mark.parametrize("heads", [1, 2, 4])
@torch.no_grad()
def test_matches_loop_of_equations_7_to_9(heads):
    layer = AttributeCrossAttention(3, 8, 5, heads).double()
    tokens, ids = torch.randn(3, 6, 8, dtype=torch.float64), torch.tensor([0, 2, 1])
    expected = torch.stack([loop_cross_attention(layer, t, i) for t, i in zip(tokens, ids, strict=True)])
    torch.testing.assert_close(layer(tokens, ids), expected)


def test_order_of_the_tokens_does_not_matter():
    layer = AttributeCrossAttention(2, 8, 4, 2)
    tokens, ids = torch.randn(2, 9, 8), torch.tensor([0, 1])
    torch.testing.assert_close(layer(tokens[:, torch.randperm(9)], ids), layer(tokens, ids))


def test_a_single_token_is_its_value_whatever_the_attribute():
    layer = AttributeCrossAttention(2, 8, 4, 2)
    first, second = layer(torch.randn(1, 1, 8).expand(2, 1, 8), torch.tensor([0, 1]))
    torch.testing.assert_close(first, second)


def test_attributes_read_differently():
    layer = AttributeCrossAttention(2, 8, 4, 2)
    first, second = layer(torch.randn(1, 9, 8).expand(2, 9, 8), torch.tensor([0, 1]))
    assert (first - second).abs().max() > 1e-3


def test_rejects_heads():
    with pytest.raises(ValueError, match="num_heads must divide the tokens' width 8, got 3"):
        AttributeCrossAttention(2, 8, 4, 3)


def test_gradcheck():
    layer = AttributeCrossAttention(2, 4, 3, 2).double()
    tokens = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: layer(t, torch.tensor([0, 1])), tokens)
