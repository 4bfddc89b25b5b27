"""Everything that only a GPU can show, in one command: a section after the other, each with a limit of its own.

    python benchmarks/gpu.py --out DIR                                # all sections, 51 minutes at most
    python benchmarks/gpu.py --out DIR --sections reasoning,rpf,step  # some of them
    python benchmarks/gpu.py --out DIR --photos PREPARED              # the runs train on these
    python benchmarks/gpu.py --out DIR --tiny --sections step,run     # the script itself, on whatever machine

Each section is a process, whose output goes to `DIR/SECTION.log`; one that fails or takes too long does not end the others.
What it printed last is printed again. docs/training-at-scale.md and docs/reranking.md hold what was measured.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
TINY = ["--model", "ipad_tiny", "--triplets", "2", "--detail-size", "64", "--turns", "1"]


def script(name: str, *arguments: str) -> list[str]:
    """The command of a benchmark beside this one."""
    return [sys.executable, str(HERE / f"{name}.py"), *arguments]


def training(options: argparse.Namespace, section: str, *overrides: str, launcher: tuple[str, ...] = ()) -> list[str]:
    """A short run of both stages at the paper's sizes, from random weights, with the photos that were named."""
    photos = [f"data.name={options.photos_name}", f"data.dir={options.photos}"]
    if options.photos is None:
        photos = ["data.name=rendered", "data.options={num_images: 1000, size: 448}"]
    size = "model.options.trunk.pretrained=false model.options.semantic_trunk.pretrained=false"
    steps, workers = 60, len(os.sched_getaffinity(0)) - 1
    if options.tiny:
        size, steps, workers = (
            "model.name=ipad_tiny model.options={} data.detail_size=64 clusters.queue_length=20",
            6,
            1,
        )
    command = (
        [sys.executable, "-m", "ipad_train"]
        if not launcher
        else ["accelerate", "launch", *launcher, "-m", "ipad_train"]
    )
    rest = f"loop.log_every=20 loop.eval_every=0 loop.eval_max_queries=100 loop.save_every=100 rerank.enabled=false {size}"
    return [
        *(*command, "train", "--config", "paper", *photos, f"output_dir={options.out / section}", *rest.split()),
        *(f"stage1.steps={steps}", f"stage2.steps={steps}", f"data.num_workers={workers}", *overrides),
    ]


def deepspeed(
    options: argparse.Namespace, section: str, stage: int, precision: str, offload: str = "none"
) -> list[str]:
    """The same run under DeepSpeed, in one process."""
    launcher = f"--use_deepspeed --num_machines 1 --num_processes 1 --zero_stage {stage} --mixed_precision {precision}"
    launcher += f" --offload_optimizer_device {offload} --gradient_accumulation_steps 1"
    return training(options, section, f"loop.mixed_precision={precision}", launcher=tuple(launcher.split()))


Section = tuple[Callable[[argparse.Namespace], list[str]], int]  # a command, and how many seconds it may take
SECTIONS: dict[str, Section] = {
    "doctor": (lambda o: [sys.executable, "-m", "ipad_train", "doctor"], 60),
    "tests": (
        lambda o: [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-m",
            "gpu",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:benchmark",  # where it is installed, it warns of xdist, and warnings are errors here
            str(ROOT / "packages"),
        ],
        400,
    ),
    "reasoning": (lambda o: script("feature_reasoning_speed", "--gpu-only"), 90),
    "rpf": (lambda o: script("rpf_step", *(["--model", "rpf_tiny"] if o.tiny else ["--triplets", "16"])), 90),
    "rpf-bf16": (
        lambda o: script(
            "rpf_step", "--mixed-precision", "bf16", *(["--model", "rpf_tiny"] if o.tiny else ["--triplets", "16"])
        ),
        90,
    ),
    "step": (
        lambda o: script(
            "train_step", "--precisions", "no,bf16", *(TINY if o.tiny else ["--turns", "3", "--steps", "5"])
        ),
        180,
    ),
    "step-compile": (
        lambda o: script(
            "train_step", "--precisions", "bf16,bf16+compile", *(TINY if o.tiny else ["--turns", "2", "--steps", "5"])
        ),
        240,
    ),
    "profile": (
        lambda o: script("train_step", "--profile", "--precisions", "bf16", *(TINY if o.tiny else ["--steps", "5"])),
        120,
    ),
    "networks": (lambda o: script("compile_networks", *(["--models", "lens"] if o.tiny else [])), 600),
    "growth": (
        lambda o: script("train_step", "--growth", *(TINY if o.tiny else ["--turns", "1", "--steps", "5"])),
        120,
    ),
    "encode": (
        lambda o: script("encode_attributes", *(["--model", "ipad_tiny"] if o.tiny else ["--images", "32"])),
        60,
    ),
    "run": (lambda o: training(o, "run"), 150),
    "run-fp16": (lambda o: training(o, "run-fp16", "loop.mixed_precision=fp16"), 150),
    "run-compile": (lambda o: training(o, "run-compile", "loop.compile=true"), 200),
    "zero1-bf16": (lambda o: deepspeed(o, "zero1-bf16", 1, "bf16"), 120),
    "zero2-bf16": (lambda o: deepspeed(o, "zero2-bf16", 2, "bf16"), 120),
    "zero2-fp16": (lambda o: deepspeed(o, "zero2-fp16", 2, "fp16"), 120),
    "zero2-cpu": (lambda o: deepspeed(o, "zero2-cpu", 2, "bf16", offload="cpu"), 120),
}


def carry_out(name: str, options: argparse.Namespace) -> str:
    """Run a section; answers how it ended."""
    make, limit = SECTIONS[name]
    log, start = options.out / f"{name}.log", time.perf_counter()
    with log.open("w", encoding="utf-8") as file:
        try:
            done = subprocess.run(
                make(options), stdout=file, stderr=subprocess.STDOUT, timeout=limit, check=False, cwd=ROOT
            )
            ended = f"ended with {done.returncode}"
        except subprocess.TimeoutExpired:
            ended = f"stopped after its limit of {limit} s"
    lines = [
        line for line in log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").splitlines() if line
    ]
    shown = [line for line in lines if "it/s" not in line and "step/s" not in line and "%|" not in line]
    return "\n".join([f"== {name}: {ended}, {time.perf_counter() - start:.0f} s", *shown[-options.lines :]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the logs and runs")
    parser.add_argument("--sections", default=",".join(SECTIONS), help="with commas")
    parser.add_argument("--photos", type=Path, help="folder to train on, such as one of `ipad-data prepare`")
    parser.add_argument("--photos-name", default="ccp", help="which dataset it holds")
    parser.add_argument("--lines", type=int, default=25, help="of each log that are printed again")
    parser.add_argument("--tiny", action="store_true", help="sizes for trying the script")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    options.out = options.out.resolve()
    names = options.sections.split(",")
    if unknown := [name for name in names if name not in SECTIONS]:
        parser.error(f"--sections must be of {', '.join(SECTIONS)}, got {', '.join(unknown)}")
    for name in names:
        print(carry_out(name, options), flush=True)


if __name__ == "__main__":
    main()
