"""By what a catalogue names the values of photos: the centers beside the model, made once where a run has none."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from safetensors import SafetensorError

from ipad_train.catalogue.model import CatalogueModel
from ipad_train.data import load_data
from ipad_train.launch import make_accelerator
from ipad_train.value_centers import ValueCenters, embed_for_centers, fit_centers


def find_centers(model: CatalogueModel, dim: int, announce: Callable[[str], None]) -> ValueCenters:
    """Centers of a model's values.

    A run leaves them beside the model that it delivers. For a run without them some of its labelled images are embedded, and
    the centers are kept there. A model that is no run and brings none predicts nothing; it is searched just as well.

    Args:
        dim: D of one attribute.

    Raises:
        ValueError: a damaged file, or one of another model.
        FileNotFoundError: the run's data are not where they were.
    """
    num_values = tuple(map(len, model.values.values()))
    if (found := ValueCenters.read(model.folder, num_values)) is not None:
        return found
    if model.run is None:
        announce(
            f"{model.source} brings no centers of its values and is no run that has labelled images, so the values of "
            "photos stay unknown; search works without"
        )
        return ValueCenters.unknown(num_values, dim)
    announce("learning once what the values look like, from some of the run's labelled images")
    splits, accelerator = load_data(model.run.data).splits, make_accelerator(model.run)
    config = replace(model.run.data, num_workers=0)  # the engine's threads cannot fork
    train, held_out = (
        embed_for_centers(model.network, splits[split], config, accelerator, role)
        for split, role in (("train", "train"), ("validation", "query"))
    )
    made = fit_centers(train, held_out, num_values)
    with suppress(OSError, SafetensorError):  # a folder that cannot be written to
        made.save(model.folder)
    return made
