"""What the rendered garments vary in: six attributes of five values, named after FashionAI's taxonomy.

Labels are sparse as in FashionAI: a figure wears a skirt or pants, never both, and an off-shoulder top has no collar.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ipad_data.schema import AttributeSchema

SCHEMA = AttributeSchema(
    {
        "sleeve_length": ["sleeveless", "short", "elbow", "three_quarter", "long"],
        "neckline_design": ["round", "v", "square", "boat", "off_shoulder"],
        "collar_design": ["none", "shirt", "peter_pan", "stand", "ruffle"],
        "front_design": ["plain", "single_row", "double_row", "zip", "wrap"],
        "skirt_length": ["mini", "knee", "midi", "ankle", "floor"],
        "pant_length": ["short", "knee", "three_quarter", "cropped", "full"],
    }
)

# Covered share of the arm or leg; the jitter leaves gaps between neighboring values.
SLEEVE_SHARES = (0.0, 0.26, 0.50, 0.75, 1.0)
LEG_SHARES = (0.20, 0.42, 0.64, 0.83, 1.0)
SHARE_JITTER = 0.035


@dataclass(frozen=True)
class Garment:
    """Values of one figure's clothes, and the continuous lengths drawn for them. None: the attribute is not there."""

    sleeve: str
    neckline: str
    collar: str | None
    front: str
    skirt: str | None
    pant: str | None
    sleeve_share: float
    leg_share: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Garment:
        """Garment whose values are uniform and independent of each other (but for the sparse labels)."""
        sleeve, neckline, collar, front, leg = (int(i) for i in rng.integers(5, size=5))
        wears_skirt = rng.random() < 0.5
        sleeve_jitter, leg_jitter = (float(j) for j in rng.uniform(-SHARE_JITTER, SHARE_JITTER, size=2))
        names = SCHEMA.values
        return cls(
            sleeve=names["sleeve_length"][sleeve],
            neckline=names["neckline_design"][neckline],
            collar=None if names["neckline_design"][neckline] == "off_shoulder" else names["collar_design"][collar],
            front=names["front_design"][front],
            skirt=names["skirt_length"][leg] if wears_skirt else None,
            pant=None if wears_skirt else names["pant_length"][leg],
            sleeve_share=min(1.0, SLEEVE_SHARES[sleeve] + sleeve_jitter) if sleeve else 0.0,
            leg_share=min(1.0, LEG_SHARES[leg] + leg_jitter),
        )

    def labels(self) -> dict[str, str]:
        """Attribute -> value, for the attributes that this garment has."""
        values = (self.sleeve, self.neckline, self.collar, self.front, self.skirt, self.pant)
        return {attribute: value for attribute, value in zip(SCHEMA.attributes, values, strict=True) if value}
