"""``write_report``: gather what a run left behind, look at its model, and write one HTML page."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from ipad_core import AttributeEmbedder
from ipad_data import AttributeSchema
from ipad_data.roles import SPLITS
from ipad_train.bootstrap import mean_interval
from ipad_train.chance import STUCK_MEANS, stuck_attributes
from ipad_train.embed import embed_split
from ipad_train.report.attention import attention_examples
from ipad_train.report.curves import method_curves, run_curves
from ipad_train.report.extras import require
from ipad_train.report.failures import attention_misses, confusions, worst_queries
from ipad_train.report.pictures import SplitPictures
from ipad_train.report.rankings import Retrieval, choose_queries, query_row, retrieve
from ipad_train.report.reported_run import ReportedRun, read_run_folder
from ipad_train.report.results_table import results_table, row_meanings
from ipad_train.report.times import time_table
from ipad_train.reranking import load_reranking, spelled_out
from ipad_train.run_context import RunContext
from ipad_train.run_folder import RunFolder
from ipad_train.run_results import NOT_USED, final_row
from ipad_train.tracking import read_metrics, read_timings

_TEMPLATE = "page.html.jinja"


def write_report(
    run_dir: str | Path,
    accelerator: Accelerator | None = None,
    split: str = "test",
    *,
    out: str | Path | None = None,
    overrides: Iterable[str] = (),
    examples: int = 4,
    top: int = 10,
    announce: Callable[[str], None] = print,
) -> Path:
    """Write the report of a run, or of a comparison of several, as one HTML page that needs nothing else.

    The page holds the MAP table, loss and MAP curves, the attention of every iteration over images, queries before and
    after re-ranking, and failures. Pictures are of ``split``; numbers are those that the run saved, of that split where
    it was evaluated. Nothing is trained; the split is embedded once. Images are decoded one by one, those shown only.
    The same run gives the same page.

    Args:
        run_dir: Folder of ``ipad-train train`` or ``compare``.
        accelerator: Device and processes; made from the run's configuration when None. The main process writes.
        split: ``validation`` or ``test``.
        out: File to write; ``report.html`` in ``run_dir`` when None.
        overrides: ``KEY=VALUE`` over the run's configuration, e.g. ``data.dir=elsewhere``.
        examples: Images of each attribute whose attention is shown; fewer where there are many attributes.
        top: Answers shown of each query.
        announce: Receives a line for the user.

    Returns:
        The file.

    Raises:
        FileNotFoundError: ``run_dir`` holds no run, no model or no results yet.
        ImportError: the extra ``ipad-train[report]`` is not installed.
        ValueError: ``split`` is neither of the two or not in the dataset, or results are damaged.
    """
    jinja = require("jinja2")
    require("matplotlib")
    for name, value in (("examples", examples), ("top", top)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if split not in SPLITS[1:]:
        raise ValueError(f"split must be one of {', '.join(SPLITS[1:])}, got {split!r}")
    run = read_run_folder(Path(run_dir), split, overrides)
    context = RunContext.open(run.config, announce, accelerator)
    data, accelerator = context.data, context.accelerator
    if split not in data.splits:
        raise ValueError(f"the dataset has no split {split!r}, only {', '.join(data.splits)}")
    model = AttributeEmbedder.from_pretrained(RunFolder(run.main).best).to(accelerator.device)
    entries = embed_split(model, data.splits[split], run.config.data, accelerator, description=f"embedding {split}")
    path = RunFolder(Path(run_dir)).report if out is None else Path(out)
    if accelerator.is_main_process:
        reranking = load_reranking(run.main)
        retrieval = retrieve(entries.with_role("query"), entries.with_role("gallery"), reranking.reranker, top)
        pictures = SplitPictures(data.splits[split], run.config.data.dir)
        detail = run.config.data.detail_size
        attention = attention_examples(model, pictures, entries, data.schema, detail, run.config.seed, examples)
        shown = [example for of_attribute in attention.values() for example in of_attribute]
        found = _queries(retrieval, pictures, data.schema)
        content = {
            **_numbers(run, model, data.schema, split, found),
            **_curves(run),
            **found,
            "attention": attention,
            "drawn": {"boxes": any(e.hit is not None for e in shown), "crops": any(e.cropped for e in shown)},
            "refused": reranking.refused,
            "method": reranking.chosen and spelled_out(reranking.chosen),
            "misses": attention_misses(model, pictures, entries, data.schema, detail),
        }
        environment = jinja.Environment(
            loader=jinja.FileSystemLoader(Path(__file__).parent),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=jinja.StrictUndefined,
        )
        _write(path, environment.get_template(_TEMPLATE).render(content))
        announce(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    accelerator.wait_for_everyone()
    return path


def _numbers(
    run: ReportedRun, model: AttributeEmbedder, schema: AttributeSchema, split: str, found: dict[str, Any]
) -> dict[str, Any]:
    """The table, and the facts that stand above it."""
    results = run.results
    final = final_row(results)
    beta = results.get("beta", getattr(model, "beta", None) if "semantic" in model.branches else None)
    name = results["delivered"] if final["name"].endswith(NOT_USED) else final["name"]
    facts = {
        f"{results['split']} MAP of {name}": f"{final['overall']:.2f} %",
        "random ranking": f"{results['rows'][0]['overall']:.2f} %",
    }
    same = results["split"] == split and abs(found["map_after"] - final["overall"]) < 0.05
    if same and found["interval"]:
        facts["95 % interval of that MAP"] = "{:.2f} to {:.2f} %".format(*found["interval"])
    if located := results.get("localization"):
        facts["attention peak in the true box"] = f"{located['overall']:.1f} %"
    facts["queries"] = str(results["queries"])
    if beta is not None:
        facts["beta (share of IP-SP)"] = f"{beta:.2f}"
    seeds = results.get("seeds") or [results.get("seed", run.config.seed)]
    facts["seeds" if len(seeds) > 1 else "seed"] = ", ".join(map(str, seeds))
    if "device" in results:
        facts["device"] = results["device"]
    if "seconds" in results:
        facts["duration"] = _duration(results["seconds"])
    return {
        "title": run.dir.resolve().name,
        "dataset": run.config.data.name,
        "network": run.config.model.name,
        "split": split,
        "facts": facts,
        "table": results_table(results),
        "meanings": row_meanings(results),
        "results_split": results["split"],
        "results_file": run.results_file.name,
        "final": final["name"],
        "attributes": list(schema.attributes),
        "stuck": stuck_attributes(final["attributes"], results["rows"][0]["attributes"]),
        "stuck_means": STUCK_MEANS,
        "warnings": run.warnings,
        "differences": results.get("differences", []),
        "made_with": run.made_with,
        "configuration": RunFolder(run.main).config.read_text("utf-8"),
    }


def _curves(run: ReportedRun) -> dict[str, Any]:
    metrics = {name: read_metrics(path) for name, path in run.methods.items()}
    starts, main = run.starts(), list(run.methods)[-1]
    first = {name: stages.get("stage1", 0) for name, stages in starts.items()}
    return {
        "curves": run_curves(metrics[main], starts[main]),
        "method_curves": method_curves(metrics, first) if len(metrics) > 1 else [],
        "times": time_table(read_timings(run.main)),
    }


def _queries(retrieval: Retrieval, pictures: SplitPictures, schema: AttributeSchema) -> dict[str, Any]:
    """Rows of pictures, and how many queries re-ranking helped and hurt."""
    gain = retrieval.gain
    return {
        "reranked": retrieval.reranked,
        "left_alone": retrieval.left_alone,
        "queries": [query_row(why, i, retrieval, pictures, schema) for why, i in choose_queries(retrieval, schema)],
        "worst": [query_row(why, i, retrieval, pictures, schema) for why, i in worst_queries(retrieval, schema)],
        "confusions": confusions(retrieval, schema),
        "helped": int((gain > 0).sum()),
        "hurt": int((gain < 0).sum()),
        "same": int((gain == 0).sum()),
        "map_before": 100 * float(retrieval.precision.mean()) if len(gain) else 0.0,
        "map_after": 100 * float(retrieval.precision_after.mean()) if len(gain) else 0.0,
        "interval": mean_interval(100 * retrieval.precision_after) if len(gain) else None,
        "gain_interval": mean_interval(100 * gain) if len(gain) and retrieval.reranked else None,
    }


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.partial")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)
