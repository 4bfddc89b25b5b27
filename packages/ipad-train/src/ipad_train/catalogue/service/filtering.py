"""What a filter and facets leave of all photos, and how many photos each further facet would leave."""

from __future__ import annotations

import numpy as np

from ipad_train.catalogue.columns import find_attribute
from ipad_train.catalogue.conditions import facet_condition, read_filter
from ipad_train.catalogue.service.state import State
from ipad_train.catalogue.snapshot import Snapshot


def filtered(
    state: State, where: str, facets: dict[str, list[str]]
) -> tuple[Snapshot, dict[str, dict[str, int]], np.ndarray]:
    """The snapshot; how many photos show each value, among those that pass the filter and the other attributes' facets;
    and the mask of those that pass everything.

    Raises:
        CatalogueError: a filter that does not parse, an attribute or value that the model does not have.
    """
    for name in facets:
        find_attribute(name, state.catalogue.manifest.attributes)
    shown, columns = state.snapshot, state.columns
    base = shown.mask(read_filter(where, columns))
    each = {name: shown.mask(facet_condition({name: values}, columns)) for name, values in facets.items() if values}
    counts = {}
    for number, name in enumerate(state.catalogue.manifest.attributes):
        others = [mask for other, mask in each.items() if other != name]
        counts[name] = shown.counts(np.logical_and.reduce([base, *others]), number)
    return shown, counts, np.logical_and.reduce([base, *each.values()])
