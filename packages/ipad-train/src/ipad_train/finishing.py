"""The end of a run: which stage's model it delivers, and whether re-ranking helps it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ipad_core import AttributeEmbedder
from ipad_train.best_models import BestModels
from ipad_train.chance import describe_stuck, stuck_attributes
from ipad_train.checkpoint import write_json
from ipad_train.config import RunConfig
from ipad_train.embed import EntryEmbeddings, embed_split
from ipad_train.evaluate import evaluate_split
from ipad_train.fusion_weight import choose_beta, with_beta
from ipad_train.kept_crops import kept_inputs
from ipad_train.kept_maps import forget_maps
from ipad_train.launch import made_with
from ipad_train.model_facts import describe_delivered, model_facts
from ipad_train.reranking import RunReranking, choose_reranking
from ipad_train.result_tables import map_table
from ipad_train.run_context import RunContext
from ipad_train.run_folder import RunFolder
from ipad_train.run_results import final_row, join_stages
from ipad_train.value_centers import embed_for_centers, fit_centers
from ipad_train.values import fit_values, with_values


def finish_run(context: RunContext, best: BestModels, notes: Iterable[str] = ()) -> dict[str, Any]:
    """Judge every stage on all of validation, deliver the best, fit its re-ranking, write ``validation.json``.

    Beside the delivered model lie the centers of its values, by which a catalogue names what a photo shows.

    Args:
        notes: What the user had to know when the run started, repeated among the ``warnings``.

    Returns:
        As :func:`ipad_train.run_results.evaluate_stages`; and ``stages`` (score and step of each), ``values`` and ``rerank``
        (see :func:`choose_reranking`; None where switched off), ``warnings``, the ``stuck`` attributes, and
        ``made_with`` (the ``machine`` and ``versions``).
    """
    config, data, accelerator, announce = context.config, context.data, context.accelerator, context.announce
    run_folder = RunFolder(context.folder)
    evaluated: dict[str, dict[str, Any]] = {}
    highest = -1.0
    for name in best.scores:
        model = AttributeEmbedder.from_pretrained(run_folder.stage(name)).to(accelerator.device)
        model.set_values(None)  # of an earlier end of the run
        embedded = embed_validation(model, context)
        evaluated[name] = evaluate_split(model, context, "validation", embedded=embedded)
        if embedded.semantic is not None:
            announce(f"beta = {model.beta:.2f}, chosen on validation")
        overall = evaluated[name]["rows"][-1]["overall"]
        best.replace(name, overall, model)
        if overall > highest:
            highest, chosen, validation = overall, model, embedded
    setbacks = [line for line in map(best.setback, best.scores) if line]
    train, values = None, None
    if config.values.enabled or (config.rerank.enabled and config.rerank.fit_split == "train"):
        train = embed_training(chosen, context)
    if config.values.enabled:
        train, validation, values = _add_values(chosen, train, validation, config, highest)
        if values["used"]:
            evaluated[best.stage] = evaluate_split(chosen, context, "validation", embedded=validation)
            highest = values["after"]
            best.replace(best.stage, highest, chosen)
    best.deliver(best.stage)
    accelerator.wait_for_everyone()
    reranking, outcome = RunReranking(), None
    if config.rerank.enabled:
        embedded = validation if config.rerank.fit_split == "validation" else train
        reranking, outcome = choose_reranking(context.folder, embedded, validation, config, accelerator)
    if train is None:
        train = embed_for_centers(chosen, data.splits["train"], config.data, accelerator)
    centers = fit_centers(train, validation, data.schema.num_values)
    results = join_stages(evaluated, best.stage, validation, data, reranking)
    results |= {"stages": best.scores, "values": values, "rerank": outcome}
    final, random = final_row(results)["attributes"], results["rows"][0]["attributes"]
    stuck = describe_stuck(final, random)
    results["stuck"] = stuck_attributes(final, random)
    results["made_with"] = made_with(accelerator, config)
    results["warnings"] = [*(line.removeprefix("WARNING: ") for line in notes), *setbacks]
    if accelerator.is_main_process:
        describe_delivered(context.folder, model_facts(context.folder, config, data, results))
        centers.save(run_folder.best)
        write_json(run_folder.validation, results)
        forget_maps(config)
    announce(map_table(results, title="validation MAP, %"))
    if values is not None and not values["used"]:
        announce(
            f"probabilities of values are not used: validation MAP {highest:.2f}, with them {values['after']:.2f} %"
        )
    if reranking.refused:
        why = ", and lowers P@1" if outcome["after"] > outcome["before"] else ""
        announce(
            f"re-ranking is not used: it takes validation MAP from {highest:.2f} to {outcome['after']:.2f} %{why}"
        )
    elif outcome is not None and config.rerank.expand:
        announce(f"re-ranking by {outcome['chosen']}: validation MAP {highest:.2f}, with it {outcome['after']:.2f} %")
    announce(f"best/ holds the model of {best.stage}; the run delivers: {results['final']}")
    for line in setbacks:
        announce(f"WARNING: {line}")
    for line in stuck:
        announce(line)
    return results


def embed_validation(model: AttributeEmbedder, context: RunContext, max_queries: int | None = None) -> EntryEmbeddings:
    """Embeddings of validation; two branches are fused with the beta that suits them, which the model keeps.

    ``max_queries`` limits those that choose it.
    """
    embedded = _embed_kept(model, context, "validation")
    if embedded.semantic is None:
        return embedded
    model.beta = choose_beta(model, embedded, max_queries, context.accelerator)
    return with_beta(model, embedded, model.beta)


def embed_training(model: AttributeEmbedder, context: RunContext) -> EntryEmbeddings:
    """Embeddings of the training entries."""
    return _embed_kept(model, context, "train", roles=("train",))


def _embed_kept(model: AttributeEmbedder, context: RunContext, split: str, **options: Any) -> EntryEmbeddings:
    """Embeddings of a split that training goes through, from what is kept of it."""
    return embed_split(
        model,
        context.data.split(split),
        context.config.data,
        context.accelerator,
        description=f"embedding {split}",
        **kept_inputs(model, context, split),
        **options,
    )


def _add_values(
    model: AttributeEmbedder, train: EntryEmbeddings, validation: EntryEmbeddings, config: RunConfig, before: float
) -> tuple[EntryEmbeddings, EntryEmbeddings, dict[str, Any]]:
    """Give the model probabilities of values where they help; both splits as it then embeds them, and what it came to."""
    fitted, outcome = fit_values(model, train, validation, config.values.max_embeddings, config.seed, before)
    if fitted is None:
        return train, validation, outcome
    model.set_values(fitted)
    return with_values(fitted, train), with_values(fitted, validation), outcome
