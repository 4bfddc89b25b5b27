from __future__ import annotations

import torch

from ipad_core.layers import ConditionMask


def test_masks_by_attribute_and_never_turns_a_sign():
    layer = ConditionMask(3, 200)
    embeddings, ids = torch.randn(4, 200), torch.tensor([0, 2, 2, 1])
    masked = layer(embeddings, ids)
    expected = torch.stack([e * layer.table.weight[i].clamp(min=0) for e, i in zip(embeddings, ids, strict=True)])
    torch.testing.assert_close(masked, expected)
    assert (masked * embeddings >= 0).all()
    assert abs(layer.table.weight.mean().item() - 0.9) < 0.1
    assert abs(layer.table.weight.std().item() - 0.7) < 0.1
