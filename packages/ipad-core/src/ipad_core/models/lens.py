"""Lens: a frozen trunk, and per attribute a projection of its pooled features in closed form."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ipad_core._registry import register_model
from ipad_core.backbones import VECTORS, build_trunk, trunk_mapping
from ipad_core.clustering.discriminant import FORMS, Discriminant, fit_discriminant
from ipad_core.models.embedder import AttributeEmbedder
from ipad_core.models.entries import check_entries
from ipad_core.output import EmbeddingOutput


@register_model
class Lens(AttributeEmbedder):
    """Pooled features of a frozen trunk, seen through a linear discriminant analysis per attribute.

    Nothing is trained by gradient: :meth:`fit` solves for all attributes in seconds. It is what people with a catalogue and
    a pretrained network do first, so a trained network has to beat it on the same trunk. Before :meth:`fit` it answers the
    pooled features themselves, the same for every attribute: the frozen trunk. Not in the paper.

    Args:
        num_attributes: A.
        image_size: Side of the trunk's input, px.
        trunk: As in :class:`TripletNetwork`; its ``stage`` is ``last`` where none is given. Never trained.
        grid: Rows and columns of the cells that are pooled one by one; ``[1, 1]`` is the whole image.
        form: ``posterior``: the probabilities of the attribute's values. ``directions``: its discriminants. See
            :func:`ipad_core.clustering.discriminant.fit_discriminant`.
        balanced: Every value weighs the same in :meth:`fit`, however many images have it.
        width: D of a fitted lens; :meth:`fit` writes it, and a new lens has none.

    Raises:
        ValueError: unknown form, or a grid that is not two whole numbers of at least 1.
    """

    architecture = "lens"
    mean: Tensor
    std: Tensor
    projection: Tensor
    bias: Tensor
    is_posterior: Tensor

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
        if form not in FORMS:
            raise ValueError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
        if len(grid) != 2 or not all(isinstance(cells, int) and cells >= 1 for cells in grid):
            raise ValueError(f"grid must be two whole numbers of at least 1, got {list(grid)}")
        self.image_size, self.form, self.balanced = image_size, form, balanced
        self.grid = (grid[0], grid[1])
        mapping = trunk_mapping(trunk)
        last = {} if mapping.get("name") == VECTORS else {"stage": "last"}
        self.trunk = build_trunk({**last, **mapping}, image_size).requires_grad_(False)
        self.num_features = self.trunk.num_features * grid[0] * grid[1]
        self.register_buffer("mean", torch.zeros(self.num_features))
        self.register_buffer("std", torch.ones(self.num_features))
        self.register_buffer("projection", torch.zeros(num_attributes, self.num_features, width))
        self.register_buffer("bias", torch.zeros(num_attributes, width))
        self.register_buffer("is_posterior", torch.zeros(num_attributes, dtype=torch.bool))
        self.train(self.training)

    def train(self, mode: bool = True) -> Lens:
        """The trunk stays in evaluation mode."""
        super().train(mode)
        self.trunk.train(False)
        return self

    @property
    def is_fitted(self) -> bool:
        """Whether :meth:`fit` has been called, on this lens or on the one that was saved."""
        return self.projection.shape[2] > 0

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
        image_index = check_entries(images, attribute_ids, image_index)
        return EmbeddingOutput(self.project(self.pooled(images), image_index, attribute_ids))

    def project(self, features: Tensor, image_index: Tensor, attribute_ids: Tensor) -> Tensor:
        """``(B, D)`` unit-length embeddings of entries over ``(N, C)`` pooled features."""
        if not self.is_fitted:
            return F.normalize(features, dim=1)[image_index]
        with torch.autocast(features.device.type, enabled=False):  # the logits need the precision
            standard = (features - self.mean) / self.std
            projections = self.projection.to(standard.dtype).transpose(0, 1).flatten(1)
            seen = standard @ projections  # (N, A * D): no entry copies a projection
        seen = seen.unflatten(1, self.bias.shape)[image_index, attribute_ids] + self.bias[attribute_ids]
        return F.normalize(torch.where(self.is_posterior[attribute_ids][:, None], seen.softmax(dim=1), seen), dim=1)

    @torch.no_grad()
    def fit(self, features: Any, image_index: Any, attribute_ids: Any, value_ids: Any) -> dict[int, Discriminant]:
        """Solve for the projection of every attribute.

        Args:
            features: ``(N, C)`` of :meth:`pooled`, numpy array or tensor.
            image_index: ``(B,)`` image of each labelled entry.
            attribute_ids: ``(B,)``.
            value_ids: ``(B,)``; equal numbers are equal values, whatever they are.

        Returns:
            Attribute -> what was chosen for it. An attribute with fewer than two values among the entries is not in it;
            it keeps the standardized features, and a warning says so.

        Raises:
            ValueError: shapes that do not fit, ids out of range, no entries, or features that are not finite.
        """
        x, index, attributes, values = _checked(
            features, image_index, attribute_ids, value_ids, self.num_features, len(self.bias)
        )
        mean, std = x.mean(dim=0), x.std(dim=0, correction=0)
        std = torch.where(std > 1e-8 * x.abs().amax().clamp_min(1e-30), std, 1.0)  # constant features stay at zero
        x = (x - mean) / std
        fits: dict[int, Discriminant] = {}
        for attribute in range(len(self.bias)):
            mine = attributes == attribute
            if len(values[mine].unique()) < 2:
                warnings.warn(
                    f"attribute {attribute} has {len(values[mine].unique())} labelled values, and two are needed to tell "
                    "them apart; its embedding stays the standardized features",
                    stacklevel=2,
                )
                continue
            fits[attribute] = fit_discriminant(x[index[mine]], values[mine], balanced=self.balanced, form=self.form)
        self._store(mean, std, fits)
        return fits

    def _store(self, mean: Tensor, std: Tensor, fits: Mapping[int, Discriminant]) -> None:
        attributes = len(self.bias)
        width = max(fit.projection.shape[1] for fit in fits.values()) if fits else 0
        if len(fits) < attributes:
            width = max(width, self.num_features)
        projection = torch.zeros(attributes, self.num_features, width, dtype=torch.float64)
        bias = torch.zeros(attributes, width, dtype=torch.float64)
        for attribute in range(attributes):
            if attribute not in fits:
                projection[attribute].fill_diagonal_(1.0)
                continue
            fit, used = fits[attribute], fits[attribute].projection.shape[1]
            projection[attribute, :, :used], bias[attribute, :used] = fit.projection, fit.bias
            if self.form == "posterior":
                bias[attribute, used:] = -torch.inf  # no probability for values that the attribute does not have
        like = self.mean
        self.mean, self.std = mean.to(like), std.to(like)
        self.projection, self.bias = projection.to(like), bias.to(like)
        fitted = [self.form == "posterior" and attribute in fits for attribute in range(attributes)]
        self.is_posterior = torch.tensor(fitted, device=like.device)
        self.options["width"] = width


def _checked(
    features: Any, image_index: Any, attribute_ids: Any, value_ids: Any, num_features: int, num_attributes: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x = torch.as_tensor(features).detach().cpu().double()
    if x.ndim != 2 or x.shape[1] != num_features:
        raise ValueError(f"features must be (N, {num_features}), got {tuple(x.shape)}")
    if not x.isfinite().all():
        raise ValueError("features must be finite, got NaN or infinity")
    given = {"image_index": image_index, "attribute_ids": attribute_ids, "value_ids": value_ids}
    ids = {name: torch.as_tensor(value).detach().cpu().long() for name, value in given.items()}
    shapes = {name: tuple(value.shape) for name, value in ids.items()}
    if len(set(shapes.values())) > 1 or len(next(iter(shapes.values()))) != 1:
        raise ValueError(f"image_index, attribute_ids and value_ids must be (B,) each, got {shapes}")
    if not len(ids["value_ids"]):
        raise ValueError("there are no labelled entries to fit")
    for name, count in (("image_index", len(x)), ("attribute_ids", num_attributes)):
        if int(ids[name].min()) < 0 or int(ids[name].max()) >= count:
            raise ValueError(
                f"{name} must be within [0, {count}), got {int(ids[name].min())} to {int(ids[name].max())}"
            )
    return x, ids["image_index"], ids["attribute_ids"], ids["value_ids"]
