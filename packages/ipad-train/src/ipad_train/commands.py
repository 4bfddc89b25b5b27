"""What the commands beside ``train`` do with a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ipad_core import AttributeEmbedder
from ipad_rerank import write_embeddings
from ipad_train.checkpoint import write_json
from ipad_train.data import load_data
from ipad_train.embed import embed_split
from ipad_train.evaluate import evaluate_split, map_table
from ipad_train.launch import make_accelerator
from ipad_train.reranking import load_reasoner
from ipad_train.training import load_run_config


def evaluate_run(
    run_dir: Path, split: str, overrides: Iterable[str], announce: Callable[[str], None]
) -> dict[str, Any]:
    """Evaluate a run's best model on a split; writes ``evaluation-SPLIT.json`` and ``.md`` into the run.

    Raises:
        FileNotFoundError: the folder is no run, or holds no model yet.
    """
    config = load_run_config(run_dir, overrides)
    accelerator = make_accelerator(config)
    with accelerator.main_process_first():
        data = load_data(config.data)
    model = AttributeEmbedder.from_pretrained(run_dir / "best").to(accelerator.device)
    results = evaluate_split(model, data, split, config, accelerator, reasoner=load_reasoner(run_dir))
    if accelerator.is_main_process:
        table = map_table(results, title=f"{split} MAP, %")
        write_json(run_dir / f"evaluation-{split}.json", results)
        (run_dir / f"evaluation-{split}.md").write_text(table + "\n", encoding="utf-8")
        announce(table)
    return results


def embed_run(
    run_dir: Path, split: str, out: Path, branch: str, overrides: Iterable[str], announce: Callable[[str], None]
) -> None:
    """Write the embeddings of a split as a file that ``ipad-rerank`` reads.

    Labels are flat value ids, group ids are attribute ids; roles are 0 train, 1 query, 2 gallery.

    Raises:
        FileNotFoundError: the folder is no run, or holds no model yet.
        ValueError: unknown split, or a branch that the model does not have.
    """
    config = load_run_config(run_dir, overrides)
    accelerator = make_accelerator(config)
    with accelerator.main_process_first():
        data = load_data(config.data)
    if split not in data.splits:
        raise ValueError(f"split must be one of {', '.join(data.splits)}, got {split!r}")
    model = AttributeEmbedder.from_pretrained(run_dir / "best").to(accelerator.device)
    roles = ("train",) if split == "train" else ("query", "gallery")
    options = {"branches": "spatial"} if branch == "spatial" and hasattr(model, "spatial") else {}  # no crops
    embedded = embed_split(model, data.splits[split], config.data, accelerator, roles=roles, **options)
    vectors = getattr(embedded, branch)
    if vectors is None:
        raise ValueError(f"branch must be one that the model has: it has no {branch!r} branch")
    if accelerator.is_main_process:
        write_embeddings(
            out,
            vectors.astype(np.float32),
            labels=embedded.value_ids,
            group_ids=embedded.attribute_ids,
            ids=embedded.image_ids,
            roles=embedded.roles,
            metadata={"run": run_dir.name, "split": split, "branch": branch},
        )
        announce(f"{out}: {len(vectors)} embeddings of {vectors.shape[1]} numbers")
