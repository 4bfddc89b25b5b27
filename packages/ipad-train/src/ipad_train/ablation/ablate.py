"""Train what the figures of section 4.3 compare, evaluate it, and write tables and figures."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ipad_core import AttributeEmbedder
from ipad_train.ablation.drawing import draw_bars, draw_curve
from ipad_train.ablation.results import IN_BOX, figure_results, write_ablation
from ipad_train.ablation.variants import FIGURES, TABLES, Figure, figures
from ipad_train.checkpoint import write_json
from ipad_train.config import RerankConfig, RunConfig, StageConfig, ValuesConfig
from ipad_train.distributed import on_main_process
from ipad_train.embed import embed_split
from ipad_train.evaluate import evaluate_split
from ipad_train.fusion_weight import with_beta
from ipad_train.kept_maps import kept_split
from ipad_train.networks import network_shape
from ipad_train.paper import paper_ablation
from ipad_train.report.extras import require
from ipad_train.run_context import RunContext
from ipad_train.run_folder import RunFolder
from ipad_train.stage_lengths import resolve_stages
from ipad_train.start import find_starting_weights
from ipad_train.trained_runs import check_settings, sharing_maps, train_once

_BETAS = [round(0.1 * step, 1) for step in range(11)]
_Rows = dict[str, dict[str, float]]


def ablate(
    config: RunConfig,
    names: Sequence[str] = FIGURES,
    seeds: Sequence[int] = (0,),
    split: str = "test",
    announce: Callable[[str], None] = print,
) -> dict[str, Any]:
    """The ablations of section 4.3, each variant a run; see :func:`ipad_train.ablation.variants.figures`.

    All variants of a seed start from one trunk and see the same batches. What two figures need is trained once, and what is
    complete is not trained again.

    Args:
        config: An IPAD with both branches; ``output_dir`` holds the runs.
        names: Figures of the paper, of ``FIGURES``, and tables of ``TABLES``.
        seeds: Each trains all variants; error bars are the standard deviation over them.
        split: Split to evaluate on.
        announce: Receives lines for the user.

    Returns:
        ``{"split", "seeds", "figures": {name: ...}}``, see :func:`figure_results`; written to ``ablation.json``, ``.md``
        and ``.csv``, and the figures as ``figure-N.svg``.

    Raises:
        ValueError: an unknown figure, no seed or one twice, a network without two branches, or other settings than those
            that the folder was started with.
        ImportError: the extra ``ipad-train[report]`` is not installed.
    """
    require("matplotlib")
    known = (*FIGURES, *TABLES)
    if unknown := set(names) - set(known) or (set() if names else {"none"}):
        raise ValueError(f"figures must be of {', '.join(known)}, got {', '.join(sorted(unknown))}")
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must be different whole numbers, at least one, got {list(seeds)}")
    ablation = _Ablation(config, split, announce)
    wanted = {name: ablation.figures[name] for name in known if name in names}
    measured = [{name: ablation.measure(seed, name) for name in wanted} for seed in seeds]
    results: dict[str, Any] = {"split": split, "seeds": list(seeds), "figures": {}}
    for name, figure in wanted.items():
        paper = paper_ablation(name) if config.data.name == "fashionai" else {}
        results["figures"][name] = figure_results(figure, [mine[name] for mine in measured], paper)
    if ablation.accelerator.is_main_process:
        announce(write_ablation(ablation.out, results))
        for name in results["figures"].keys() & set(FIGURES):
            figure = results["figures"][name]
            draw = draw_curve if figure["axis"] else draw_bars
            draw(figure, ablation.out / f"figure-{name}.svg")
    ablation.accelerator.wait_for_everyone()
    return results


class _Ablation:
    """The data, opened once, the runs and their evaluations of one output folder."""

    def __init__(self, config: RunConfig, split: str, announce: Callable[[str], None]) -> None:
        self.out, self.split, self.announce = Path(config.output_dir), split, announce
        self.context = RunContext.open(config, announce)
        self.accelerator, self.data = self.context.accelerator, self.context.data
        self.data.split(split)
        shape = network_shape(config, self.data)
        if shape.architecture != "ipad" or shape.spatial is None or shape.semantic is None:
            raise ValueError(f"model.name must be an ipad with both branches to ablate, got {config.model.name!r}")
        if not config.stage2.is_trained:
            raise ValueError("stage2 must have a length: figures 2, 4 and 6 are about both branches")
        settings = config
        config, _, notes = find_starting_weights(config, len(self.data.schema.attributes))
        config, reduced = resolve_stages(config, self.data, self.accelerator.num_processes)
        for line in [*notes, *reduced]:
            announce(line)
        self.config = dataclasses.replace(
            sharing_maps(config), rerank=RerankConfig(enabled=False), values=ValuesConfig()
        )
        self.figures: dict[str, Figure] = figures(self.config, shape.options)
        on_main_process(self.accelerator, lambda: check_settings(self.out, settings, command="ablate"))

    def measure(self, seed: int, name: str) -> _Rows:
        """MAP by attribute and overall of every point of a figure, and where its attention peaks, percent."""
        base = self._with_trunk(seed)
        figure = self.figures[name]
        if name == "6":
            rows = self._evaluated(self._trained(base, "w/ ME", figure.variants["w/ ME"](base)))
            return {f"{beta:g}": rows["betas"][f"{beta:g}"] for beta in _BETAS}
        return {
            label: self._evaluated(self._trained(base, label, change(base)))["row"]
            for label, change in figure.variants.items()
        }

    def _with_trunk(self, seed: int) -> RunConfig:
        """The seed's configuration, whose stage 0 is trained already."""
        config = dataclasses.replace(self.config, seed=seed)
        if not config.stage0.is_trained:
            return config
        nothing = StageConfig()
        start = self._trained(config, "stage 0", dataclasses.replace(config, stage1=nothing, stage2=nothing))
        model = dataclasses.replace(config.model, trunk_weights=str(RunFolder(start).stage("stage0").absolute()))
        return dataclasses.replace(config, model=model, stage0=nothing)

    def _trained(self, base: RunConfig, label: str, config: RunConfig) -> Path:
        """The folder of a variant's run; equal configurations share one."""
        # Without paths: a folder that is called from elsewhere, or moved, holds the same runs.
        facts = config.to_dict() | {"output_dir": "", "loop": None}
        facts["data"]["maps_dir"] = facts["model"]["trunk_weights"] = None
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]
        seed_dir = self.out / f"seed-{base.seed}"
        slug = re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")
        found = sorted(seed_dir.glob(f"*-{digest}"))
        folder = found[0] if found else seed_dir / f"{slug}-{digest}"
        config = dataclasses.replace(config, output_dir=str(folder))
        return train_once(config, f"{label}, seed {base.seed}", self.announce, self.data)

    def _evaluated(self, run: Path) -> dict[str, Any]:
        """What the last stage of a run answers, and two branches by beta; kept in the run."""
        path = run / f"ablation-{self.split}.json"
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))
        folder = list(RunFolder(run).trained_stages().values())[-1]
        model = AttributeEmbedder.from_pretrained(folder).to(self.accelerator.device)
        context = dataclasses.replace(self.context, config=dataclasses.replace(self.config, output_dir=str(run)))
        maps = kept_split(model, context, self.split) if "spatial" in model.branches else None
        dataset = self.data.split(self.split)
        embedded = embed_split(model, dataset, self.config.data, self.accelerator, maps=maps)

        def row(entries: Any) -> dict[str, float]:
            found = evaluate_split(model, context, self.split, embedded=entries)
            answer, located = found["rows"][-1], found["localization"]
            in_box = {} if located is None else {IN_BOX: located["overall"]}
            return {**answer["attributes"], "overall": answer["overall"], **in_box}

        results: dict[str, Any] = {"row": row(embedded)}
        if embedded.semantic is not None:
            results["betas"] = {f"{beta:g}": row(with_beta(model, embedded, beta)) for beta in _BETAS}
        if self.accelerator.is_main_process:
            write_json(path, results)
        self.accelerator.wait_for_everyone()
        return results
