"""Galleries unlike those of the fit: a warning, the ranking as it came, or several sequences."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from ipad_rerank import Guard, UnfamiliarDensityWarning, rank
from ipad_rerank.rerankers.feature_reasoning.density import Density


def test_unfamiliar_density_warns_or_falls_back(search, shaken):
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


def test_what_was_tried_in_a_larger_gallery_is_no_surprise_there(search, shaken):
    reasoner = shaken()
    reasoner.density = Density(
        (30, 60), -1.0, (0.2, 0.5)
    )  # all candidates are close here, twice as many as in the fit
    with pytest.warns(UnfamiliarDensityWarning, match="150 rows.*100.0% of the candidates"):
        reasoner.rerank(*search)
    tried = Guard(reasoner, largest_gallery=150)
    tried.rerank(*search)  # no warning: warnings are errors here
    reasoner.density = Density((30, 60), -1.0, (0.0, 0.1))
    with pytest.warns(UnfamiliarDensityWarning, match="100.0% of the candidates"):
        tried.rerank(*search)


def test_larger_galleries_than_the_fit_s_warn_and_name_the_way_out(search, shaken):
    query, gallery, _ = search
    reasoner = shaken()
    reasoner.density = Density((30, 60), 0.5, (0.0, 1.0), 60)
    with pytest.warns(UnfamiliarDensityWarning, match='150 rows, fitted on 30 to 60 .see sequences="auto"'):
        reasoner.rerank(query, gallery, rank(query, gallery))


@pytest.mark.parametrize(("best", "parts", "length"), [(60, 2, 19), (49, 3, 19), (30, 5, 14)])
def test_candidates_are_dealt_out_to_sequences(search, best, parts, length, shaken):
    """Candidate r goes to sequence r mod m; each is refined as if it were alone."""
    query, gallery, _ = search
    ranking = rank(query, gallery)
    reasoner = shaken(sequences="auto")
    reasoner.density = Density((20, 60), 0.5, (0.0, 1.0), best)
    with pytest.warns(UnfamiliarDensityWarning, match="the gallery has 150 rows, fitted on 20 to 60"):
        better = reasoner.rerank(query, gallery, ranking)  # it helps there, but nobody has tried
    reasoner.density = Density((20, 130), 0.5, (0.0, 1.0), best)  # no warning: warnings are errors here
    np.testing.assert_array_equal(reasoner.rerank(query, gallery, ranking).indices, better.indices)
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
def test_no_more_sequences_than_the_ranking_and_the_gallery_have_candidates_for(
    search, sequences, k, reordered, shaken
):
    query, gallery, _ = search
    ranking = rank(query, gallery, k=k)
    better = shaken(sequences=sequences).rerank(query, gallery, ranking)
    np.testing.assert_array_equal(better.indices[:, reordered:], ranking.indices[:, reordered:])
    changed = better.indices[:, reordered - 1] != ranking.indices[:, reordered - 1]
    assert changed.any(), "the last of the head takes part"
    np.testing.assert_array_equal(np.sort(better.indices, axis=1), np.sort(ranking.indices, axis=1))


def test_lists_too_short_are_left_as_they_came(search, shaken):
    query, gallery, ranking = search
    reasoner = shaken(n_r=40)
    reasoner.density = Density((150, 150), -1.0, (1.0, 1.0), 150, blends=((20, 0.0), (25, 0.5), (39, 1.0)))
    for depth in (24, 10):
        with pytest.warns(
            UnfamiliarDensityWarning, match=f"{depth} candidates to re-order are too few.*fewer than 25"
        ):
            assert (
                reasoner.rerank(query, gallery, ranking.top(depth)).indices.tolist()
                == ranking.top(depth).indices.tolist()
            )
    quiet = reasoner.rerank(query, gallery, ranking.top(24), on_unfamiliar="ignore")  # warnings are errors here
    np.testing.assert_array_equal(quiet.indices, ranking.top(24).indices)
    assert (reasoner.rerank(query, gallery, ranking.top(25)).indices != ranking.top(25).indices).any()
    half, whole = shaken(n_r=40, blend=0.5), ranking.top(25)
    np.testing.assert_array_equal(
        reasoner.rerank(query, gallery, whole).indices, half.rerank(query, gallery, whole).indices
    )
    with pytest.warns(UnfamiliarDensityWarning, match="24 candidates"):
        reasoner.rerank_candidates(query, gallery[ranking.indices[:, :24]], gallery_size=150)


def test_shorter_lists_take_the_blend_of_their_length_and_never_more_than_full_ones():
    density = Density((150, 150), 0.0, (0.0, 1.0), blends=((20, 0.0), (32, 0.25), (51, 1.0)))
    found = [density.blend_for(length, 0.75) for length in (5, 20, 31, 32, 50, 51, 400)]
    assert found == [0.0, 0.0, 0.0, 0.25, 0.25, 0.75, 0.75]
    assert density.shortest == 32
    assert Density((150, 150), 0.0, (0.0, 1.0)).blend_for(5, 0.75) == 0.75
