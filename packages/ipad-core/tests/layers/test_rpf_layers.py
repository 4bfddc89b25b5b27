"""The layers of RPF and of AttnFashion against their formulas."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ipad_core.layers import AdaptiveMix, PatchAttention, PreNormMLP


def test_adaptive_mix_by_hand():
    mix = AdaptiveMix(2)
    with torch.no_grad():
        mix.first.weight.copy_(torch.tensor([[1.0, 0.0]]))
        mix.second.weight.copy_(torch.tensor([[0.0, 1.0]]))
        mix.first.bias.zero_()
        mix.second.bias.zero_()
    mixed = mix(torch.tensor([[0.0, 5.0]]), torch.tensor([[3.0, 0.0]]))  # both scores are 0: half and half
    torch.testing.assert_close(mixed, torch.tensor([[1.5, 2.5]]))
    mixed = mix(torch.tensor([[50.0, 0.0]]), torch.tensor([[7.0, 0.0]]))
    torch.testing.assert_close(mixed, torch.tensor([[50.0, 0.0]]))


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("activation", "function"), [("relu", F.relu), ("gelu", F.gelu)])
def test_pre_norm_mlp_equals_its_formula(shared, activation, function):
    layer = PreNormMLP(6, 2, activation, shared_norm=shared).eval()
    assert layer.mlp[0].out_features == 3
    outer = layer.norm if shared else layer.outer_norm
    with torch.no_grad():
        layer.norm.weight.uniform_(0.5, 2.0)
        outer.bias.normal_()
    x = torch.randn(4, 6)
    first, second = layer.mlp[0], layer.mlp[3]
    hidden = function(F.layer_norm(x, (6,), layer.norm.weight, layer.norm.bias, 1e-6) @ first.weight.T + first.bias)
    expected = F.layer_norm(x + hidden @ second.weight.T + second.bias, (6,), outer.weight, outer.bias, 1e-6)
    torch.testing.assert_close(layer(x), expected)


def test_dropout_is_off_in_evaluation_and_on_in_training():
    layer, x = PreNormMLP(8, 1, "relu", shared_norm=True, dropout=0.5), torch.randn(2, 8)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_patch_attention_head_by_head():
    layer = PatchAttention(3, 8, 5, num_heads=2).double().eval()
    tokens, attribute = torch.randn(2, 4, 8).double(), torch.randn(2, 3).double()
    expected = []
    with torch.no_grad():
        for b in range(2):
            query = layer.query(layer.norm(layer.attribute(attribute[b]) + layer.types[0]))
            patches = layer.norm(tokens[b] + layer.types[1])
            heads = []
            for h in (slice(0, 4), slice(4, 8)):
                scores = torch.stack([query[h] @ layer.key(patch)[h] / 2 for patch in patches])  # sqrt(4)
                weights = scores.softmax(dim=0)
                heads.append(sum(w * layer.value(patch)[h] for w, patch in zip(weights, patches, strict=True)))
            expected.append(layer.mlp(layer.project(layer.out(torch.cat(heads)))))
        torch.testing.assert_close(layer(tokens, attribute), torch.stack(expected))


def test_patch_attention_gradients_and_bad_heads():
    layer = PatchAttention(3, 4, 4, num_heads=2).double().eval()
    inputs = torch.randn(2, 3, 4).double().requires_grad_(), torch.randn(2, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(layer, inputs)
    with pytest.raises(ValueError, match="num_heads must divide the tokens' width 8, got 3"):
        PatchAttention(3, 8, 4, num_heads=3)
