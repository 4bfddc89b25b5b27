"""Sequences of a fit: what is drawn, from galleries of which size."""

import pytest
import torch
import torch.nn.functional as F

from ipad_rerank.rerankers.feature_reasoning.sequences import SequenceSampler, TrainingSet


def sampler(count: int = 3000, n_r: int = 100, sizes: tuple[int, int] | None = None, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    unit = F.normalize(torch.randn(count, 6, generator=generator), dim=1)
    labels = torch.randint(5, (count,), generator=generator)
    data = TrainingSet(unit, labels, torch.zeros_like(labels), torch.arange(count // 2), n_r, (), generator)
    return SequenceSampler(data, sizes), unit, labels


def test_gallery_sizes_are_uniform_above_twice_n_r_and_some_are_smaller():
    drawn, _, _ = sampler()
    assert drawn.gallery_range == (104, 1499)
    sizes = torch.tensor([drawn._random_size() for _ in range(4000)])
    assert int(sizes.min()) >= 104
    assert int(sizes.max()) <= 1499
    small = sizes < 200
    assert float(small.double().mean()) == pytest.approx(0.15, abs=0.02)
    counts = torch.histc(sizes[~small].double(), bins=10, min=200, max=1499)
    assert float(((counts - counts.mean()).square() / counts.mean()).sum()) < 30  # chi-squared, 9 degrees of freedom


@pytest.mark.parametrize(
    ("sizes", "low", "high"), [((300, 300), 300, 300), ((110, 180), 110, 180), ((250, 900), 250, 900)]
)
def test_asked_range_is_kept(sizes, low, high):
    drawn, _, _ = sampler(sizes=sizes)
    found = [drawn._random_size() for _ in range(300)]
    assert low <= min(found)
    assert max(found) <= high
    assert low == high or max(found) - min(found) > 0.8 * (high - low)


def test_a_sequence_is_a_query_and_its_best_of_a_gallery_without_it():
    drawn, unit, labels = sampler()
    batch = drawn.draw(8, 400)
    assert batch.unit.shape == (8, 100, 6)
    similarity = (batch.unit[:, 1:] @ batch.unit[:, 0, :, None])[:, :, 0]
    assert bool((similarity.diff(dim=1) <= 1e-6).all()), "candidates come best first"
    rows = (batch.unit @ unit.T).argmax(-1)
    assert int(rows.max()) < 1500, "only the pool is drawn"
    assert not bool((rows[:, 1:, None] == rows[:, 0]).any()), "queries stay outside the gallery"
    torch.testing.assert_close(batch.is_positive, labels[rows] == labels[rows[:, :1]])
    assert drawn.draw(8, 120).unit.shape[1] == 60, "a sequence holds at most half of a small gallery"


def test_some_sequences_are_cut_to_lengths_of_all_orders():
    drawn, _, _ = sampler()
    lengths = torch.tensor([drawn._random_length(100, True) for _ in range(4000)])
    cut = lengths[lengths < 100]
    assert len(cut) / 4000 == pytest.approx(0.25, abs=0.03)
    assert int(cut.min()) >= 21
    assert float((cut < (21 * 100) ** 0.5).double().mean()) == pytest.approx(0.5, abs=0.05)
    assert {drawn._random_length(100, False) for _ in range(9)} == {100}
    assert drawn._random_length(15, True) == 15


def test_a_class_asks_in_proportion_to_the_square_root_of_its_size():
    generator = torch.Generator().manual_seed(0)
    unit = F.normalize(torch.randn(1000, 6, generator=generator), dim=1)
    labels = torch.arange(1000).ge(900).long()  # 900 and 100: 30 to 10
    data = TrainingSet(unit, labels, torch.zeros_like(labels), torch.arange(1000), 50, (), generator)
    drawn = SequenceSampler(data)
    asked = torch.cat([(drawn.draw(8).unit[:, 0] @ unit.T).argmax(-1) for _ in range(500)])
    assert float(labels[asked].double().mean()) == pytest.approx(0.25, abs=0.02)
    batch = drawn.draw(64, 200)
    rows = (batch.unit[:, 0] @ unit.T).argmax(-1)
    assert len(rows.unique()) == 64, "nobody asks twice in one gallery"
    galleries = torch.cat([(drawn.draw(2, 200).unit[:, 1:] @ unit.T).argmax(-1).flatten() for _ in range(100)])
    assert float(labels[galleries].double().mean()) == pytest.approx(0.1, abs=0.03), "galleries are as they come"
