"""A catalogue with no photos at hand: rendered garments with made-up brands and prices, and the quickstart's model."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ipad_data.builders.rendered import encode_jpeg
from ipad_data.render.image import render_image
from ipad_train.catalogue.index_options import IndexOptions
from ipad_train.catalogue.making import index_photos

COUNT, SIDE, SEED = 600, 192, 2026
BRANDS = ("Alder", "Birch", "Cedar", "Rowan")
RUNS = ("quickstart/ipad_tiny", "quickstart/methods/ipad_tiny", "runs/tiny")  # where a model may be at hand
_TRAINING = (  # with half the images and steps of stage 0 the collar, the smallest cue, stays at chance
    "data.options={num_train: 3000, num_validation: 900, num_test: 300}",
    "stage2.steps=0",
    "rerank.steps=80",
    "rerank.n_r=200",
)


def make_demo(folder: Path, source: str | None, announce: Callable[[str], None], count: int = COUNT) -> str:
    """Render, train where no model is at hand, and index, all below a folder; what is there already is kept.

    Args:
        source: A model; None for that of ``nox -s quickstart`` or ``runs/tiny`` in the working folder, else a small one is
            trained.

    Returns:
        The catalogue's folder.
    """
    photos = folder / "photos"
    render_photos(photos, count)
    source = source or next((run for run in RUNS if (Path(run) / "best" / "config.json").is_file()), None)
    if source is None:
        source = str(_train(folder / "run", announce))
    announce(f"{count} rendered garments in {photos}, model {source}")
    where = str(folder / "catalogue")
    outcome = index_photos(photos, source, where, IndexOptions(), announce)
    announce(outcome.text())
    return where


def render_photos(folder: Path, count: int, side: int = SIDE) -> None:
    """``count`` garments as JPEG files, and ``photos.csv`` with a brand, a price and a season; only what is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        path = folder / f"garment-{number:05d}.jpg"
        if not path.exists():
            part = path.with_suffix(".part")
            part.write_bytes(encode_jpeg(render_image(number, SEED, side)))
            os.replace(part, path)
    part = folder / "photos.part"
    with part.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file", "brand", "price", "season"])
        for number in range(count):
            random = np.random.default_rng([SEED, number])
            price = round(float(random.lognormal(3.8, 0.5)), 2)
            season = ("spring", "summer", "autumn", "winter")[random.integers(4)]
            table.writerow([f"garment-{number:05d}.jpg", BRANDS[random.integers(len(BRANDS))], price, season])
    os.replace(part, folder / "photos.csv")


def _train(run: Path, announce: Callable[[str], None]) -> Path:
    from ipad_train.config_files import load_config
    from ipad_train.training import Training

    announce(
        "no trained model is at hand (nox -s quickstart makes one): training a small one, a few minutes on two cores"
    )
    if not (run / "validation.json").is_file():
        Training(load_config("tiny", [f"output_dir={run}", *_TRAINING]), "auto", announce).run()
    return run
