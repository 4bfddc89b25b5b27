"""``ipad-rerank evaluate``."""

from __future__ import annotations

import json

import pytest

from ipad_rerank import mean_average_precision, rank, read_embeddings


def test_evaluate_within_groups(run, files, reasoner):
    result = run("evaluate", files / "all.safetensors", "--reasoner", reasoner, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert set(found) == {"none", "reasoner", "gain"}
    assert found["none"]["queries"] == 80
    data = read_embeddings(files / "all.safetensors")
    query, gallery = data.role("query"), data.role("gallery")
    expected = mean_average_precision(
        rank(query.embeddings, gallery.embeddings), query.labels, gallery.labels, query.group_ids, gallery.group_ids
    )
    assert found["none"]["map"] == pytest.approx(expected)
    assert "gain" in run("evaluate", files / "all.safetensors", "--reasoner", reasoner).stdout


def test_evaluate_the_first_k_of_each_group(run, files):
    result = run("evaluate", files / "all.safetensors", "--k", 20, "--json")
    assert result.exit_code == 0, result.output
    data = read_embeddings(files / "all.safetensors")
    query, gallery = data.role("query"), data.role("gallery")
    expected = mean_average_precision(
        rank(query.embeddings, gallery.embeddings),
        query.labels,
        gallery.labels,
        query.group_ids,
        gallery.group_ids,
        at=20,
    )
    assert json.loads(result.stdout)["none"]["map"] == pytest.approx(expected)


def test_evaluate_none_of_each_group(run, files):
    result = run("evaluate", files / "all.safetensors", "--k", 0)
    assert "k must be at least 1, got 0" in result.output


def test_evaluate_two_files_without_a_reasoner(run, files):
    result = run("evaluate", files / "plain.npz", "--gallery", files / "words.npz")
    assert result.exit_code == 1
    assert "labels are words in one of the files and numbers in the other" in result.output
    result = run("evaluate", files / "words.npz", "--gallery", files / "words.npz")
    assert "P@1 100.00" in result.stdout
