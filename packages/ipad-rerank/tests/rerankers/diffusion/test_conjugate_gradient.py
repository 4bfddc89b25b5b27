import torch

from ipad_rerank.rerankers.diffusion.conjugate_gradient import conjugate_gradient


def test_conjugate_gradient_solves_each_column_alone():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(20, 20, dtype=torch.float64, generator=generator)
    matrix = root @ root.T + torch.eye(20, dtype=torch.float64)
    right = torch.randn(20, 5, dtype=torch.float64, generator=generator)
    right[:, 2] = 0
    found = conjugate_gradient(lambda x: matrix @ x, right, 1e-12, 500)
    torch.testing.assert_close(found, torch.linalg.solve(matrix, right))
    alone = conjugate_gradient(lambda x: matrix @ x, right[:, :1], 1e-2, 500)
    together = conjugate_gradient(lambda x: matrix @ x, right, 1e-2, 500)
    torch.testing.assert_close(together[:, :1], alone)
