"""Feature Reasoning as users call it."""

from __future__ import annotations

import json
import pickle
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ipad_rerank import FeatureReasoning, Ranking, UnfamiliarDensityWarning, rank
from ipad_rerank.rerankers._density import Density


def clusters(count: int, dim: int = 12, seed: int = 0, noise: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(4, size=count)
    centers = np.random.default_rng(99).normal(size=(4, dim))
    return (centers[labels] + noise * dim**0.5 * rng.normal(size=(count, dim))).astype(np.float32), labels


def shaken(scale: float = 0.3, seed: int = 0, **config) -> FeatureReasoning:
    """One that does something, without a fit."""
    reasoner = FeatureReasoning(**({"n_r": 20} | config))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        reasoner.network.last.weight.normal_(0, scale, generator=generator)
        reasoner.network.last.bias.normal_(0, scale, generator=generator)
    return reasoner.eval()


def naive_refine(reasoner: FeatureReasoning, sequence: torch.Tensor) -> torch.Tensor:
    """One sequence ``(n, D)`` in plain loops over its nodes, gradient by autograd: written from Eq. 12 and 13."""
    network, n = reasoner.network, len(sequence)
    features = sequence.clone()
    columns = list(range(n)) + list(range(reasoner.n_r, reasoner.n_r + n))
    for _ in range(reasoner.n_t):
        features = features.detach().requires_grad_()
        unit = features / features.norm(dim=1, keepdim=True)
        similarity = unit @ unit.T
        update = torch.zeros(n, n, dtype=sequence.dtype)
        for i in range(n):
            others = sorted((j for j in range(n) if j != i), key=lambda j, i=i: (-similarity[i, j].item(), j))
            order = [i, *others]
            delta = torch.cat([similarity[i, order], similarity[0, order]]).detach()
            spread, other = (row.var(unbiased=False).clamp_min(1e-6).sqrt() for row in delta.view(2, n))
            level, other_level = delta.view(2, n).mean(1)
            own = similarity[0, i].detach()
            distances = torch.stack([1 - level, 1 - other_level, 1 - own]).clamp_min(1e-3).log()
            density = torch.cat([distances, torch.stack([spread.log(), other.log(), (own - other_level) / other])])
            delta = F.layer_norm(delta, (2 * n,)) * network.scale + network.shift
            hidden = F.linear(delta, network.first.weight[:, columns], network.first.bias)
            hidden = F.relu(hidden + network.density.weight @ density)
            hidden = F.relu(network.hidden(hidden))
            output = F.linear(hidden, network.last.weight[columns], network.last.bias[columns])
            for position, j in enumerate(order):
                update[i, j] += output[position]
                update[0, j] += output[n + position]
        target = (similarity + update).detach()
        (gradient,) = torch.autograd.grad(0.5 * (target - similarity).square().sum(), features)
        step = features - reasoner.step_size / n * gradient
        if reasoner.variant == "query_only":
            step = torch.cat([step[:1], features[1:]])
        features = step.detach()
    unit = F.normalize(features, dim=1)
    return unit @ unit[0]


@pytest.mark.parametrize("variant", ["full", "query_only"])
@pytest.mark.parametrize("n_t", [1, 3])
@pytest.mark.parametrize(("n", "dim"), [(20, 6), (20, 40), (11, 6)])
def test_batched_matches_loop_reference(variant, n_t, n, dim):
    reasoner = shaken(variant=variant, n_t=n_t).double()
    unit = F.normalize(torch.randn(3, n, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(2)), dim=-1)
    expected = torch.stack([naive_refine(reasoner, sequence) for sequence in unit]).detach()
    with torch.no_grad():
        torch.testing.assert_close(reasoner(unit), expected, rtol=0, atol=1e-10)
        torch.testing.assert_close(reasoner(unit, all_rows=True)[:, 0], expected, rtol=0, atol=1e-10)


def test_gram_space_matches_feature_space():
    reasoner = shaken(n_t=2)
    unit = F.normalize(torch.randn(4, 20, 30, generator=torch.Generator().manual_seed(2)), dim=-1)
    with torch.no_grad():
        torch.testing.assert_close(reasoner(unit, space="gram"), reasoner(unit, space="feature"), rtol=0, atol=5e-5)


def test_low_precision_stays_close():
    unit = F.normalize(torch.randn(4, 20, 30, generator=torch.Generator().manual_seed(2)), dim=-1)
    with torch.no_grad():
        full, low = shaken(0.1)(unit), shaken(0.1, low_precision=True)(unit)
    assert 0 < (full - low).abs().max() < 0.05


@pytest.fixture
def search():
    query, _ = clusters(13, seed=1)
    gallery, _ = clusters(150, seed=2)
    return query, gallery, rank(query, gallery, k=60)


def test_untrained_is_the_identity(search):
    better = FeatureReasoning(n_r=30, n_t=3).rerank(*search)
    np.testing.assert_array_equal(better.indices, search[2].indices)
    np.testing.assert_array_equal(better.scores, search[2].scores)


@pytest.mark.parametrize("variant", ["full", "query_only"])
def test_head_is_permuted_and_tail_untouched(search, variant):
    better = shaken(variant=variant).rerank(*search)
    before = search[2]
    assert (better.indices != before.indices).any()
    np.testing.assert_array_equal(np.sort(better.indices[:, :19], 1), np.sort(before.indices[:, :19], 1))
    np.testing.assert_array_equal(better.indices[:, 19:], before.indices[:, 19:])
    np.testing.assert_array_equal(better.scores[:, 19:], before.scores[:, 19:])
    assert (np.diff(better.scores, axis=1) <= 0).all()


def test_repeats_and_does_not_depend_on_the_batch(search):
    reasoner = shaken()
    better = reasoner.rerank(*search)
    np.testing.assert_array_equal(better.scores, reasoner.rerank(*search).scores)
    for batch_size in (1, 5):
        other = reasoner.rerank(*search, batch_size=batch_size)
        np.testing.assert_allclose(other.scores, better.scores, atol=1e-4)


def test_rerank_leaves_no_gradient_and_answers_in_kind(search):
    query, gallery, _ = search
    tensors = (torch.from_numpy(query), torch.from_numpy(gallery))
    better = shaken().rerank(*tensors, rank(*tensors, k=60))
    assert isinstance(better.indices, torch.Tensor)
    assert not better.scores.requires_grad
    np.testing.assert_array_equal(better.indices.numpy(), shaken().rerank(*search).indices)
    half = shaken().rerank(query.astype(np.float64), gallery[:, ::-1][:, ::-1], search[2])
    np.testing.assert_allclose(half.scores, better.scores, atol=1e-5)


def test_memory_mapped_gallery_gives_the_same(search, tmp_path, monkeypatch):
    query, gallery, ranking = search
    np.save(tmp_path / "g.npy", gallery)
    expected = shaken().rerank(query, gallery, ranking).indices
    monkeypatch.setattr("ipad_rerank.rerankers._sequence_rows.work_budget", lambda device: 0)  # no copy in memory
    mapped = np.load(tmp_path / "g.npy", mmap_mode="r")
    np.testing.assert_array_equal(shaken().rerank(query, mapped, ranking).indices, expected)


def test_candidates_in_any_order_agree_with_rerank(search):
    query, gallery, ranking = search
    reasoner = shaken()
    expected = reasoner.rerank(query, gallery, ranking).indices
    shuffle = np.random.default_rng(0).permutation(60)
    ids = ranking.indices[:, shuffle]
    found = reasoner.rerank_candidates(query, gallery[ids], gallery_size=150)
    np.testing.assert_array_equal(np.take_along_axis(ids, found.indices, 1), expected)


def test_n_r_is_limited_to_half_the_gallery(search):
    query, gallery, _ = search
    reasoner = shaken(n_r=500)
    ranking = rank(query, gallery[:24])
    better = reasoner.rerank(query, gallery[:24], ranking)
    np.testing.assert_array_equal(better.indices[:, 11:], ranking.indices[:, 11:])
    for count in (1, 2, 3):
        assert reasoner.rerank(query, gallery[:count], rank(query, gallery[:count])).k == count


def test_zero_vectors_rank_last_and_a_zero_query_keeps_its_order(search):
    query, gallery, _ = (array.copy() if isinstance(array, np.ndarray) else array for array in search)
    query[3] = 0
    gallery[[4, 9]] = 0
    small = gallery[:40]
    better = shaken().rerank_candidates(query, np.broadcast_to(small[:19], (13, 19, 12)))
    assert np.isfinite(better.scores).all()
    assert (np.sort(better.indices[:, -2:], 1) == [4, 9]).all()
    assert better.indices[3].tolist() == [i for i in range(19) if i not in (4, 9)] + [4, 9]


def test_identical_vectors_are_stable():
    better = shaken().rerank_candidates(np.ones((1, 8)), np.ones((1, 19, 8)))
    assert better.indices.tolist() == [list(range(19))]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"gallery": np.full((150, 12), np.nan)}, ValueError, "gallery has NaN"),
        ({"gallery": np.ones((150, 5))}, ValueError, "gallery has 5 dimensions"),
        ({"query": np.ones((4, 12))}, ValueError, "ranking has 13 rows, query has 4"),
        ({"gallery": np.ones((20, 12))}, ValueError, "gallery has 20 rows only"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"on_unfamiliar": "hope"}, ValueError, "on_unfamiliar must be one of warn, fallback, ignore"),
    ],
)
def test_bad_input(search, change, error, message):
    arguments = dict(zip(("query", "gallery", "ranking"), search, strict=True)) | change
    with pytest.raises(error, match=message):
        shaken().rerank(**arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sequences": 0}, "sequences"),
        ({"n_r": 1}, "n_r"),
        ({"n_t": 0}, "n_t"),
        ({"variant": "lite"}, "variant"),
        ({"step_size": 0.0}, "step_size"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        FeatureReasoning(**options)


def test_unfamiliar_density_warns_or_falls_back(search):
    reasoner = shaken()
    reasoner.density = Density((1000, 4000), 0.5, (0.0, 1.0))
    with pytest.warns(UnfamiliarDensityWarning, match="the gallery has 150 rows, fitted on 1000 to 4000") as caught:
        better = reasoner.rerank(*search)
    assert caught[0].filename == __file__, "the warning points at the caller"
    assert (better.indices != search[2].indices).any()
    with pytest.warns(UnfamiliarDensityWarning):
        same = reasoner.rerank(*search, on_unfamiliar="fallback")
    np.testing.assert_array_equal(same.indices, search[2].indices)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reasoner.rerank(*search, on_unfamiliar="ignore")
        reasoner.density = Density((100, 200), 0.5, (0.0, 1.0))
        reasoner.rerank(*search)
    reasoner.density = Density((100, 200), -0.99, (0.0, 0.1))
    with pytest.warns(UnfamiliarDensityWarning, match="of the candidates are close"):
        reasoner.rerank(*search)


@pytest.mark.parametrize(("best", "parts", "length"), [(60, 2, 19), (49, 3, 19), (30, 5, 14)])
def test_candidates_are_dealt_out_to_sequences(search, best, parts, length):
    """Candidate r goes to sequence r mod m; each is refined as if it were alone."""
    query, gallery, _ = search
    ranking = rank(query, gallery)
    reasoner = shaken(sequences="auto")
    reasoner.density = Density((20, 60), 0.5, (0.0, 1.0), best)
    better = reasoner.rerank(query, gallery, ranking)  # no warning: warnings are errors here
    head = parts * length
    scores = np.empty((len(query), head), np.float32)
    for part in range(parts):
        rows = ranking.indices[:, part:head:parts]
        alone = shaken().rerank_candidates(query, gallery[rows])
        np.put_along_axis(scores[:, part::parts], alone.indices, alone.scores, axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")
    expected = np.take_along_axis(ranking.indices[:, :head], order, axis=1)
    np.testing.assert_array_equal(better.indices[:, :head], expected)
    np.testing.assert_array_equal(better.indices[:, head:], ranking.indices[:, head:])
    engine = reasoner.rerank_candidates(query, gallery[ranking.indices], gallery_size=len(gallery))
    np.testing.assert_array_equal(np.take_along_axis(ranking.indices, engine.indices, axis=1), better.indices)


@pytest.mark.parametrize(
    ("sequences", "k", "reordered"),
    [(1, 150, 19), (2, 150, 38), (9, 150, 63), (500, 150, 50), (3, 50, 38), (2, 30, 19)],
)
def test_no_more_sequences_than_the_ranking_and_the_gallery_have_candidates_for(search, sequences, k, reordered):
    query, gallery, _ = search
    ranking = rank(query, gallery, k=k)
    better = shaken(sequences=sequences).rerank(query, gallery, ranking)
    np.testing.assert_array_equal(better.indices[:, reordered:], ranking.indices[:, reordered:])
    changed = better.indices[:, reordered - 1] != ranking.indices[:, reordered - 1]
    assert changed.any(), "the last of the head takes part"
    np.testing.assert_array_equal(np.sort(better.indices, axis=1), np.sort(ranking.indices, axis=1))


def test_larger_galleries_than_the_fit_s_warn_and_name_the_way_out(search):
    query, gallery, _ = search
    reasoner = shaken()
    reasoner.density = Density((30, 60), 0.5, (0.0, 1.0), 60)
    with pytest.warns(UnfamiliarDensityWarning, match='150 rows, fitted on 30 to 60 .see sequences="auto"'):
        reasoner.rerank(query, gallery, rank(query, gallery))


def test_network_sees_how_dense_a_sequence_is():
    """The instance norm alone could not tell similarities from the same ones closer together."""
    network = shaken().network
    center = torch.rand(1, 20, 20).sort(dim=-1, descending=True).values
    query = center[:, :1].expand_as(center)
    closer = (1 - 0.1 * (1 - center), 1 - 0.1 * (1 - query))
    with torch.no_grad():
        difference = (network(*closer)[0] - network(center, query)[0]).abs().max()
        network.density.weight.zero_()
        blind = (network(*closer)[0] - network(center, query)[0]).abs().max()
    assert float(difference) > 10 * float(blind)
    assert float(blind) < 2e-2, "the norm's epsilon only"


def test_saved_and_loaded_is_the_same(search, tmp_path):
    reasoner = shaken(n_t=2, variant="query_only")
    reasoner.density = Density((10, 400), 0.5, (0.0, 1.0))
    reasoner.save_pretrained(tmp_path / "r")
    assert sorted(p.name for p in (tmp_path / "r").iterdir()) == ["config.json", "model.safetensors"]
    loaded = FeatureReasoning.from_pretrained(tmp_path / "r")
    assert loaded.config == reasoner.config
    assert loaded.density == reasoner.density
    np.testing.assert_array_equal(loaded.rerank(*search).scores, reasoner.rerank(*search).scores)


class TestDamagedFolders:
    @pytest.fixture
    def folder(self, tmp_path):
        shaken().save_pretrained(tmp_path)
        return tmp_path

    def test_missing(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"holds no config\.json"):
            FeatureReasoning.from_pretrained(tmp_path / "nowhere")

    def test_truncated_weights(self, folder):
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:200])
        with pytest.raises(ValueError, match="not a readable safetensors file"):
            FeatureReasoning.from_pretrained(folder)

    def test_pickle_in_disguise(self, folder):
        (folder / "model.safetensors").write_bytes(pickle.dumps({"a": 1}))
        with pytest.raises(ValueError, match="not a readable safetensors file"):
            FeatureReasoning.from_pretrained(folder)

    @pytest.mark.parametrize("text", ["{", "[]", '{"architectures": ["BertModel"]}'])
    def test_foreign_config(self, folder, text):
        (folder / "config.json").write_text(text)
        with pytest.raises(ValueError, match=r"config\.json"):
            FeatureReasoning.from_pretrained(folder)

    @pytest.mark.parametrize("change", [{"n_r": 21}, {"n_r": "many"}, {"nonsense": 1}, {"density": {"x": 1}}])
    def test_config_that_does_not_fit(self, folder, change):
        config = json.loads((folder / "config.json").read_text()) | change
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(ValueError, match="is damaged"):
            FeatureReasoning.from_pretrained(folder)

    def test_newer_version(self, folder):
        config = json.loads((folder / "config.json").read_text()) | {"version": 2}
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(ValueError, match="version 2"):
            FeatureReasoning.from_pretrained(folder)


def test_ranking_longer_than_a_gallery_of_ties_stays_a_permutation():
    gallery = np.repeat(np.eye(3, dtype=np.float32), 20, axis=0)
    ranking = rank(gallery[:5], gallery)
    better = shaken().rerank(gallery[:5], gallery, ranking)
    assert isinstance(better, Ranking)
    np.testing.assert_array_equal(np.sort(better.indices, 1), np.tile(np.arange(60), (5, 1)))


@pytest.mark.gpu
def test_cuda_agrees_with_cpu(search):
    tensors = [torch.from_numpy(array).cuda() for array in search[:2]]
    better = shaken().rerank(*tensors, rank(*tensors, k=60))
    assert better.indices.is_cuda
    np.testing.assert_allclose(better.scores.cpu(), shaken().rerank(*search).scores, atol=1e-4)
