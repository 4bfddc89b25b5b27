"""Retrieval quality of a model on a split, as the field measures it."""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np
import torch
from accelerate import Accelerator

from ipad_core import AttributeEmbedder
from ipad_data import AttributeSchema
from ipad_data.random_ranking import expected_random_map
from ipad_rerank import Ranking, rank
from ipad_rerank.metrics import average_precision, hit_rate_at_k, retrieval_average_precision
from ipad_rerank.rerankers.base import BaseReranker
from ipad_train.distributed import gather_entries
from ipad_train.embed import EntryEmbeddings, embed_split
from ipad_train.kept_maps import kept_split
from ipad_train.localization import localization, random_localization
from ipad_train.run_context import RunContext

_QUERIES, _BLOCK_BYTES = 512, 2**29  # at most of a block
_ITEM_BYTES = 40  # that one item of the gallery takes for each query of a block: score, sort key, class, place
VALUES = " + values"  # behind a row's name: with probabilities of values in the embedding
BRANCH_NAMES = {"spatial": "IP-SP", "semantic": "IP-SE", "fused": "fused"}


def evaluate_split(
    model: AttributeEmbedder,
    context: RunContext,
    split: str,
    *,
    max_queries: int | None = None,
    embedded: EntryEmbeddings | None = None,
    keep_precisions: bool = False,
) -> dict[str, Any]:
    """MAP in percent of every branch of a model, per attribute and over all queries.

    For each attribute, queries are ranked against that attribute's gallery by cosine similarity; relevant is the same
    value; AP is over the full ranking, and 0 for a query without a relevant item. ``overall`` is the mean over all
    queries, ``macro`` the mean of the attributes. Under ``data.on_error=skip`` unreadable images are left out, with a
    warning.

    Args:
        max_queries: See :func:`some_queries`.
        embedded: The split's embeddings by this model, where they are at hand.
        keep_precisions: Rows but the first hold ``precisions (Q,)``, the AP of each query in [0, 1], as well.

    Returns:
        ``{"split", "rows": [{"name", "overall", "macro", "attributes"}], "queries", "localization",
        "random_localization"}``, equal on all processes; the last two are the share of entries whose attention peak lies in
        the attribute's true box, where the dataset has boxes, and that of random points.

    Raises:
        ValueError: unknown split, or none of its queries can be read.
    """
    dataset, schema, accelerator = context.data.split(split), context.data.schema, context.accelerator
    if embedded is None:
        embedded = embed_kept_split(model, context, split)
    query, gallery = some_queries(embedded, max_queries), embedded.with_role("gallery")
    if not len(query.value_ids):
        raise ValueError(f"no query of the split {split!r} can be read, so there is nothing to evaluate")
    rows = [random_row(dataset, schema)]
    whole = "fused" if embedded.plain is None else "plain"
    titles = {whole: _single_name(model)}
    if embedded.semantic is not None:
        titles = {
            "spatial": BRANCH_NAMES["spatial"],
            "semantic": BRANCH_NAMES["semantic"],
            whole: BRANCH_NAMES["fused"],
        }
    if embedded.plain is not None:
        titles["fused"] = titles[whole] + VALUES
    for name, title in titles.items():
        rows.append(_row(title, query_precisions(query, gallery, name, accelerator), query, schema, keep_precisions))
    return {
        "split": split,
        "queries": len(query.value_ids),
        "rows": rows,
        "localization": localization(embedded, dataset, schema),
        "random_localization": random_localization(embedded, dataset, schema),
    }


def embed_kept_split(model: AttributeEmbedder, context: RunContext, split: str) -> EntryEmbeddings:
    """Embeddings of a split, from the maps of its trunk where several runs share them."""
    maps = kept_split(model, context, split)
    return embed_split(
        model,
        context.data.split(split),
        context.config.data,
        context.accelerator,
        description=f"embedding {split}",
        maps=maps,
    )


def some_queries(embedded: EntryEmbeddings, most: int | None) -> EntryEmbeddings:
    """The queries of a split; of more than ``most``, so many: the first in a seeded order, equal for all models."""
    query = embedded.with_role("query")
    if most is None or len(query.value_ids) <= most:
        return query
    return query.select(np.random.default_rng(0).permutation(len(query.value_ids))[:most])


def reranked_row(
    reranker: BaseReranker,
    embedded: EntryEmbeddings,
    schema: AttributeSchema,
    name: str,
    keep_precisions: bool = False,
) -> dict[str, Any]:
    """The row of a split's fused embeddings after re-ranking, attribute by attribute, over the full ranking."""
    precisions, _ = reranked_precisions(reranker, embedded)
    return _row(name, precisions, embedded.with_role("query"), schema, keep_precisions)


def reranked_precisions(reranker: BaseReranker | None, embedded: EntryEmbeddings) -> tuple[np.ndarray, np.ndarray]:
    """``(Q,)`` AP of every query after re-ranking, in [0, 1], and P@1: 1 where the first answer is right."""
    query, gallery = embedded.with_role("query"), embedded.with_role("gallery")
    precisions, first = np.zeros(len(query.value_ids)), np.zeros(len(query.value_ids))
    for attribute in np.unique(query.attribute_ids):
        mine, theirs = query.attribute_ids == attribute, gallery.attribute_ids == attribute
        if theirs.any():
            _, ranking = rank_twice(reranker, query.fused[mine], gallery.fused[theirs])
            labels = query.value_ids[mine], gallery.value_ids[theirs]
            precisions[mine], first[mine] = average_precision(ranking, *labels), hit_rate_at_k(ranking, *labels, k=1)
    return precisions, first


def rank_twice(reranker: BaseReranker | None, query: np.ndarray, gallery: np.ndarray) -> tuple[Ranking, Ranking]:
    """The full rankings of one attribute's queries before and after re-ranking; equal where there is no re-ranker.

    A gallery unlike any that it was fitted on keeps its ranking, with a warning. Evaluation and report both come here, so
    that the page shows what the table counts.

    Shape:
        query ``(Q, D)``, gallery ``(G, D)``.
    """
    before = rank(query, gallery)
    if reranker is None:
        return before, before
    return before, reranker.rerank(query, gallery, before, progress=False, on_unfamiliar="fallback")


def mean_precision(embedded: EntryEmbeddings, max_queries: int | None = None) -> float:
    """Mean AP of a split's fused embeddings, in [0, 1]."""
    return float(query_precisions(some_queries(embedded, max_queries), embedded.with_role("gallery"), "fused").mean())


def query_precisions(
    query: EntryEmbeddings, gallery: EntryEmbeddings, name: str, accelerator: Accelerator | None = None
) -> np.ndarray:
    """AP of every query by one kind of embedding; each process ranks its share of them, where an accelerator is given.

    Queries of one attribute are ranked in blocks, and processes share whole blocks. So each similarity comes from the same
    product of two matrices whatever the number of processes, and is the same to the bit.
    """
    count, rank = (1, 0) if accelerator is None else (accelerator.num_processes, accelerator.process_index)
    size = _block_size(gallery.attribute_ids)
    blocks = _blocks(query.attribute_ids, size)[rank::count]
    mine = np.concatenate([np.zeros(0, dtype=np.int64), *blocks])
    found = np.zeros(0)
    if len(mine):
        found = retrieval_average_precision(
            getattr(query, name)[mine],
            getattr(gallery, name),
            query.value_ids[mine],
            gallery.value_ids,
            query.attribute_ids[mine],
            gallery.attribute_ids,
            batch_size=size,
            progress=False,
        )
    if count > 1:
        shares = [torch.as_tensor(array, device=accelerator.device) for array in (mine, np.asarray(found))]
        mine, found = (array.cpu().numpy() for array in gather_entries(*shares))
    precisions = np.zeros(len(query.value_ids))
    precisions[mine] = found
    return precisions


def _block_size(gallery_attributes: np.ndarray) -> int:
    """Queries that are ranked together: so many that neither time nor memory depends on it, whatever memory is free."""
    largest = max(1, int(np.bincount(gallery_attributes, minlength=1).max()))
    return max(1, min(_QUERIES, _BLOCK_BYTES // (_ITEM_BYTES * largest)))


def _blocks(attributes: np.ndarray, size: int) -> list[np.ndarray]:
    """Positions of the entries, attribute by attribute, in blocks of ``size``; an attribute's last may be shorter."""
    of_attribute = [np.flatnonzero(attributes == attribute) for attribute in np.unique(attributes)]
    return [rows[start : start + size] for rows in of_attribute for start in range(0, len(rows), size)]


def _row(
    name: str, precisions: np.ndarray, query: EntryEmbeddings, schema: AttributeSchema, keep_precisions: bool = False
) -> dict[str, Any]:
    attributes = {
        attribute: 100 * float(precisions[query.attribute_ids == i].mean())
        for i, attribute in enumerate(schema.attributes)
        if (query.attribute_ids == i).any()
    }
    return {
        "name": name,
        "overall": 100 * float(precisions.mean()),
        "macro": float(np.mean(list(attributes.values()))),
        "attributes": attributes,
        **({"precisions": precisions} if keep_precisions else {}),
    }


def random_row(dataset: datasets.Dataset, schema: AttributeSchema) -> dict[str, Any]:
    """The expected MAP of a random ranking of a split, percent."""
    expected = expected_random_map(dataset, schema)
    attributes = {name: 100 * value for name, value in expected.per_attribute.items()}
    return {
        "name": "random",
        "overall": 100 * expected.overall,
        "macro": float(np.mean(list(attributes.values()))),
        "attributes": attributes,
    }


def _single_name(model: AttributeEmbedder) -> str:
    if model.architecture == "lens" and not model.is_fitted:
        return "frozen trunk"
    names = {"ipad": "IP-SP", "attribute_classifier": "stage 0 alone", "triplet": "triplet", "csn": "CSN mask"}
    return names.get(model.architecture, model.architecture)
