"""Examination of a prepared folder."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow.parquet as pq
from datasets import Features

from ipad_data.builders._real import SplitCoverage
from ipad_data.doctor.diagnosis import Diagnosis, ProtocolReport, count_values
from ipad_data.label_files import LabelledImage
from ipad_data.prepared import find_shards, read_manifest, verify_shards
from ipad_data.schema import AttributeSchema

_COLUMNS = ["image_id", "attribute_ids", "value_ids", "roles"]


def examine_prepared(diagnosis: Diagnosis, read_images: bool, workers: int | None, progress: bool) -> None:
    """Fill in the diagnosis of a prepared folder. Its images were decoded when it was made; now checksums are compared."""
    report = ProtocolReport("prepared", "Shards")
    diagnosis.protocols = [report]
    try:
        manifest, files = read_manifest(diagnosis.folder), find_shards(diagnosis.folder)
        if read_images:
            verify_shards(diagnosis.folder)
        for split, paths in files.items():
            schema = AttributeSchema.from_features(Features.from_arrow_schema(pq.read_schema(paths[0])))
            report.attributes[split] = count_values(_images(paths), schema, split == "train")
            report.coverage[split] = SplitCoverage(manifest.rows[split], manifest.rows[split], [])
    except (ValueError, OSError) as error:
        report.problem = str(error)
        diagnosis.advice = ["Copy the folder again, or prepare it anew."]
        return
    diagnosis.images = sum(manifest.rows.values())
    source = manifest.dataset or "a dataset of unknown name"
    options = "".join(f", {option}={value!r}" for option, value in (manifest.options or {}).items())
    diagnosis.notes = [
        f"Prepared from {source}{options}: shorter side {manifest.size} pixels at most, JPEG quality "
        f"{manifest.quality}, {manifest.num_bytes / 1e6:.1f} MB. The images were decoded when they were prepared."
    ]
    diagnosis.advice = [f"ipad_data.load({manifest.dataset or 'table'!r}, {str(diagnosis.folder)!r})"]


def _images(paths: list[str]) -> Iterator[LabelledImage]:
    for path in paths:
        for row in pq.read_table(path, columns=_COLUMNS).to_pylist():
            yield LabelledImage("", *(row[column] for column in _COLUMNS))
