"""Against a real Milvus Lite, where it is installed."""

import numpy as np
import pytest
import torch

from ipad_rerank import FeatureReasoning, rank
from ipad_rerank.adapters import MilvusSearch
from ipad_rerank.rerankers.query_expansion import AlphaQueryExpansion

pymilvus = pytest.importorskip("pymilvus")
pytest.importorskip("milvus_lite")

RERANKER = AlphaQueryExpansion(k=5, restrict_to=20)


@pytest.fixture(scope="module")
def vectors():
    return np.random.default_rng(0).normal(size=(120, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def search(vectors, tmp_path_factory):
    search = MilvusSearch("photos", tmp_path_factory.mktemp("milvus") / "photos.db")
    payload = [{"path": f"{row}.jpg", "price": row} for row in range(120)]
    search.add(vectors[:70], np.arange(70), payload[:70])
    search.add(vectors[70:], range(70, 120), payload[70:])
    yield search
    search.client.close()


def test_ids_and_payload_come_in_the_order_of_the_reranker(search, vectors):
    ranking = rank(vectors[:4], vectors, k=20)
    expected = RERANKER.rerank(vectors[:4], vectors, ranking)
    found = search(vectors[:4], k=20, reranker=RERANKER)
    for hits, rows, scores in zip(found, expected.indices, expected.scores, strict=True):
        assert [hit.id for hit in hits] == rows.tolist()
        assert [hit.payload["path"] for hit in hits] == [f"{row}.jpg" for row in rows]
        assert "vector" not in hits[0].payload
        np.testing.assert_allclose([hit.score for hit in hits], scores, atol=1e-5)


def test_options_reach_the_engine(search, vectors):
    found = search(vectors[:2], 20, RERANKER, limit=3, payload_fields=["price"], filter="price >= 60")
    assert all(hit.payload["price"] >= 60 for hits in found for hit in hits)
    assert all("path" not in hit.payload for hits in found for hit in hits)
    assert [len(hits) for hits in found] == [3, 3]


def test_fewer_hits_than_k(search, vectors):
    assert [len(hits) for hits in search(vectors[:2], 500, RERANKER)] == [120, 120]
    assert search(vectors[:1], 5, RERANKER, filter="price < 0") == [[]]


def test_feature_reasoning(search, vectors):
    assert search(vectors[:2], 30, FeatureReasoning(n_r=8), limit=1)[1][0].id == 1


def test_the_same_file_and_client_again(search, vectors):
    again = MilvusSearch("photos", client=search.client)
    assert again(vectors[:2], 9, RERANKER) == search(vectors[:2], 9, RERANKER)


def test_a_collection_that_another_program_made(search, vectors):
    schema = search.client.create_schema(auto_id=False)
    schema.add_field("sku", pymilvus.DataType.VARCHAR, is_primary=True, max_length=20)
    schema.add_field("clip", pymilvus.DataType.FLOAT_VECTOR, dim=16)
    schema.add_field("price", pymilvus.DataType.INT64)
    index = search.client.prepare_index_params()
    index.add_index("clip", index_type="FLAT", metric_type="L2")
    search.client.create_collection("theirs", schema=schema, index_params=index)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = [{"sku": f"s{row}", "clip": unit[row].tolist(), "price": row} for row in range(120)]
    search.client.insert("theirs", rows)
    found = MilvusSearch("theirs", client=search.client)(torch.from_numpy(vectors[:3]), 20, RERANKER)
    expected = RERANKER.rerank(vectors[:3], vectors, rank(vectors[:3], vectors, k=20))
    assert [[hit.id for hit in hits] for hits in found] == [[f"s{row}" for row in rows] for rows in expected.indices]
    assert [hit.payload["price"] for hit in found[0]] == expected.indices[0].tolist()


def test_names_as_ids(search, vectors):
    named = MilvusSearch("named", client=search.client)
    named.add(vectors, [f"item {row}" for row in range(120)])
    assert named(vectors[7:8], 5, RERANKER)[0][0].id == "item 7"


def test_bad_input(search, vectors):
    with pytest.raises(ValueError, match="payload_fields: no hit has pathh; there are id, vector"):
        search(vectors[:2], 5, RERANKER, payload_fields=["pathh"])
    with pytest.raises(TypeError, match="name the other fields in payload_fields"):
        search(vectors[:2], 5, RERANKER, output_fields=["path"])
    with pytest.raises(ValueError, match=r"collection 'photo' does not exist; there are: .*photos"):
        MilvusSearch("photo", client=search.client)(vectors[:1], 5, RERANKER)
    with pytest.raises(ValueError, match="query has 8 dimensions, the engine's collection has 16"):
        search(np.ones((1, 8)), 5, RERANKER)
    with pytest.raises(ValueError, match="vector_field must be a float vector field"):
        MilvusSearch("photos", client=search.client, vector_field="price")(vectors[:1], 5, RERANKER)
    with pytest.raises(ValueError, match="ids has 3 entries, vectors has 120 rows"):
        search.add(vectors, [1, 2, 3])
    with pytest.raises(ValueError, match="query has NaN"):
        search(np.full((1, 16), np.nan), 5, RERANKER)
    with pytest.raises(ValueError, match="limit must be at least 1"):
        search(vectors[:1], 5, RERANKER, limit=0)
    with pytest.raises(TypeError, match="reranker must have a method rerank_candidates"):
        search(vectors[:1], 5, rank)
    with pytest.raises(ValueError, match="k must be at least 1"):
        search(vectors[:1], 0, RERANKER)
