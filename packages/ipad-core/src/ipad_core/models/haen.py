"""HAEN: attributes in a hierarchy, embedded level by level (Yan et al. 2021)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from ipad_core._registry import register_model
from ipad_core.layers import HierarchicalAttention
from ipad_core.models.asen import ASEN


@register_model
class HAEN(ASEN):
    """ASEN's network with a level above the attributes: their types.

    In words: the type finds its region on the map, the attribute looks inside that region, and the channel attention
    reads both embeddings. See :class:`HierarchicalAttention`, which has the equations; the rest is :class:`ASEN`.

    Args:
        num_attributes: A.
        types: Type of every attribute, A whole numbers from 0 without a gap, e.g. ``[0, 0, 1]``: the first two are of one
            type; :func:`attribute_types` makes them from a schema. None: all are of one.
        others: As in :class:`ASEN`.

    Raises:
        ValueError: ``types`` has another length than A, or is not numbered from 0 without a gap.

    References:
        Yan et al. 2021 (HAEN). It is known to us as the IPAD paper describes it; how the levels meet is our reading.
    """

    architecture = "haen"

    def __init__(
        self,
        num_attributes: int,
        types: list[int] | None = None,
        embed_dim: int = 1024,
        image_size: int = 224,
        trunk: str | Mapping[str, Any] = "resnet50",
        position_channels: bool = False,
        latent_dim: int = 512,
        reduction: int = 2,
    ) -> None:
        self.attribute_types = [0] * num_attributes if types is None else list(types)
        if len(self.attribute_types) != num_attributes:
            raise ValueError(
                f"types must have {num_attributes} numbers, one per attribute, got {self.attribute_types}"
            )
        if sorted(set(self.attribute_types)) != list(range(len(set(self.attribute_types)))):
            raise ValueError(f"types must be numbered from 0 without a gap, got {self.attribute_types}")
        super().__init__(num_attributes, embed_dim, image_size, trunk, position_channels, latent_dim, reduction)

    def build_attention(self, num_attributes: int, dim: int, latent_dim: int, reduction: int) -> nn.Module:
        return HierarchicalAttention(self.attribute_types, dim, latent_dim, reduction)


def attribute_types(attributes: Iterable[str], hierarchy: Mapping[str, Sequence[str]] | None = None) -> list[int]:
    """The ``types`` of HAEN from the names of a schema.

    Args:
        attributes: Names, in the order of their ids.
        hierarchy: Type -> names of its attributes. Without it the last word of a name is its type, as in FashionAI, where
            four attributes are a ``length`` and four a ``design``.

    Returns:
        Number of the type of each attribute, counted as they come.

    Raises:
        ValueError: the hierarchy leaves an attribute out, names one twice, or one that is not there.

    Example:
        >>> attribute_types(["skirt_length", "collar_design", "pant_length"])
        [0, 1, 0]
    """
    names = list(attributes)
    if hierarchy is None:
        owner = {name: name.replace("-", "_").replace(" ", "_").split("_")[-1] for name in names}
    else:
        owner = {name: kind for kind, members in hierarchy.items() for name in members}
        listed = [name for members in hierarchy.values() for name in members]
        wrong = sorted(set(listed) ^ set(names)) or sorted({name for name in listed if listed.count(name) > 1})
        if wrong:
            raise ValueError(
                f"the hierarchy of types must name each of {', '.join(names)} once; look at: {', '.join(wrong)}"
            )
    numbers: dict[str, int] = {}
    return [numbers.setdefault(owner[name], len(numbers)) for name in names]
