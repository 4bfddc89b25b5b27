"""Subgraphs of Feature Reasoning: each node's view of a sequence, sorted, and back again (Wan et al. 2025, Sec. 3.3).

The subgraph of node i has two rows, node i and the query (node 0), and one column a node, sorted by similarity to i.
"""

from __future__ import annotations

import torch
from torch import Tensor


def sort_nodes(similarity: Tensor) -> Tensor:
    """Order of the nodes as seen from each node: ``(B, n, n)`` similarities -> ``(B, n, n)`` int64.

    Row i holds i first and then the others by descending similarity to i; ties keep the lower node first. For float32
    the similarity and the node share one int32 key, several times faster to sort than values with indices; nodes that
    differ by less than the key's step (4.8e-7 at n = 500) count as ties. float64, and n above 2^14, sort exactly.
    """
    n = similarity.shape[-1]
    bits = max(1, (n - 1).bit_length())
    if similarity.dtype == torch.float64 or bits > 14:
        itself_first = similarity.detach().clone()
        itself_first.diagonal(dim1=1, dim2=2).fill_(float("inf"))
        return torch.sort(itself_first, dim=-1, descending=True, stable=True).indices
    keys = pack_keys(similarity.detach(), bits)
    if keys.device.type == "cpu":
        keys.numpy().sort(axis=-1)  # vectorised for int32 where the machine has the instructions
    else:
        keys = torch.sort(keys, dim=-1).values
    return keys.bitwise_and_((1 << bits) - 1).long()


def pack_keys(similarity: Tensor, bits: int) -> Tensor:
    """int32 keys that sort as (self first, similarity descending, node ascending); the low ``bits`` are the node."""
    n = similarity.shape[-1]
    # A distance 1 - s is in [0, 2]: twice this many steps still fit above the index, and float32 counts them exactly.
    steps = min((1 << (31 - bits - 1)) - 1, 1 << 23)
    distance = (1.0 - similarity).clamp_(0.0, 2.0).mul_(steps)
    keys = distance.to(torch.int32).bitwise_left_shift_(bits)
    keys.bitwise_or_(torch.arange(n, dtype=torch.int32, device=keys.device))
    own = torch.arange(n, dtype=torch.int32, device=keys.device) - (1 << bits)  # negative; the low bits are the node
    keys.diagonal(dim1=1, dim2=2).copy_(own)
    return keys


def gather_rows(similarity: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
    """The two rows of every subgraph: ``(B, n, n)`` for the node and ``(B, n, n)`` for the query, sorted columns."""
    center = similarity.gather(2, order)
    query = similarity[:, :1].expand_as(similarity).gather(2, order)
    return center, query


def scatter_updates(center: Tensor, query: Tensor, order: Tensor) -> Tensor:
    """Sum the subgraphs' updates at their positions: O(S) of Eq. 12, ``(B, n, n)``.

    Row i gets the node row of subgraph i; row 0 also gets the query rows of all. Sums run in a fixed order on
    every device (no atomic additions), so results repeat bit for bit.
    """
    update = _unsort(center, order)
    rows = _unsort(query, order).sum(1, keepdim=True)
    update[:, :1] += rows
    return update


def _unsort(sorted_values: Tensor, order: Tensor) -> Tensor:
    """Inverse of gathering at ``order``, whose rows are permutations, so that every place is written once."""
    return torch.empty_like(sorted_values).scatter_(2, order, sorted_values)
