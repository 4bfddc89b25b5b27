from __future__ import annotations

import torch

from ipad_core.layers import AttributeEmbedding


def test_one_normalized_vector_per_attribute_and_query():
    layer = AttributeEmbedding(5, 8, num_queries=3)
    vectors = layer(torch.tensor([4, 0, 4]))
    assert vectors.shape == (3, 3, 8)
    assert torch.equal(vectors[0], vectors[2])
    torch.testing.assert_close(vectors.mean(2), torch.zeros(3, 3), atol=1e-6, rtol=0)
    expected = torch.nn.functional.layer_norm(layer.table.weight[4].view(3, 8), (8,))
    torch.testing.assert_close(vectors[0], expected)


def test_attributes_differ():
    layer = AttributeEmbedding(3, 8)
    a, b, c = layer(torch.arange(3))
    assert (a - b).norm() > 0.1
    assert (b - c).norm() > 0.1
