"""Evaluations of one network on several processes; what comes out goes into files."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from accelerate.state import AcceleratorState, GradientState
from safetensors.torch import save_file

from ipad_train import evaluate, kept_crops, kept_maps
from ipad_train.config_files import load_config
from ipad_train.data import RunData
from ipad_train.finishing import embed_validation
from ipad_train.launch import make_accelerator
from ipad_train.networks import make_model
from ipad_train.run_context import RunContext

FROZEN = "model.options.trunk={stage: [2, 3], freeze: all, options: {channels: [8, 8, 16, 16], stem_width: 8}}"
CASES = {
    "evaluated": ["data.eval_batch_size=7"],
    "evaluated at once": ["data.eval_batch_size=64"],  # one batch: the other processes have none
    "evaluated from maps": [FROZEN, "stage2.spatial_learning_rate=0", "data.eval_batch_size=7"],
}


def evaluate_cases(config_path: str, data: RunData, out: Path) -> None:
    """Embed validation, choose beta and rank all queries, in blocks that divide by no number of processes."""
    evaluate._QUERIES, kept_maps._BATCH, kept_crops._BATCH = 3, 7, 7
    count = int(os.environ.get("WORLD_SIZE", 1))
    for name, overrides in CASES.items():
        AcceleratorState._reset_state()
        GradientState._reset_state()
        keys = ["stage0.steps=0", "stage1.steps=0", "loop.threads=1", *overrides, f"output_dir={out / name}-{count}"]
        config = load_config(config_path, keys)
        accelerator = make_accelerator(config)
        assert accelerator.num_processes == count
        context = RunContext(config, data, accelerator, lambda line: None)
        torch.manual_seed(0)
        model = make_model(config, "stage2", data, context.folder)
        embedded = embed_validation(model, context)
        assert (context.folder / "maps").is_dir() == ("maps" in name)
        results = evaluate.evaluate_split(model, context, "validation", embedded=embedded, keep_precisions=True)
        arrays = {f"precisions/{row['name']}": row["precisions"] for row in results["rows"][1:]}
        kinds = ("fused", "spatial", "semantic", "peak", "image_ids", "attribute_ids", "value_ids", "roles")
        arrays |= {kind: getattr(embedded, kind) for kind in kinds}
        found = {key: torch.as_tensor(array).contiguous() for key, array in arrays.items()}
        found["MAP"] = torch.tensor([row["overall"] for row in results["rows"]], dtype=torch.float64)
        found["beta"] = torch.tensor(model.beta, dtype=torch.float64)
        save_file(found, out / f"{name}-{count}-{accelerator.process_index}.safetensors")
