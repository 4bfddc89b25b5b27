"""Folders of shards: read as one file, joined into one, and refused where they are not whole."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from ipad_rerank import EmbeddingSet, read_embeddings, write_embeddings
from ipad_rerank.cli import main
from ipad_rerank.files.embeddings import check_same_words
from ipad_rerank.files.shards import INDEX, join_shards, read_index, shard_path, shard_shape, write_index

RANDOM = np.random.default_rng(0)
VECTORS = RANDOM.standard_normal((10, 4)).astype(np.float32)
LABELS = np.arange(10) % 3
ROLES = np.array([1, 2] * 5)


@pytest.fixture
def folder(tmp_path):
    """Ten rows in shards of four, four and two."""
    place = tmp_path / "shards"
    place.mkdir()
    for number, start in enumerate(range(0, 10, 4)):
        rows = slice(start, start + 4)
        write_embeddings(
            shard_path(place, number), VECTORS[rows], labels=LABELS[rows], ids=np.arange(10)[rows], roles=ROLES[rows]
        )
    write_index(place, [shard_path(place, number) for number in range(3)], {"attributes": ["collar"]}, note="kept")
    return place


def test_a_folder_reads_as_its_rows_in_order(folder):
    data = read_embeddings(folder)
    np.testing.assert_array_equal(data.embeddings, VECTORS)
    np.testing.assert_array_equal(data.labels, LABELS)
    np.testing.assert_array_equal(data.ids, np.arange(10))
    np.testing.assert_array_equal(data.roles, ROLES)
    assert data.group_ids is None
    assert data.metadata == {"attributes": ["collar"]}
    index = read_index(folder)
    assert (index["rows"], index["dim"], index["note"]) == (10, 4, "kept")
    assert [shard["rows"] for shard in index["shards"]] == [4, 4, 2]
    assert shard_shape(shard_path(folder, 2)) == (2, 4)


def test_words_in_shards_are_known_as_words(folder):
    words = np.array(["red", "blue", "red", "green"])
    write_embeddings(shard_path(folder, 0), VECTORS[:4], labels=words)
    write_index(folder, [shard_path(folder, 0)], {"colors": 3})
    data = read_embeddings(folder)
    assert (data.words, data.metadata) == ({"labels"}, {"colors": 3})
    np.testing.assert_array_equal(data.labels, EmbeddingSet(VECTORS[:4], labels=words).labels)


def test_joined_shards_are_a_memory_map_with_the_columns_beside(folder, tmp_path):
    assert join_shards(folder, tmp_path / "all.npy") == (10, 4)
    data = read_embeddings(tmp_path / "all.npy")
    assert isinstance(data.embeddings, np.memmap)
    np.testing.assert_array_equal(data.embeddings, VECTORS)
    np.testing.assert_array_equal(data.labels, LABELS)
    np.testing.assert_array_equal(data.roles, ROLES)
    assert data.metadata == {"attributes": ["collar"]}
    assert not list(tmp_path.glob("all.npy?*")), "nothing half done is left"


def test_joined_shards_keep_the_names_of_values_and_which_columns_were_words(folder, tmp_path):
    for number, words in enumerate((["red", "blue", "red"], [None, None])):
        write_embeddings(shard_path(folder, number), VECTORS[: len(words)], labels=np.array(words, dtype=object))
    names = {"attributes": ["Farbe"], "value_names": ["Farbe/grün", "Farbe/rot"]}
    write_index(folder, [shard_path(folder, number) for number in range(2)], names)
    join_shards(folder, tmp_path / "all.npy")
    parts, joined = read_embeddings(folder), read_embeddings(tmp_path / "all.npy")
    for data in (parts, joined):
        assert (data.words, data.metadata) == ({"labels"}, names), "the last shard has no word in it"
    np.testing.assert_array_equal(joined.labels, parts.labels)
    with pytest.raises(TypeError, match="labels are words in one of the files and numbers in the other"):
        check_same_words(joined, EmbeddingSet(VECTORS, labels=LABELS))
    (tmp_path / "all.metadata.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match=r"all\.metadata\.json beside it must hold a JSON object"):
        read_embeddings(tmp_path / "all.npy")


def test_a_join_leaves_nothing_of_an_earlier_file_beside_it(folder, tmp_path):
    join_shards(folder, tmp_path / "all.npy")
    write_embeddings(shard_path(folder, 0), VECTORS, ids=np.arange(10))
    write_index(folder, [shard_path(folder, 0)])
    join_shards(folder, tmp_path / "all.npy")
    data = read_embeddings(tmp_path / "all.npy")
    assert (data.labels, data.roles, data.metadata) == (None, None, {})
    np.testing.assert_array_equal(data.ids, np.arange(10))


def test_the_commands_take_a_folder_and_its_join_alike(folder, tmp_path):
    runner = CliRunner()
    joined = runner.invoke(main, ["join", str(folder), str(tmp_path / "all.npy")])
    assert joined.output == f"{tmp_path / 'all.npy'}: 10 embeddings of 4 numbers\n"
    answers = [runner.invoke(main, ["evaluate", str(each), "--json"]) for each in (folder, tmp_path / "all.npy")]
    assert answers[0].exit_code == 0, answers[0].output
    assert answers[0].output == answers[1].output


def test_half_precision_is_read_as_float32(tmp_path):
    write_embeddings(shard_path(tmp_path, 0), VECTORS.astype(np.float16))
    write_index(tmp_path, [shard_path(tmp_path, 0)])
    data = read_embeddings(tmp_path)
    assert data.embeddings.dtype == np.float32
    np.testing.assert_array_equal(data.embeddings, VECTORS.astype(np.float16).astype(np.float32))


def test_a_folder_that_is_not_finished_or_holds_nothing_says_so(folder, tmp_path):
    (folder / INDEX).unlink()
    with pytest.raises(FileNotFoundError, match=r"shards is not finished: .* \(there is no index\.json\)"):
        read_embeddings(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty holds no shards"):
        read_embeddings(tmp_path / "empty")


def test_a_missing_damaged_or_exchanged_shard_is_named(folder):
    good = shard_path(folder, 1).read_bytes()
    shard_path(folder, 1).write_bytes(good[:-9])
    with pytest.raises(ValueError, match=r"shard-00001\.safetensors"):
        read_embeddings(folder)
    write_embeddings(shard_path(folder, 1), VECTORS[:3], labels=LABELS[:3], ids=np.arange(3), roles=ROLES[:3])
    with pytest.raises(ValueError, match=r"shard-00001\.safetensors must hold 4 rows, as .*index\.json says"):
        read_embeddings(folder)
    shard_path(folder, 1).unlink()
    with pytest.raises(FileNotFoundError, match=r"shard-00001\.safetensors: no such file"):
        read_embeddings(folder)


def test_an_index_that_is_no_index_is_refused(folder):
    (folder / INDEX).write_text(json.dumps({"shards": 3}))
    with pytest.raises(ValueError, match=r"index\.json cannot be read as an index of shards"):
        read_embeddings(folder)


def test_shards_that_do_not_fit_together_get_no_index(folder):
    write_embeddings(shard_path(folder, 3), VECTORS[:2, :3], labels=[0, 1], ids=[0, 1], roles=[1, 2])
    files = [shard_path(folder, number) for number in range(4)]
    with pytest.raises(ValueError, match=r"shard-00003.* they must be alike"):
        write_index(folder, files)
    write_embeddings(shard_path(folder, 3), VECTORS[:2])
    with pytest.raises(ValueError, match=r"shard-00003.* they must be alike"):
        write_index(folder, files)
    with pytest.raises(ValueError, match="no shards"):
        write_index(folder, [])


def test_a_join_into_another_kind_of_file_or_no_folder_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match=r"joined to a \.npy file"):
        join_shards(folder, tmp_path / "all.npz")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        join_shards(folder, tmp_path / "nowhere" / "all.npy")
