from __future__ import annotations

import torch

from ipad_core import create_model
from ipad_train.costs import model_costs, time_calls


def test_multiply_adds_of_a_linear_layer_on_a_known_trunk_by_hand():
    options = {"channels": [8, 8, 16, 16], "stem_width": 8}
    trunk = {"name": "resnet10t", "options": options}
    small = create_model("triplet", num_attributes=1, embed_dim=4, image_size=32, trunk=trunk).train()
    large = create_model("triplet", num_attributes=1, embed_dim=24, image_size=32, trunk=trunk)
    first, second = model_costs(small, 48, repeats=2), model_costs(large, 48, repeats=2)
    assert second.multiply_adds - first.multiply_adds == 20 * 16  # of the last linear layer
    assert second.parameters - first.parameters == 20 * 16 + 20
    assert first.milliseconds > 0
    assert small.training


def test_parts_and_fused_attention_are_counted():
    model = create_model("ipad_tiny", num_attributes=2).eval()
    whole = model_costs(model, 96, repeats=1)
    part = model_costs(model, 96, repeats=1, part=model.spatial, branches="spatial")
    assert part.parameters == sum(p.numel() for p in model.spatial.parameters())
    assert part.multiply_adds < whole.multiply_adds / 1.5


def test_the_median_of_calls_after_two():
    calls = []
    assert time_calls(lambda: calls.append(1), torch.device("cpu"), 3) >= 0
    assert len(calls) == 5
