import numpy as np
import torch
import torch.nn.functional as F

from ipad_rerank.rerankers.diffusion.affinity import dense_affinity, sparse_affinity
from ipad_rerank.rerankers.gallery_neighbors import gallery_neighbors


def test_sparse_and_dense_affinity_agree():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(6, 8))[rng.integers(0, 6, 78)] + 0.7 * rng.normal(size=(78, 8))
    gallery = F.normalize(torch.from_numpy(vectors), dim=1)
    cosine = gallery @ gallery.T
    nearest, weights = gallery_neighbors(gallery, 6).tensors()
    flow = torch.randn(len(gallery), 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sparse = sparse_affinity(nearest, weights.clamp_min(0))(flow)
    dense = dense_affinity(cosine.clamp_min(0)[None], nearest[None])(flow[None])[0]
    torch.testing.assert_close(sparse, dense)
