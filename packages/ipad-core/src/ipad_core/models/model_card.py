"""The README of a saved model, which the Hugging Face hub shows as its card."""

from __future__ import annotations

from collections.abc import Mapping

from ipad_core.weights import WeightsRecord

_CARD = """---
library_name: ipad-core
pipeline_tag: image-feature-extraction
tags:
- {architecture}
- fashion-retrieval
- attribute-aware{bases}
---

# {architecture} for {attributes}

Embeddings of an image for an attribute, by the network `{architecture}` of ipad-core.

```python
from ipad_core import AttributeEmbedder

model = AttributeEmbedder.from_pretrained("...")  # this folder or repository
output = model.encode(images, attribute_ids)  # (N, 3, H, W) uint8 images, one id within [0, {count}) each
```

## What training started from

| part | network | weights | trained since in | SHA-256 of the file | licence of the weights |
|---|---|---|---|---|---|
{rows}
"""


def model_card(architecture: str, num_attributes: int, weights: Mapping[str, WeightsRecord]) -> str:
    """Markdown with a YAML head that the hub understands.

    Args:
        architecture: Registered name of the network.
        num_attributes: A.
        weights: Part of the network -> the record of the weights that it started from.
    """
    sources = [record.get("source") or "unknown" for record in weights.values()]
    bases = sorted({source.removeprefix("hub ") for source in sources if source.startswith("hub ")})
    rows = []
    for (part, record), source in zip(weights.items(), sources, strict=True):
        name = ".".join(filter(None, (record.get("network"), record.get("tag"))))
        cells = (part, name, source, record.get("via"), record.get("sha256"), record.get("license"))
        rows.append("| " + " | ".join(cell or "-" for cell in cells) + " |")
    return _CARD.format(
        architecture=architecture,
        attributes=f"{num_attributes} attribute{'s' * (num_attributes != 1)}",
        count=num_attributes,
        bases="".join(["\nbase_model:", *(f"\n- {base}" for base in bases)]) if bases else "",
        rows="\n".join(rows),
    )
