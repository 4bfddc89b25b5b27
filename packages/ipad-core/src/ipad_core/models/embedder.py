"""The base of all networks: images and attributes in, embeddings out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ipad_core.backbones import Trunk
from ipad_core.feature_maps import FeatureMaps
from ipad_core.models.encoding import computing_in, encode_entries, entries_of, evaluating
from ipad_core.models.hub_model import HubModel
from ipad_core.models.images import ImageBatches, check_range
from ipad_core.models.recorded_options import recording
from ipad_core.models.schema import Words, checked_words
from ipad_core.models.value_posteriors import ValuePosteriors
from ipad_core.output import EmbeddingOutput
from ipad_core.weights import WeightsRecord


class AttributeEmbedder(nn.Module, HubModel):
    """Embeds (image, attribute) entries; the trunk runs once per image, whatever the number of its attributes.

    Subclasses set ``architecture`` (their registered name), build ``self.trunk`` or override the property, and implement
    :meth:`forward`; one with further trunks names them in :meth:`trunks`. Their constructors take JSON-able keyword
    arguments, which :attr:`options` records.

    Attributes:
        options: Arguments of the constructor.
        about: Facts for the model card, see :func:`model_card`: ``license``, ``dataset``, ``dataset_terms``, ``metrics``
            (name -> number) and ``metrics_command``. Saved along.
    """

    architecture: ClassVar[str]
    image_size: int
    options: dict[str, Any]
    about: dict[str, Any]
    _schema: Words | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.__init__ = recording(cls.__init__)

    def forward(
        self, images: Tensor | FeatureMaps, attribute_ids: Tensor, image_index: Tensor | None = None, **options: Any
    ) -> EmbeddingOutput:
        """Embed B entries over N images.

        Args:
            images: ``(N, 3, H, W)`` uint8 in [0, 255] or float in [0, 1], of any size; or what :meth:`keep` made of them.
                On a CPU other numbers are an error; elsewhere nobody looks, since that would wait for the device.
            attribute_ids: ``(B,)`` int64 or int32.
            image_index: ``(B,)`` image of each entry; None where entry i asks image i (B = N).
            options: Of the network.

        Raises:
            ValueError: shapes or types that do not fit; on a CPU, pixels, attributes or images outside their range.
        """
        raise NotImplementedError

    @torch.no_grad()
    def encode(
        self,
        images: Any,
        attribute_ids: Any = None,
        image_index: Any = None,
        batch_size: int = 64,
        *,
        attribute: int | str | None = None,
        attributes: Any = None,
        progress: bool = False,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        **options: Any,
    ) -> EmbeddingOutput:
        """Embed images for attributes in evaluation mode, without gradients; the trunk runs once per image.

        Inputs may lie on another device than the network; the answer lies on the network's.

        Args:
            images: Tensor, array, PIL image, path, a list of such (see :class:`ImageBatches`), or what :meth:`keep` answers.
            attribute_ids: ``(B,)`` numbers or names, one for each entry.
            image_index: ``(B,)`` image of each entry; None where entry i asks image i.
            batch_size: Images at a time.
            attribute: Instead of ``attribute_ids``, one number or name that every image is asked for.
            attributes: Instead, K numbers or names, or ``all``: the answer has N * K entries, those of the first image
                first; ``output.embedding.unflatten(0, (-1, K))`` has a row an image.
            progress: Show a bar.
            device: Where to compute; the network moves there, and stays. None: where it is.
            dtype: What to compute in: ``bfloat16`` or ``float16``, by autocast; the weights and the answer keep their types.
                None: that of the weights.
            options: Of the network's :meth:`forward`, e.g. ``maps=True``.

        Raises:
            ValueError: shapes that do not fit, an unknown name, an attribute or image out of range, nothing to embed,
                floats outside [0, 1], a ``batch_size`` below one, a ``dtype`` that is not to be had.
            TypeError, OSError: as :class:`ImageBatches`.
        """
        _check_batch_size(batch_size)
        if device is not None:
            self.to(device)
        opened = images if isinstance(images, FeatureMaps) else ImageBatches(images, self.detail_size)
        entries = entries_of(self, len(opened), attribute_ids, image_index, attribute, attributes)
        with evaluating(self), computing_in(self, dtype):
            return encode_entries(self, opened, *entries, batch_size, progress, options)

    @torch.no_grad()
    def keep(self, images: Any, batch_size: int = 64) -> FeatureMaps:
        """Run the trunk over images once; what it answers stands for them in every later call, for any attribute.

        Raises:
            ValueError, TypeError, OSError: as :meth:`encode`.
        """
        _check_batch_size(batch_size)
        opened, device = ImageBatches(images, self.detail_size), self.trunk.mean.device
        with evaluating(self):
            batches = [opened.take(i, i + batch_size).to(device) for i in range(0, len(opened), batch_size)]
            stages = zip(*(self.stage_maps(batch) for batch in batches), strict=True)
            return FeatureMaps([torch.cat(parts) for parts in stages], torch.cat(batches))

    @property
    def detail_size(self) -> int:
        """Side in pixels at which :meth:`encode` opens files; a second branch cuts its crops from larger images."""
        return 2 * self.image_size if "semantic" in self.branches else self.image_size

    @property
    def branches(self) -> tuple[str, ...]:
        """Which of the branches ``spatial`` and ``semantic`` the network has, both as modules of these names.

        Empty for a network that is not made of branches.
        """
        return tuple(name for name in ("spatial", "semantic") if getattr(self, name, None) is not None)

    @property
    def schema(self) -> Words | None:
        """Attribute name -> names of its values, in the order of their ids; None where nobody set it. Saved along."""
        return self._schema

    @schema.setter
    def schema(self, words: Mapping[str, Sequence[str]] | None) -> None:
        self._schema = checked_words(words, self.options["num_attributes"])

    @property
    def values(self) -> ValuePosteriors | None:
        """What puts probabilities of values into the embedding, where :meth:`set_values` gave it; saved along."""
        return self._modules.get("value_posteriors")

    def set_values(self, values: ValuePosteriors | None) -> None:
        """Put probabilities of values into every embedding of evaluation mode from now on, or, with None, no longer.

        Args:
            values: Fitted on embeddings of this network, as it is now; they move to the network's device.
        """
        if "value_posteriors" not in self._modules:
            self.register_forward_hook(_with_values, with_kwargs=True)
        self.register_module("value_posteriors", None if values is None else values.to(self.trunk.mean.device))

    def embedding_parts(self, width: int) -> tuple[int, ...]:
        """Widths of the parts, such as two branches, that an embedding of so many numbers has side by side."""
        return (width,)

    def is_whole(self, output: EmbeddingOutput) -> bool:
        """Whether an answer is of all branches; one of a part has no probabilities of values."""
        return True

    def stage_maps(self, images: Tensor) -> list[Tensor]:
        """The maps of the trunk's stages ``(N, C, h, w)``, before they are joined; what :class:`FeatureMaps` holds."""
        return self.trunk.stage_maps(self.trunk_input(self.normalized(images)))

    def feature_map(self, images: Tensor | FeatureMaps) -> Tensor:
        """The trunk's map ``(N, C, h, w)`` of images, or of what :meth:`keep` made of them."""
        if isinstance(images, FeatureMaps):
            dtype = next((tensor.dtype for tensor in self.trunk.parameters()), self.trunk.mean.dtype)
            return self.trunk.join([stage.to(dtype) for stage in images.stages])
        return self.trunk(self.trunk_input(self.normalized(images)))

    def normalized(self, images: Tensor) -> Tensor:
        """Float images with the trunk's mean and standard deviation taken out, at their own size."""
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images must be (N, 3, H, W), got {tuple(images.shape)}")
        if images.device.type == "cpu" and not torch.compiler.is_compiling():
            check_range(images, slack=0.01, allow_nan=True)  # training leaves a step out whose loss is not finite
        scale = 1.0 if images.is_floating_point() else 255.0
        return (images.to(self.trunk.mean.dtype) / scale - self.trunk.mean) / self.trunk.std

    def trunk_input(self, normalized: Tensor) -> Tensor:
        """The images at the trunk's ``image_size``."""
        size = (self.image_size, self.image_size)
        if tuple(normalized.shape[2:]) == size:
            return normalized
        dtype = torch.promote_types(
            normalized.dtype, torch.float32
        )  # there is no antialiasing in half precision on CPUs
        resized = F.interpolate(normalized.to(dtype), size=size, mode="bilinear", antialias=True, align_corners=False)
        return resized.to(normalized.dtype)

    def load_trunk(self, other: AttributeEmbedder) -> None:
        """Take over the trunk's weights of another network, e.g. one trained in stage 0.

        What they started from is taken over as well; :attr:`weights` then says that they went through that network
        (``via``).

        Raises:
            ValueError: the trunks differ.
        """
        try:
            self.trunk.take_over(other.trunk)
        except RuntimeError as error:
            raise ValueError(
                f"the trunk of {other.architecture!r} does not fit {self.architecture!r}: {error}"
            ) from None
        through = filter(None, (other.trunk.started_from.get("via"), other.architecture))
        self.trunk.started_from["via"] = ", ".join(through)

    def trunks(self) -> dict[str, Trunk]:
        """The networks of timm inside, by the name under which :attr:`weights` records what they started from."""
        return {"trunk": self.trunk}

    @property
    def weights(self) -> dict[str, WeightsRecord]:
        """What each of :meth:`trunks` started from, see :data:`ipad_core.weights.WeightsRecord`."""
        return {name: dict(trunk.started_from) for name, trunk in self.trunks().items()}


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")


def _with_values(
    model: AttributeEmbedder, inputs: tuple[Any, ...], options: dict[str, Any], output: EmbeddingOutput
) -> EmbeddingOutput:
    """After every forward pass: the answer with probabilities of values, where the model has them."""
    if model.values is None or model.training or not model.is_whole(output):
        return output
    return model.values.extend(output, inputs[1] if len(inputs) > 1 else options["attribute_ids"])
