"""Lens: a frozen trunk, and per attribute a projection of its pooled features in closed form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ipad_core._registry import register_model
from ipad_core.backbones import VECTORS, build_trunk, trunk_mapping
from ipad_core.clustering.attribute_discriminants import AttributeDiscriminants
from ipad_core.clustering.discriminant import Discriminant
from ipad_core.models.embedder import AttributeEmbedder
from ipad_core.models.entries import check_entries
from ipad_core.output import EmbeddingOutput


@register_model
class Lens(AttributeEmbedder):
    """Pooled features of a frozen trunk, seen through a linear discriminant analysis per attribute.

    Nothing is trained by gradient: :meth:`fit` solves for all attributes in seconds. It is what people with a catalogue and
    a pretrained network do first, so a trained network has to beat it on the same trunk. Before :meth:`fit` it answers the
    pooled features themselves, the same for every attribute: the frozen trunk. Not in the paper. The equations are in
    :func:`ipad_core.clustering.discriminant.fit_discriminant`.

    Args:
        num_attributes: A.
        image_size: Side of the trunk's input, px.
        trunk: As in :class:`TripletNetwork`; its ``stage`` is ``last`` where none is given. Never trained.
        grid: Rows and columns of the cells that are pooled one by one; ``[1, 1]`` is the whole image.
        form, balanced: As in :class:`AttributeDiscriminants`.
        width: D of a fitted lens; :meth:`fit` writes it, and a new lens has none.

    Raises:
        ValueError: unknown form, or a grid that is not two whole numbers of at least 1.
    """

    architecture = "lens"

    def __init__(
        self,
        num_attributes: int,
        image_size: int = 224,
        trunk: str | Mapping[str, Any] = "resnet50",
        grid: Sequence[int] = (1, 1),
        form: str = "posterior",
        balanced: bool = False,
        width: int = 0,
    ) -> None:
        super().__init__()
        if len(grid) != 2 or not all(isinstance(cells, int) and cells >= 1 for cells in grid):
            raise ValueError(f"grid must be two whole numbers of at least 1, got {list(grid)}")
        self.image_size = image_size
        self.grid = (grid[0], grid[1])
        mapping = trunk_mapping(trunk)
        last = {} if mapping.get("name") == VECTORS else {"stage": "last"}
        self.trunk = build_trunk({**last, **mapping}, image_size).requires_grad_(False)
        self.num_features = self.trunk.num_features * grid[0] * grid[1]
        self.discriminants = AttributeDiscriminants(num_attributes, self.num_features, width, form, balanced)
        self.train(self.training)

    def train(self, mode: bool = True) -> Lens:
        """The trunk stays in evaluation mode."""
        super().train(mode)
        self.trunk.train(False)
        return self

    @property
    def is_fitted(self) -> bool:
        """Whether :meth:`fit` has been called, on this lens or on the one that was saved."""
        return self.discriminants.width > 0

    def pooled(self, images: Tensor) -> Tensor:
        """``(N, C)`` pooled features of each image, as :meth:`fit` takes them."""
        feature_map = self.feature_map(images)
        if self.grid == (1, 1):
            return feature_map.mean(dim=(2, 3)).float()
        return F.adaptive_avg_pool2d(feature_map.float(), self.grid).flatten(1)

    def forward(
        self,
        images: Tensor,
        attribute_ids: Tensor,
        image_index: Tensor | None = None,
    ) -> EmbeddingOutput:
        image_index = check_entries(images, attribute_ids, image_index, self.options["num_attributes"])
        return EmbeddingOutput(self.project(self.pooled(images), image_index, attribute_ids))

    def project(self, features: Tensor, image_index: Tensor, attribute_ids: Tensor) -> Tensor:
        """``(B, D)`` unit-length embeddings of entries over ``(N, C)`` pooled features."""
        if not self.is_fitted:
            return F.normalize(features, dim=1)[image_index]
        return F.normalize(self.discriminants(features, image_index, attribute_ids), dim=1)

    def fit(self, features: Any, image_index: Any, attribute_ids: Any, value_ids: Any) -> dict[int, Discriminant]:
        """Solve for the projection of every attribute, see :meth:`AttributeDiscriminants.fit`.

        Args:
            features: ``(N, C)`` of :meth:`pooled`, numpy array or tensor.
            image_index, attribute_ids, value_ids: ``(B,)`` of each labelled entry.
        """
        fits = self.discriminants.fit(features, image_index, attribute_ids, value_ids)
        self.options["width"] = self.discriminants.width
        return fits
