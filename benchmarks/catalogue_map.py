"""The images of a run's split as a catalogue: does a search through the engine rank as evaluation does?

    python benchmarks/catalogue_map.py RUN [--split test] [--work DIR]

RUN is a finished run, such as one of `ccp`. Its images are written into DIR/SPLIT as files and indexed (an interrupted
indexing continues). Every query of the split is searched for its attribute; the photos of that attribute's gallery, in the
order of the engine's answer, give an average precision. Printed, as Markdown: MAP of each attribute by `ipad_train evaluate`
and through the engine, and the largest difference of one query.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from accelerate import Accelerator

from ipad_data import EntryTable
from ipad_data.roles import ROLES
from ipad_data.transforms.decode import open_image
from ipad_train.catalogue.catalogue import Catalogue
from ipad_train.catalogue.index_options import IndexOptions
from ipad_train.catalogue.making import index_photos
from ipad_train.catalogue.model import CatalogueModel
from ipad_train.catalogue.photo_files import photo_id
from ipad_train.catalogue.searching import MAX_LIMIT, Searcher
from ipad_train.data import load_data
from ipad_train.evaluate import evaluate_split
from ipad_train.run_context import RunContext


def write_photos(dataset, folder: Path) -> None:
    """Every image of a split under its id: the file itself where there is one."""
    folder.mkdir(parents=True, exist_ok=True)
    for row in dataset.with_format(None):
        path, stored = folder / f"{row['image_id']}.jpg", row["image"]
        if path.exists():
            continue
        if stored["bytes"] is not None:
            path.write_bytes(stored["bytes"])
        elif Path(stored["path"]).suffix.lower() in (".jpg", ".jpeg"):
            path.write_bytes(Path(stored["path"]).read_bytes())
        else:
            open_image(stored["path"]).save(path, quality=100)


def engine_precisions(searcher: Searcher, entries: EntryTable, attribute: int) -> list[float]:
    """AP of every query of an attribute, in the order of the split."""
    mine = entries.attribute_ids == attribute
    query, gallery = (mine & (entries.roles == ROLES.index(role)) for role in ("query", "gallery"))
    values = {
        photo_id(f"{image}.jpg"): value
        for image, value in zip(entries.image_ids[gallery].tolist(), entries.value_ids[gallery], strict=True)
    }
    weights = {entries.schema.attributes[attribute]: 1.0}
    precisions = []
    for image, value in zip(entries.image_ids[query].tolist(), entries.value_ids[query], strict=True):
        found = searcher.search(searcher.vectors_of(photo_id(f"{image}.jpg")), weights, limit=MAX_LIMIT)
        relevant = np.array([values[each.id] == value for each in found if each.id in values])
        precision = np.cumsum(relevant) / np.arange(1, len(relevant) + 1)
        precisions.append(float((precision * relevant).sum() / max(1, relevant.sum())))
    return precisions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--split", default="test")
    parser.add_argument("--work", type=Path, default=Path("catalogue-benchmark"))
    arguments = parser.parse_args()
    model = CatalogueModel.open(arguments.run)
    data = load_data(model.run.data)
    dataset = data.splits[arguments.split]
    if dataset.num_rows > MAX_LIMIT:
        raise SystemExit(f"the split has {dataset.num_rows} images, and one search answers at most {MAX_LIMIT}")
    folder, where = arguments.work / arguments.split, arguments.work / f"{arguments.split}-catalogue"
    write_photos(dataset, folder)
    print(index_photos(folder, arguments.run, str(where), IndexOptions(), print).text(), flush=True)
    context = RunContext(model.run, data, Accelerator())
    evaluated = evaluate_split(model.network, context, arguments.split, keep_precisions=True)["rows"][-1]
    entries = EntryTable.from_dataset(dataset)
    with Catalogue(str(where), "measures") as catalogue:
        found = [engine_precisions(Searcher(catalogue), entries, i) for i in range(len(model.attributes))]
    print(f"\n| MAP of {arguments.split}, % | queries | evaluate | engine |\n|---|---|---|---|")
    for name, precisions in zip(model.attributes, found, strict=True):
        if precisions:
            mean = 100 * np.mean(precisions)
            print(f"| {name} | {len(precisions)} | {evaluated['attributes'][name]:.3f} | {mean:.3f} |")
    joined = np.concatenate([each for each in found if each])
    print(f"| overall | {len(joined)} | {evaluated['overall']:.3f} | {100 * joined.mean():.3f} |")
    by_query = np.abs(np.sort(joined) - np.sort(evaluated["precisions"])).max()
    print(f"\nlargest difference between the sorted APs of queries: {100 * by_query:.3f}")


if __name__ == "__main__":
    main()
