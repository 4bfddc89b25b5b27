"""The README of a saved model, which the Hugging Face hub shows as its card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ipad_core.weights import WeightsRecord

_CARD = """---
library_name: ipad-core
pipeline_tag: image-feature-extraction
tags:
- {architecture}
- fashion-retrieval
- attribute-aware{bases}{facts}
---

# {architecture} for {attributes}

Embeddings of an image for an attribute, by the network `{architecture}` of ipad-core.

```python
from ipad_core import AttributeEmbedder

model = AttributeEmbedder.from_pretrained("...")  # this folder or repository
output = model.encode("photo.jpg", attributes="all")  # or attribute={example}; also tensors, arrays, lists
print(output.embedding.shape)  # a row for each of {attributes}
```
{sections}
## What training started from

| part | network | weights | trained since in | SHA-256 of the file | licence of the weights |
|---|---|---|---|---|---|
{rows}
"""


FACTS = ("license", "dataset", "dataset_terms", "metrics", "metrics_command")


def model_card(
    architecture: str,
    num_attributes: int,
    weights: Mapping[str, WeightsRecord],
    schema: Mapping[str, list[str]] | None = None,
    about: Mapping[str, Any] | None = None,
    share: float | None = None,
) -> str:
    """Markdown with a YAML head that the hub understands.

    Args:
        architecture: Registered name of the network.
        num_attributes: A.
        weights: Part of the network -> the record of the weights that it started from.
        schema: Attribute name -> value names.
        about: Facts, each of ``FACTS`` or none: ``license`` of the weights (SPDX, small letters), ``dataset`` and
            ``dataset_terms`` that it was trained on and under, ``metrics`` as name -> number, and the ``metrics_command``
            that measures them.
        share: Of the network's own embedding, where probabilities of values are beside it.

    Raises:
        ValueError: a fact that is not one of ``FACTS``.
    """
    about = dict(about or {})
    for fact in about:
        if fact not in FACTS:
            raise ValueError(f"about must hold only {', '.join(FACTS)}, got {fact!r}")
    sources = [record.get("source") or "unknown" for record in weights.values()]
    bases = sorted({source.removeprefix("hub ") for source in sources if source.startswith("hub ")})
    rows = []
    for (part, record), source in zip(weights.items(), sources, strict=True):
        name = ".".join(filter(None, (record.get("network"), record.get("tag"))))
        cells = (part, name, source, record.get("via"), record.get("sha256"), record.get("license"))
        rows.append(_row(*(cell or "-" for cell in cells)))
    return _CARD.format(
        architecture=architecture,
        attributes=f"{num_attributes} attribute{'s' * (num_attributes != 1)}",
        example=repr(next(iter(schema))) if schema else "0",
        bases="".join(["\nbase_model:", *(f"\n- {base}" for base in bases)]) if bases else "",
        facts=f"\nlicense: {json.dumps(about['license'])}" if "license" in about else "",
        sections=_sections(schema, about, share),
        rows="\n".join(rows),
    )


def _sections(schema: Mapping[str, list[str]] | None, about: Mapping[str, Any], share: float | None) -> str:
    parts = []
    if share is not None:
        parts.append(
            "## Embedding\n\nThe network's own embedding, and beside it how probable each value of the asked attribute is "
            "(`ipad_core.ValuePosteriors`, a discriminant analysis of training embeddings). The cosine of two embeddings is "
            f"{share:g} times that of the first part plus {1 - share:g} times that of the second. "
            "`model.set_values(None)` leaves the second out."
        )
    if schema:
        lines = [_row(name, ", ".join(values)) for name, values in schema.items()]
        parts.append("\n".join(["## Attributes", "", "| attribute | values |", "|---|---|", *lines]))
    if "metrics" in about:
        lines = [_row(name, value) for name, value in about["metrics"].items()]
        command = f"Measured with `{about['metrics_command']}`.\n\n" if "metrics_command" in about else ""
        parts.append("\n".join(["## Measured", "", f"{command}| measure | value |", "|---|---|", *lines]))
    if "dataset" in about or "dataset_terms" in about:
        told = [f"Trained on {about['dataset']}." if "dataset" in about else "", about.get("dataset_terms", "")]
        parts.append("## Data\n\n" + " ".join(filter(None, told)))
    return "".join(f"\n{part}\n" for part in parts)


def _row(*cells: Any) -> str:
    """A line of a table, whatever the names hold."""
    return "| " + " | ".join(" ".join(str(cell).split()).replace("|", r"\|") for cell in cells) + " |"
