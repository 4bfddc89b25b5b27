"""The end of a run: which stage's model it delivers, and whether re-ranking helps it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from ipad_core import AttributeEmbedder
from ipad_rerank import FeatureReasoning
from ipad_train.best_models import BestModels
from ipad_train.chance import describe_stuck, stuck_attributes
from ipad_train.checkpoint import replace_folder, write_json
from ipad_train.config import RunConfig
from ipad_train.data import RunData
from ipad_train.embed import EntryEmbeddings, embed_split
from ipad_train.evaluate import choose_beta, evaluate_split, map_table, reasoned_row, with_beta
from ipad_train.kept_crops import kept_inputs
from ipad_train.kept_maps import forget_maps
from ipad_train.model_facts import describe_delivered, model_facts
from ipad_train.reranking import embed_fit_split, fit_reasoner
from ipad_train.run_results import final_row, join_stages
from ipad_train.value_centers import embed_for_centers, fit_centers


def finish_run(
    run_dir: Path, config: RunConfig, data: RunData, best: BestModels, accelerator: Accelerator,
    announce: Callable[[str], None], notes: Iterable[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """Judge every stage on all of validation, deliver the best, fit its re-ranking, write ``validation.json``.

    Beside the delivered model lie the centers of its values, by which a catalogue names what a photo shows.

    Args:
        notes: What the user had to know when the run started, repeated among the ``warnings``.

    Returns:
        As :func:`ipad_train.run_results.evaluate_stages`; and ``stages`` (score and step of each), ``rerank`` (``used``,
        MAP ``before`` and ``after``; None where it is switched off), ``warnings``, and the ``stuck`` attributes.
    """
    evaluated: dict[str, dict[str, Any]] = {}
    highest = -1.0
    for name in best.scores:
        model = AttributeEmbedder.from_pretrained(run_dir / "stages" / name).to(accelerator.device)
        embedded = embed_validation(model, data, config, accelerator)
        evaluated[name] = evaluate_split(model, data, "validation", config, accelerator, embedded=embedded)
        if embedded.semantic is not None:
            announce(f"beta = {model.beta:.2f}, chosen on validation")
        overall = evaluated[name]["rows"][-1]["overall"]
        best.replace(name, overall, model)
        if overall > highest:
            highest, chosen, validation = overall, model, embedded
    best.deliver(best.stage)
    accelerator.wait_for_everyone()
    reasoner, outcome, train = None, None, None
    if config.rerank.enabled:
        embedded = embed_fit_split(chosen, data, config, accelerator, validation)
        reasoner, outcome = _fit_reasoner(run_dir, config, data, accelerator, embedded, validation, highest)
        train = embedded if config.rerank.fit_split == "train" else None
    if train is None:
        train = embed_for_centers(chosen, data.splits["train"], config.data, accelerator)
    centers = fit_centers(train, validation, data.schema.num_values)
    refused = outcome is not None and reasoner is None
    results = join_stages(evaluated, best.stage, validation, data, reasoner, refused)
    results |= {"stages": best.scores, "rerank": outcome}
    final, random = final_row(results)["attributes"], results["rows"][0]["attributes"]
    stuck = describe_stuck(final, random)
    results["stuck"] = stuck_attributes(final, random)
    setbacks = [line for line in map(best.setback, best.scores) if line]
    results["warnings"] = [*(line.removeprefix("WARNING: ") for line in notes), *setbacks]
    if accelerator.is_main_process:
        describe_delivered(run_dir, model_facts(run_dir, config, data, results))
        centers.save(run_dir / "best")
        write_json(run_dir / "validation.json", results)
        forget_maps(config)
    announce(map_table(results, title="validation MAP, %"))
    if refused:
        announce(f"re-ranking is not used: it takes validation MAP from {highest:.2f} to {outcome['after']:.2f} %")
    announce(f"best/ holds the model of {best.stage}; the run delivers: {results['final']}")
    for line in setbacks:
        announce(f"WARNING: {line}")
    for line in stuck:
        announce(line)
    return results


def embed_validation(
    model: AttributeEmbedder,
    data: RunData,
    config: RunConfig,
    accelerator: Accelerator,
    max_queries: int | None = None,
) -> EntryEmbeddings:
    """Embeddings of validation; two branches are fused with the beta that suits them, which the model keeps.

    ``max_queries`` limits those that choose it.
    """
    split = data.splits["validation"]
    kept = kept_inputs(model, data, "validation", config, accelerator)
    embedded = embed_split(model, split, config.data, accelerator, description="embedding validation", **kept)
    if embedded.semantic is None:
        return embedded
    model.beta = choose_beta(model, embedded, max_queries)
    return with_beta(model, embedded, model.beta)


def _fit_reasoner(
    run_dir: Path, config: RunConfig, data: RunData, accelerator: Accelerator, embedded: EntryEmbeddings,
    validation: EntryEmbeddings, before: float,
) -> tuple[FeatureReasoning | None, dict[str, Any]]:  # fmt: skip
    """The reasoner where it raises validation MAP, which is then kept in ``reasoner``; and what it came to."""
    reasoner = fit_reasoner(embedded, config, accelerator)
    after = reasoned_row(reasoner, validation, data.schema, "FR")["overall"]
    helps = not reasoner.is_identity and after > before
    if accelerator.is_main_process:
        shutil.rmtree(run_dir / "reasoner", ignore_errors=True)
        if helps:
            replace_folder(run_dir / "reasoner", reasoner.save_pretrained)
    accelerator.wait_for_everyone()
    return reasoner if helps else None, {"used": helps, "before": before, "after": after}
