from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from ipad_core.layers import IterativeAttention
from ipad_core.layers.iterative_attention import READINGS


def suppressed(activation, rule, ratio):
    """Eq. 2 on a list of numbers."""
    low, high = min(activation), max(activation)
    result = []
    for a in activation:
        height = (a - low) / (high - low)
        if rule == "soft":
            result.append(a - math.log1p(math.exp(-(height - ratio) / 0.1)))
        elif rule == "none" or (height >= ratio if rule == "keep_peak" else height <= ratio):
            result.append(a)
        else:
            result.append(low if high <= 0 else min(0.0, a) if rule == "keep_peak" else 0.0)
    return result


def loop_attention(layer, tokens, attribute_id, grid):
    """Eq. 1 to 4 of one entry and one query, from the equations: foreground, background, maps."""
    if layer.map_norm.__class__ is torch.nn.LayerNorm:
        tokens = torch.stack([layer.map_norm(token) for token in tokens])
    length, latent = len(tokens), layer.spatial.map_projection.out_features
    p0 = layer.attribute.norm(layer.attribute.table.weight[attribute_id])
    x0, x, x_back, p, p_back, previous, maps = tokens, tokens, tokens, p0, p0, None, []
    cells = [
        torch.tensor([-1 + 2 * column / (grid[1] - 1), -1 + 2 * row / (grid[0] - 1)], dtype=tokens.dtype)
        for row in range(grid[0])
        for column in range(grid[1])
    ]
    for i in range(layer.iterations):
        # Eq. 1
        source = x if layer.carry in ("literal", "scaled") else x0
        query = torch.tanh(layer.spatial.attribute_projection(layer.query_norms[i - 1](p) if i else p))
        activation = []
        for n in range(length):
            alpha_s = torch.tanh(layer.spatial.map_projection(source[n])) * query
            activation.append(float(alpha_s.sum()) * layer.spatial.gain * math.sqrt(latent) / math.sqrt(latent))
        # Eq. 2, 3
        activation = suppressed(activation, layer.suppression, layer.suppression_ratio[i])
        if layer.carry == "product" and previous is not None:
            activation = [a + math.log(b + 1e-6) for a, b in zip(activation, previous, strict=True)]
        exponentials = [math.exp(a) for a in activation]
        alpha = [e / sum(exponentials) for e in exponentials]
        back = [(1 - a) / (length - 1) for a in alpha]
        maps.append(torch.tensor(alpha, dtype=tokens.dtype))
        previous = alpha
        if layer.carry in ("literal", "scaled"):
            factor = length if layer.carry == "scaled" else 1
            x = torch.stack([factor * a * v for a, v in zip(alpha, x, strict=True)])
            x_back = torch.stack([factor * b * v for b, v in zip(back, x_back, strict=True)])
            pooled, pooled_back = sum(x), sum(x_back)
        else:
            pooled = sum(a * v for a, v in zip(alpha, x0, strict=True))
            pooled_back = sum(b * v for b, v in zip(back, x0, strict=True))
        # Eq. 4
        results = []
        for weights, features, vector in ((alpha, pooled, p), (back, pooled_back, p_back)):
            gate = layer.channel(features[None], vector[None])[0]
            gated = gate * features
            if layer.query == "mlp_xy":
                center = sum(w * cell for w, cell in zip(weights, cells, strict=True))
                step = layer.update.norm(torch.cat([gated, center]))
                following = vector + layer.update.mlp(step)
            else:
                following = {"gated": layer.gate_gain * gate * vector, "pooled": gated, "fixed": p0}[layer.query]
            results.append((following, gated))
        (p, gated), (p_back, gated_back) = results
    if layer.output == "pooled":
        return gated, gated_back, torch.stack(maps)
    return p, p_back, torch.stack(maps)


VARIANTS = {
    **READINGS,
    "scaled": {**READINGS["literal"], "carry": "scaled"},
    "literal, normalized keys": {**READINGS["literal"], "normalize_keys": True, "suppression": "none"},
    "pooled query": {**READINGS["default"], "query": "pooled", "carry": "none"},
    "default, sharpness 3": {**READINGS["default"], "sharpness": 3.0},
    "query as output": {**READINGS["default"], "output": "query"},
}
ENTRIES = torch.tensor([0, 2, 1, 1]), torch.tensor([1, 0, 1, 0])


def make(variant, iterations=3, dtype=torch.float64, **options):
    return IterativeAttention(3, 8, latent_dim=4, iterations=iterations, **{**VARIANTS[variant], **options}).to(dtype)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_matches_loop_of_equations_1_to_4(variant):
    layer = make(variant)
    if layer.update is not None:
        torch.nn.init.normal_(layer.update.mlp[2].weight)
    tokens = torch.randn(2, 12, 8, dtype=torch.float64)
    attended = layer(tokens, *ENTRIES, background=True, grid=(3, 4))
    expected = [loop_attention(layer, tokens[i], a, (3, 4)) for a, i in zip(*ENTRIES, strict=True)]
    foreground, background, maps = (torch.stack(part) for part in zip(*expected, strict=True))
    torch.testing.assert_close(attended.maps, maps)
    torch.testing.assert_close(attended.foreground, foreground)
    torch.testing.assert_close(attended.background, background)


@pytest.mark.parametrize("num_queries", [1, 3])
@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_an_entry_does_not_depend_on_who_else_asks(variant, num_queries):
    """Many entries an image go through all attributes of each image at once, few through maps of their own."""
    layer = make(variant, num_queries=num_queries)
    tokens = torch.randn(2, 9, 8, dtype=torch.float64)
    together = layer(tokens, *ENTRIES, background=True)
    for entry, (attribute, image) in enumerate(zip(*ENTRIES, strict=True)):
        alone = layer(tokens.repeat(3, 1, 1), attribute[None], image[None], background=True)
        for name in ("foreground", "background", "maps"):
            torch.testing.assert_close(getattr(alone, name)[0], getattr(together, name)[entry])


def test_every_parameter_of_a_single_round_is_used():
    for variant in VARIANTS:
        layer = make(variant, iterations=1)
        attended = layer(torch.randn(2, 9, 8, dtype=torch.float64), *ENTRIES)
        (attended.foreground * torch.randn_like(attended.foreground)).sum().backward()
        assert all(p.grad is not None for p in layer.parameters()), variant


@torch.no_grad()
def test_parallel_queries_are_single_queries_side_by_side():
    layer = make("default", num_queries=2)
    tokens = torch.randn(2, 9, 8, dtype=torch.float64)
    attended = layer(tokens, *ENTRIES, background=True)
    assert layer.out_dim == attended.foreground.shape[1] == 16
    for q in range(2):
        single = make("default")
        state = layer.state_dict()
        state["attribute.table.weight"] = state["attribute.table.weight"].view(3, 2, 8)[:, q]
        single.load_state_dict(state)
        one = single(tokens, *ENTRIES, background=True)
        torch.testing.assert_close(attended.foreground[:, 8 * q : 8 * q + 8], one.foreground)
        torch.testing.assert_close(attended.background[:, 8 * q : 8 * q + 8], one.background)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_few_entries_get_the_same_answers_as_many(variant):
    """Where few of the attributes are asked for, the map is copied per entry; where most are, it is not."""
    layer, tokens = make(variant), torch.randn(2, 9, 8, dtype=torch.float64)
    many = layer(tokens, *ENTRIES, background=True)
    for entry in range(4):
        one = layer(tokens, ENTRIES[0][entry : entry + 1], ENTRIES[1][entry : entry + 1], background=True)
        torch.testing.assert_close(one.foreground[0], many.foreground[entry])
        torch.testing.assert_close(one.background[0], many.background[entry])
        torch.testing.assert_close(one.maps[0], many.maps[entry])


@pytest.mark.parametrize("index", [[0, 1, 0, 1], [0]], ids=["many entries", "few entries"])
def test_an_attribute_out_of_range_is_not_answered(index):
    with pytest.raises(IndexError):
        make("default")(torch.randn(2, 9, 8, dtype=torch.float64), torch.full((len(index),), 3), torch.tensor(index))


@pytest.mark.parametrize("variant", VARIANTS)
def test_maps_sum_to_one(variant):
    attended = make(variant, dtype=torch.float32)(5 * torch.randn(2, 9, 8), *ENTRIES)
    assert attended.background is None
    torch.testing.assert_close(attended.maps.sum(dim=2), torch.ones(4, 3))
    assert (attended.maps >= 0).all()


def test_the_last_map_is_the_normalized_product_of_the_rounds():
    layer = make("default", query="fixed")
    layer.query_norms = torch.nn.ModuleList(
        [torch.nn.Identity()] * 2
    )  # every round now has the activations of the first
    maps = layer(torch.randn(2, 9, 8, dtype=torch.float64), *ENTRIES).maps
    for power in (2, 3):
        product = maps[:, 0] ** power
        torch.testing.assert_close(maps[:, power - 1], product / product.sum(1, keepdim=True), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("variant", ["default", "soft", "mlp_xy", "literal", "scaled"])
def test_round_2_attends_differently_from_round_1(variant):
    maps = make(variant, dtype=torch.float32)(torch.randn(2, 9, 8), *ENTRIES).maps
    assert ((maps[:, 1] - maps[:, 0]).abs().sum(dim=1) > 1e-5).all()


def test_the_public_code_does_not_iterate():
    maps = make("public_code")(torch.randn(2, 9, 8, dtype=torch.float64), *ENTRIES).maps
    torch.testing.assert_close(maps[:, 1:], maps[:, :1].expand(-1, 2, -1))


def test_the_default_sharpens_and_the_literal_map_flattens():
    tokens = 3 * torch.randn(8, 144, 8)
    ids, index = torch.zeros(8, dtype=torch.long), torch.arange(8)
    peaks = make("default", dtype=torch.float32, sharpness=3.0)(tokens, ids, index).maps.amax(dim=2).mean(dim=0)
    assert peaks[0] < peaks[1] < peaks[2]
    options = {**READINGS["literal"], "suppression": "none"}
    literal = IterativeAttention(3, 8, latent_dim=4, **options)(tokens, ids, index).maps.amax(dim=2).mean(dim=0)
    assert literal[2] < literal[0]
    assert literal[2] < 1.1 / 144


def test_default_ignores_the_scale_of_the_map():
    layer, tokens = make("default"), torch.randn(2, 9, 8, dtype=torch.float64)
    torch.testing.assert_close(
        layer(1000 * tokens, *ENTRIES).foreground, layer(tokens, *ENTRIES).foreground, rtol=1e-3, atol=1e-3
    )


def test_foreground_and_background_weights_add_up_to_the_mean():
    """With one round, ungated: alpha and (1 - alpha) / (L - 1) together see the whole map."""
    layer = make("default", iterations=1)
    torch.nn.init.zeros_(layer.channel.excite.weight)
    torch.nn.init.zeros_(layer.channel.excite.bias)  # gates of 0.5
    tokens = torch.randn(2, 9, 8, dtype=torch.float64)
    attended = layer(tokens, *ENTRIES, background=True)
    total = 2 * (attended.foreground + 8 * attended.background)
    torch.testing.assert_close(total, layer.map_norm(tokens).sum(dim=1)[ENTRIES[1]])


@pytest.mark.parametrize("variant", ["default", "soft", "mlp_xy", "literal", "public_code"])
def test_permuting_the_positions_permutes_the_maps(variant):
    layer, tokens, order = make(variant), torch.randn(2, 9, 8, dtype=torch.float64), torch.randperm(9)
    attended, permuted = layer(tokens, *ENTRIES), layer(tokens[:, order], *ENTRIES)
    if variant != "mlp_xy":
        torch.testing.assert_close(permuted.maps, attended.maps[:, :, order])
        torch.testing.assert_close(permuted.foreground, attended.foreground)
    else:  # it knows where it looks
        assert (permuted.maps - attended.maps[:, :, order]).abs().max() > 0


@pytest.mark.parametrize("variant", ["default", "literal", "public_code", "mlp_xy"])
def test_one_position_is_finite(variant):
    attended = make(variant, dtype=torch.float32)(torch.randn(2, 1, 8), *ENTRIES, background=True)
    assert attended.foreground.isfinite().all()
    assert attended.background.isfinite().all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_constant_map_is_finite_and_attended_evenly(variant):
    attended = make(variant, dtype=torch.float32)(torch.ones(2, 9, 8), *ENTRIES, background=True)
    torch.testing.assert_close(attended.maps, torch.full((4, 3, 9), 1 / 9))
    assert attended.foreground.isfinite().all()
    assert attended.background.isfinite().all()


@pytest.mark.parametrize("variant", ["default", "literal", "scaled", "public_code", "mlp_xy"])
def test_gradcheck(variant):
    layer = make(variant, iterations=2)
    tokens = torch.randn(2, 4, 8, dtype=torch.float64, requires_grad=True)

    def attend(tokens):
        attended = layer(tokens, torch.tensor([0, 1]), torch.tensor([0, 1]), background=True)
        return attended.foreground, attended.background, attended.maps

    assert torch.autograd.gradcheck(attend, tokens, atol=1e-6)


def test_keys_are_made_once_per_image():
    layer, seen = make("default"), []
    layer.spatial.map_projection.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape))
    layer(torch.randn(2, 9, 8, dtype=torch.float64), *ENTRIES)
    assert seen == [(2, 9, 8)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("variant", VARIANTS)
def test_low_precision_is_finite(variant, dtype):
    layer = make(variant, dtype=dtype)
    attended = layer(100 * torch.randn(2, 9, 8, dtype=dtype), *ENTRIES, background=True)
    F.layer_norm(attended.foreground.float(), (8,)).sum().backward()
    assert attended.foreground.isfinite().all()
    assert attended.maps.dtype == torch.float32
    assert all(p.grad.isfinite().all() for p in layer.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"carry": "sum"}, "carry must be one of product, literal, scaled, none, got 'sum'"),
        ({"query": "mlp"}, "query must be one of gated"),
        ({"query": "fixed", "output": "query"}, "whatever the image shows"),
        ({"suppression": "hard"}, "suppression must be one of none"),
        ({"output": "x"}, "output must be one of pooled, query"),
        ({"output": "query", "query": "fixed"}, "would answer the attribute"),
        ({"iterations": 0}, "iterations must be at least 1, got 0"),
        ({"num_queries": 0}, "num_queries must be at least 1, got 0"),
        ({"suppression_ratio": 1.5}, r"suppression_ratio must be one number, or one per iteration \(3\)"),
        ({"suppression_ratio": [0.1, 0.2]}, "suppression_ratio must be one number"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        IterativeAttention(3, 8, **options)


def test_mlp_xy_asks_for_the_grid_of_a_map_that_is_not_square():
    with pytest.raises(ValueError, match="grid must be given for a map that is not square, here of 12 positions"):
        make("mlp_xy")(torch.randn(2, 12, 8, dtype=torch.float64), *ENTRIES)
