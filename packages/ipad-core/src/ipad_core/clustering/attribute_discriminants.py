"""Linear discriminants of many attributes as one layer: features of entries in, probabilities of their values out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ipad_core.clustering.discriminant import FORMS, Discriminant, fit_discriminant


class AttributeDiscriminants(nn.Module):
    """A discriminant analysis per attribute, in closed form. Not in the paper.

    Args:
        num_attributes: A.
        num_features: C of the features.
        width: D of fitted discriminants: the most values, or directions, that an attribute has. 0 before :meth:`fit`.
        form: ``posterior``: the probabilities of the attribute's values. ``directions``: its discriminants. See
            :func:`ipad_core.clustering.discriminant.fit_discriminant`.
        balanced: Every value weighs the same in :meth:`fit`, however many images have it.
        standardize: Bring every feature to unit variance. Without, all share one scale, and features that vary little keep
            saying little: the shrunk covariance pulls towards equal variances.
        keep_features: What an attribute answers that could not be fitted: its standardized features, which makes the layer
            as wide as these; or, if false, the same probabilities for every entry.

    Raises:
        ValueError: unknown form, or directions that are to be probabilities.
    """

    mean: Tensor
    std: Tensor
    projection: Tensor
    bias: Tensor
    is_posterior: Tensor

    def __init__(
        self,
        num_attributes: int,
        num_features: int,
        width: int = 0,
        form: str = "posterior",
        balanced: bool = False,
        standardize: bool = True,
        keep_features: bool = True,
    ) -> None:
        super().__init__()
        if form not in FORMS:
            raise ValueError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
        if not keep_features and form != "posterior":
            raise ValueError(f"keep_features=False needs form='posterior', got {form!r}")
        self.keep_features = keep_features
        self.num_features, self.form, self.balanced, self.standardize = num_features, form, balanced, standardize
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("std", torch.ones(num_features))
        self.register_buffer("projection", torch.zeros(num_attributes, num_features, width))
        self.register_buffer("bias", torch.zeros(num_attributes, width))
        self.register_buffer("is_posterior", torch.zeros(num_attributes, dtype=torch.bool))

    @property
    def width(self) -> int:
        """D; 0 before :meth:`fit`."""
        return self.projection.shape[2]

    def forward(self, features: Tensor, image_index: Tensor, attribute_ids: Tensor) -> Tensor:
        """``(B, D)`` probabilities, which sum to 1, or discriminants of entries over ``(N, C)`` features.

        An attribute that could not be fitted answers as ``keep_features`` says.
        """
        with torch.autocast(features.device.type, enabled=False):  # the logits need the precision
            standard = (features - self.mean) / self.std
            projections = self.projection.to(standard.dtype).transpose(0, 1).flatten(1)
            seen = standard @ projections  # (N, A * D): no entry copies a projection
        seen = seen.unflatten(1, self.bias.shape)[image_index, attribute_ids] + self.bias[attribute_ids]
        return torch.where(self.is_posterior[attribute_ids][:, None], seen.softmax(dim=1), seen)

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
            it answers as ``keep_features`` says, and a warning tells.

        Raises:
            ValueError: shapes that do not fit, ids out of range, no entries, or features that are not finite.
        """
        x, index, attributes, values = _checked(
            features, image_index, attribute_ids, value_ids, self.num_features, len(self.bias)
        )
        mean, std = x.mean(dim=0), x.std(dim=0, correction=0)
        std = std if self.standardize else std.mean().expand_as(std)
        std = torch.where(std > 1e-8 * x.abs().amax().clamp_min(1e-30), std, 1.0)  # constant features stay at zero
        x = (x - mean) / std
        fits: dict[int, Discriminant] = {}
        for attribute in range(len(self.bias)):
            mine = attributes == attribute
            if len(values[mine].unique()) < 2:
                stays = "its embedding stays the standardized features"
                stays = stays if self.keep_features else "all its entries have the same probabilities"
                warnings.warn(
                    f"attribute {attribute} has {len(values[mine].unique())} labelled values, and two are needed to tell "
                    f"them apart; {stays}",
                    stacklevel=2,
                )
                continue
            fits[attribute] = fit_discriminant(x[index[mine]], values[mine], balanced=self.balanced, form=self.form)
        self._store(mean, std, fits)
        return fits

    def _store(self, mean: Tensor, std: Tensor, fits: Mapping[int, Discriminant]) -> None:
        attributes = len(self.bias)
        width = max((fit.projection.shape[1] for fit in fits.values()), default=1)
        if self.keep_features and len(fits) < attributes:
            width = max(width, self.num_features)
        projection = torch.zeros(attributes, self.num_features, width, dtype=torch.float64)
        bias = torch.zeros(attributes, width, dtype=torch.float64)
        for attribute in range(attributes):
            if attribute not in fits:
                if self.keep_features:
                    projection[attribute].fill_diagonal_(1.0)
                else:
                    bias[attribute, 1:] = -torch.inf
                continue
            fit, used = fits[attribute], fits[attribute].projection.shape[1]
            projection[attribute, :, :used], bias[attribute, :used] = fit.projection, fit.bias
            if self.form == "posterior":
                bias[attribute, used:] = -torch.inf  # no probability for values that the attribute does not have
        like = self.mean
        self.mean, self.std = mean.to(like), std.to(like)
        self.projection, self.bias = projection.to(like), bias.to(like)
        posterior = self.form == "posterior"
        fitted = [posterior and (attribute in fits or not self.keep_features) for attribute in range(attributes)]
        self.is_posterior = torch.tensor(fitted, device=like.device)


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
