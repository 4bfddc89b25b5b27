"""What a fit takes and refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ipad_rerank import FeatureReasoning, NoGainWarning, rank

QUICK = {"n_r": 20, "steps": 2, "batch_size": 2, "evaluations": 1, "hidden_width": 8, "keep_without_gain": True}

pytestmark = pytest.mark.filterwarnings("ignore::ipad_rerank.NoGainWarning")


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    labels = rng.integers(4, size=260)
    return (rng.normal(size=(4, 6))[labels] + rng.normal(size=(260, 6))).astype(np.float32), labels


def weights(*arguments, **options):
    return FeatureReasoning.fit(*arguments, **QUICK, verbose=False, **options).network.state_dict()


def test_kinds_of_arrays_give_the_same_fit(data):
    vectors, labels = data
    expected = weights(vectors, labels)
    strided = np.asfortranarray(np.repeat(vectors, 2, axis=0))[::2]
    strided.setflags(write=False)
    frozen = labels.astype(np.int16)
    frozen.setflags(write=False)
    for arguments in [
        (strided, frozen),
        (vectors.astype(np.float64), labels.astype(np.float64)),
        (torch.from_numpy(vectors), torch.from_numpy(labels)),
        (vectors.tolist(), labels.tolist()),
    ]:
        torch.testing.assert_close(weights(*arguments), expected, rtol=0, atol=0)


def test_a_memory_map(data, tmp_path):
    np.save(tmp_path / "v.npy", data[0])
    mapped = np.load(tmp_path / "v.npy", mmap_mode="r")
    torch.testing.assert_close(weights(mapped, data[1]), weights(*data), rtol=0, atol=0)


def test_names_of_labels_and_scale_of_vectors_do_not_matter(data):
    vectors, labels = data
    far = np.array([-(1 << 62), 1 << 62, -1, 12345])[labels]
    torch.testing.assert_close(weights(vectors * 8, far), weights(vectors, labels), rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["zero", "equal"])
def test_zero_and_equal_vectors_do_no_harm(data, kind):
    vectors, labels = data
    vectors[::5] = 0 if kind == "zero" else vectors[0]
    reasoner = FeatureReasoning.fit(vectors, labels, verbose=False, **QUICK)
    assert all(bool(torch.isfinite(weight).all()) for weight in reasoner.parameters())
    better = reasoner.rerank(vectors[:9], vectors, rank(vectors[:9], vectors), on_unfamiliar="ignore")
    assert np.isfinite(better.scores).all()


def test_groups_of_one_class_or_of_few_rows(data):
    vectors, labels = data
    groups = np.zeros(260, int)
    groups[labels == 3] = 1  # a group with a single class
    groups[:2] = 2
    assert all(bool(torch.isfinite(weight).all()) for weight in weights(vectors, labels, groups).values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embeddings": np.full((260, 6), np.inf)}, "embeddings has NaN or infinite"),
        ({"embeddings": np.zeros((0, 6)), "labels": []}, "embeddings is empty"),
        ({"embeddings": np.ones(260)}, r"embeddings must have shape \(N, D\)"),
        ({"labels": np.full(260, np.nan)}, "labels must be whole numbers"),
        ({"labels": np.zeros((260, 1), int)}, r"labels must have shape \(N,\)"),
        ({"group_ids": np.arange(260)}, "single class"),
        ({"max_vectors": 0}, "max_vectors must be at least 1"),
        ({"evaluations": 0}, "evaluations must be at least 1"),
    ],
)
def test_bad_input(data, change, message):
    with pytest.raises(ValueError, match=message):
        FeatureReasoning.fit(**{"embeddings": data[0], "labels": data[1], "verbose": False} | QUICK | change)


def test_labels_of_any_kind_give_the_same_fit(data):
    vectors, labels = data
    words = np.array(["collar", "sleeve", "\u8863", "hem"])[labels]
    expected = weights(vectors, labels)
    for same in (words, words.tolist(), words.astype(object)):
        torch.testing.assert_close(weights(vectors, same), expected, rtol=0, atol=0)
    torch.testing.assert_close(
        weights(vectors, labels > 1), weights(vectors, (labels > 1).astype(int)), rtol=0, atol=0
    )


def test_rows_without_a_label_are_left_out(data):
    vectors, labels = data
    some = labels.astype(object)
    some[:50] = None
    torch.testing.assert_close(weights(vectors, some), weights(vectors[50:], labels[50:]), rtol=0, atol=0)
    some[:70] = None
    with pytest.raises(ValueError, match="embeddings has 190 rows with a label; a fit needs at least 200"):
        weights(vectors, some)


@pytest.mark.parametrize("labels", [["a"] * 259 + [1], [b"a"] * 260, [{}] * 260])
def test_labels_that_are_neither_numbers_nor_words(data, labels):
    with pytest.raises(TypeError, match="labels must be whole numbers or words"):
        FeatureReasoning.fit(data[0], np.array(labels, dtype=object), verbose=False, **QUICK)


def test_every_class_once_finds_nothing(data):
    with pytest.warns(NoGainWarning, match="did not rise: MAP: no held-out query has a relevant item; the identity"):
        reasoner = FeatureReasoning.fit(data[0], np.arange(260), verbose=False, **QUICK | {"keep_without_gain": False})
    assert reasoner.is_identity
