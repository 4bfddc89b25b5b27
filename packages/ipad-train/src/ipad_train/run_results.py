"""Retrieval quality of everything that a run trained: every stage, and what it delivers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ipad_core import AttributeEmbedder
from ipad_train.data import RunData
from ipad_train.embed import EntryEmbeddings
from ipad_train.evaluate import embed_kept_split, evaluate_split, reranked_row
from ipad_train.reranking import RunReranking, load_reranking
from ipad_train.run_context import RunContext
from ipad_train.run_folder import RunFolder

NOT_USED = " (not used)"  # behind the name of a re-ranking that did not raise validation MAP


def evaluate_stages(run_dir: Path, context: RunContext, split: str, keep_precisions: bool = False) -> dict[str, Any]:
    """MAP of every stage's best model on a split, and of what the run delivers, re-ranked as it does.

    Returns:
        As :func:`evaluate_split`, with the rows of all stages, and ``delivered`` (the row of ``best``) and ``final`` (the
        same with re-ranking, where there is one). ``localization`` is that of ``best``, or of the last stage that has any.

    Raises:
        FileNotFoundError: the run has no model yet.
        ValueError: unknown split.
    """
    context.data.split(split)  # before the models are read
    folder = RunFolder(run_dir)
    chosen = folder.delivered_stage()
    folders = folder.trained_stages() if chosen else {}
    if chosen not in folders:
        folders, chosen = {"best": folder.best}, "best"
    evaluated = {}
    for name, path in folders.items():
        model = AttributeEmbedder.from_pretrained(path).to(context.accelerator.device)
        embedded = embed_kept_split(model, context, split)
        evaluated[name] = evaluate_split(model, context, split, embedded=embedded, keep_precisions=keep_precisions)
        if name == chosen:
            delivered = embedded
    return join_stages(evaluated, chosen, delivered, context.data, load_reranking(run_dir), keep_precisions)


def join_stages(
    evaluated: dict[str, dict[str, Any]],
    chosen: str,
    delivered: EntryEmbeddings,
    data: RunData,
    reranking: RunReranking,
    keep_precisions: bool = False,
) -> dict[str, Any]:
    """One table of the evaluations of a run's stages.

    IP-SP has a second row, as stage 1 left it, where stage 2 changed it.

    Args:
        evaluated: By stage, in order, what :func:`evaluate_split` answers.
        chosen: The stage that is delivered.
        delivered: Embeddings of the split by its model.
        reranking: How they are re-ranked; where something was tried and refused, its row equals the one before.
        keep_precisions: See :func:`evaluate_split`.
    """
    names = list(evaluated)
    rows = evaluated[names[0]]["rows"][:1]
    titles = {}
    for name in names:
        mine = [dict(row) for row in evaluated[name]["rows"][1:]]
        for row in mine:
            same = next((other for other in rows if other["name"] == row["name"]), None)
            if same is not None and _shown(same) != _shown(row):
                same["name"] += " after stage 1"
            elif same is not None:
                rows = [other for other in rows if other is not same]
            rows.append(row)
        titles[name] = mine[-1]
    row = final = titles[chosen]
    name = f"{row['name']} + {reranking.name}"
    if reranking.reranker is not None:
        final = reranked_row(reranking.reranker, delivered, data.schema, name, keep_precisions)
    elif reranking.refused:
        final = {**row, "name": f"{name}{NOT_USED}"}
    if final is not row:
        rows.append(final)
    attending = [results for results in evaluated.values() if results["localization"]] or [evaluated[chosen]]
    located = evaluated[chosen] if evaluated[chosen]["localization"] else attending[-1]
    return {**located, "rows": rows, "delivered": row["name"], "final": final["name"]}


def _shown(row: dict[str, Any]) -> dict[str, str]:
    """A row as a table shows it: a frozen branch differs from itself by rounding only."""
    return {name: f"{value:.2f}" for name, value in row["attributes"].items()}


def final_row(results: dict[str, Any]) -> dict[str, Any]:
    """The row of what a run delivers, re-ranked where that is done."""
    named = [row for row in results["rows"] if row["name"] == results.get("final")]
    return named[-1] if named else results["rows"][-1]
