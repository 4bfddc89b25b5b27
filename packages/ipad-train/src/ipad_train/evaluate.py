"""Retrieval quality of a model on a split, as the field measures it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from ipad_core import IPAD, AttributeEmbedder
from ipad_data import AttributeSchema
from ipad_data.random_ranking import expected_random_map
from ipad_rerank import FeatureReasoning, rank
from ipad_rerank.metrics import average_precision, retrieval_average_precision
from ipad_train.config import RunConfig
from ipad_train.data import RunData
from ipad_train.embed import EntryEmbeddings, embed_split

BRANCH_NAMES = {"spatial": "IP-SP", "semantic": "IP-SE", "fused": "fused"}


def evaluate_split(
    model: AttributeEmbedder,
    data: RunData,
    split: str,
    config: RunConfig,
    accelerator: Accelerator,
    *,
    max_queries: int | None = None,
    embedded: EntryEmbeddings | None = None,
) -> dict[str, Any]:
    """MAP in percent of every branch of a model, per attribute and over all queries.

    For each attribute, queries are ranked against that attribute's gallery by cosine similarity; relevant is the same
    value; AP is over the full ranking, and 0 for a query without a relevant item. ``overall`` is the mean over all
    queries, ``macro`` the mean of the attributes. Unreadable images are an error here whatever ``data.on_error`` says:
    a gallery that quietly shrinks flatters.

    Args:
        max_queries: See :func:`some_queries`.
        embedded: The split's embeddings by this model, where they are at hand.

    Returns:
        ``{"split", "rows": [{"name", "overall", "macro", "attributes"}], "queries", "localization"}``, equal on
        all processes; ``localization`` is the share of entries whose attention peak lies in the attribute's true box,
        where the dataset has boxes.

    Raises:
        ValueError: unknown split.
    """
    if split not in data.splits:
        raise ValueError(f"split must be one of {', '.join(data.splits)}, got {split!r}")
    dataset = data.splits[split]
    if embedded is None:
        embedded = embed_split(model, dataset, config.data, accelerator, description=f"embedding {split}")
    query, gallery = some_queries(embedded, max_queries), embedded.with_role("gallery")
    rows = [_random_row(dataset, data.schema)]
    names = ["fused"] if embedded.semantic is None else ["spatial", "semantic", "fused"]
    for name in names:
        title = BRANCH_NAMES[name] if embedded.semantic is not None else _single_name(model)
        rows.append(_row(title, _precisions(query, gallery, name), query, data.schema))
    return {
        "split": split,
        "queries": len(query.value_ids),
        "rows": rows,
        "localization": localization(embedded, dataset, data.schema),
    }


def some_queries(embedded: EntryEmbeddings, most: int | None) -> EntryEmbeddings:
    """The queries of a split; of more than ``most``, so many: the first in a seeded order, equal for all models."""
    query = embedded.with_role("query")
    if most is None or len(query.value_ids) <= most:
        return query
    return query.select(np.random.default_rng(0).permutation(len(query.value_ids))[:most])


def reasoned_row(
    reasoner: FeatureReasoning, embedded: EntryEmbeddings, schema: AttributeSchema, name: str
) -> dict[str, Any]:
    """The row of a split's fused embeddings after re-ranking, attribute by attribute, over the full ranking.

    Galleries unlike any that the reasoner was fitted on keep their ranking, with a warning.
    """
    query, gallery = embedded.with_role("query"), embedded.with_role("gallery")
    precisions = np.zeros(len(query.value_ids))
    for attribute in np.unique(query.attribute_ids):
        mine, theirs = query.attribute_ids == attribute, gallery.attribute_ids == attribute
        ranking = reasoner.rerank(
            query.fused[mine], gallery.fused[theirs], rank(query.fused[mine], gallery.fused[theirs]), progress=False,
            on_unfamiliar="fallback",
        )  # fmt: skip
        precisions[mine] = average_precision(ranking, query.value_ids[mine], gallery.value_ids[theirs])
    return _row(name, precisions, query, schema)


BETA_STEPS = 20


def choose_beta(model: IPAD, embedded: EntryEmbeddings, max_queries: int | None = None) -> float:
    """The fusion weight of Eq. 21 with the best MAP on these (validation) entries, over 0, 0.05, ..., 1.

    Both ends are tried, so what is fused is never below the better branch here.
    """
    query, gallery = some_queries(embedded, max_queries), embedded.with_role("gallery")
    scores = {}
    for beta in (step / BETA_STEPS for step in range(BETA_STEPS + 1)):
        fused = [with_beta(model, entries, beta) for entries in (query, gallery)]
        scores[beta] = float(_precisions(*fused, "fused").mean())
    return max(scores, key=scores.get)


def with_beta(model: IPAD, embedded: EntryEmbeddings, beta: float) -> EntryEmbeddings:
    """The same entries fused with another weight."""
    spatial, semantic = torch.from_numpy(embedded.spatial), torch.from_numpy(embedded.semantic)
    return replace(embedded, fused=model.fuse(spatial, semantic, beta).numpy())


def localization(embedded: EntryEmbeddings, dataset, schema: AttributeSchema) -> dict[str, float] | None:
    """Share of entries, in percent, whose attention peak lies in one of the attribute's true boxes."""
    if embedded.peak is None or "boxes" not in dataset.column_names:
        return None
    rows = dataset.select_columns(["image_id", "attribute_ids", "boxes"]).with_format(None)
    boxes = {
        (row["image_id"], attribute): np.asarray(box, dtype=np.float32).reshape(-1, 4)
        for row in rows
        for attribute, box in zip(row["attribute_ids"], row["boxes"], strict=True)
    }
    hits = np.zeros(len(embedded.peak), dtype=bool)
    for i, (x, y) in enumerate(embedded.peak):
        box = boxes[int(embedded.image_ids[i]), int(embedded.attribute_ids[i])]
        hits[i] = bool(((box[:, 0] <= x) & (x <= box[:, 2]) & (box[:, 1] <= y) & (y <= box[:, 3])).any())
    shares = {
        name: 100 * float(hits[embedded.attribute_ids == i].mean())
        for i, name in enumerate(schema.attributes)
        if (embedded.attribute_ids == i).any()
    }
    return {**shares, "overall": 100 * float(hits.mean())}


def map_table(results: dict[str, Any], title: str = "MAP, %") -> str:
    """Results as a plain-text (and Markdown) table."""
    attributes = list(results["rows"][0]["attributes"])
    header = [title, *attributes, "overall"]
    lines = [header] + [
        [
            row["name"],
            *(f"{row['attributes'].get(name, float('nan')):.2f}" for name in attributes),
            f"{row['overall']:.2f}",
        ]
        for row in results["rows"]
    ]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    if results.get("localization"):
        text.append(f"attention peak in the true box: {results['localization']['overall']:.1f} % of entries")
    return "\n".join(text)


def _precisions(query: EntryEmbeddings, gallery: EntryEmbeddings, name: str) -> np.ndarray:
    return np.asarray(
        retrieval_average_precision(
            getattr(query, name), getattr(gallery, name), query.value_ids, gallery.value_ids, query.attribute_ids,
            gallery.attribute_ids, progress=False,
        )
    )  # fmt: skip


def _row(name: str, precisions: np.ndarray, query: EntryEmbeddings, schema: AttributeSchema) -> dict[str, Any]:
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
    }


def _random_row(dataset, schema: AttributeSchema) -> dict[str, Any]:
    expected = expected_random_map(dataset, schema)
    attributes = {name: 100 * value for name, value in expected.per_attribute.items()}
    return {
        "name": "random",
        "overall": 100 * expected.overall,
        "macro": float(np.mean(list(attributes.values()))),
        "attributes": attributes,
    }


def _single_name(model: AttributeEmbedder) -> str:
    names = {"ipad": "IP-SP", "attribute_classifier": "stage 0 alone", "triplet": "triplet", "csn": "CSN mask"}
    return names.get(model.architecture, model.architecture)
