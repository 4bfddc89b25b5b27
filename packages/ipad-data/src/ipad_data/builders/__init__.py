"""One builder per dataset. ``DATASETS`` names them; each is imported when it is asked for."""

from __future__ import annotations

DATASETS = {
    "fashionai": "ipad_data.builders.fashionai:FashionAI",
    "darn": "ipad_data.builders.darn:DARN",
    "deepfashion": "ipad_data.builders.deepfashion:DeepFashion",
    "ccp": "ipad_data.builders.ccp:CCP",
    "table": "ipad_data.builders.table:Table",
    "rendered": "ipad_data.builders.rendered:Rendered",
}

__all__ = ["DATASETS"]
