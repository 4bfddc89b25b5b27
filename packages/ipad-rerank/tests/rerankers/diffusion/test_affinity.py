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
    neighbors = gallery_neighbors(gallery, 6)
    flow = torch.randn(len(gallery), 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sparse = sparse_affinity(neighbors.indices, neighbors.cosine.clamp_min(0))(flow)
    dense = dense_affinity(cosine.clamp_min(0)[None], neighbors.indices[None])(flow[None])[0]
    torch.testing.assert_close(sparse, dense)
