"""The base of all networks: images and attributes in, embeddings out."""

from __future__ import annotations

import functools
import inspect
import itertools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch
from huggingface_hub import HfApi
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from ipad_core._registry import create_model
from ipad_core.backbones import TRUNK_ARGUMENTS, Trunk, overlay_options, trunk_mapping, without_weights
from ipad_core.models.model_card import model_card
from ipad_core.models.saved_model import CARD, CONFIG, WEIGHTS, find_folder, read_config
from ipad_core.output import EmbeddingOutput
from ipad_core.weights import WeightsRecord


class AttributeEmbedder(nn.Module):
    """Embeds (image, attribute) entries; the trunk runs once per image, whatever the number of its attributes.

    Subclasses set ``architecture`` (their registered name), build ``self.trunk`` or override the property, and implement
    :meth:`forward`; one with further trunks names them in :meth:`trunks`. Their constructors take JSON-able keyword
    arguments, which :attr:`options` records.
    """

    architecture: ClassVar[str]
    image_size: int
    options: dict[str, Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        original = cls.__init__

        @functools.wraps(original)
        def recording(self: AttributeEmbedder, *args: Any, **options: Any) -> None:
            recorded = _arguments(original, self, args, options)
            for argument in set(TRUNK_ARGUMENTS) & set(recorded):
                recorded[argument] = trunk_mapping(recorded[argument], argument)
            try:  # a copy, in the form that comes back from config.json
                recorded = json.loads(json.dumps(recorded))
            except TypeError as error:
                raise TypeError(f"the options of {cls.__name__} must fit into JSON: {error}") from None
            original(self, *args, **options)
            self.options = recorded

        cls.__init__ = recording

    def forward(
        self, images: Tensor, attribute_ids: Tensor, image_index: Tensor | None = None, **options: Any
    ) -> EmbeddingOutput:
        """Embed B entries over N images.

        Args:
            images: ``(N, 3, H, W)`` uint8 in [0, 255] or float in [0, 1], of any size.
            attribute_ids: ``(B,)``.
            image_index: ``(B,)`` image of each entry; None where entry i asks image i (B = N).
            options: Of the network; all take ``feature_map``, see :meth:`feature_map`.

        Raises:
            ValueError: shapes that do not fit.
        """
        raise NotImplementedError

    @torch.no_grad()
    def encode(
        self, images: Tensor, attribute_ids: Tensor, image_index: Tensor | None = None, batch_size: int = 64
    ) -> EmbeddingOutput:
        """Embed entries in evaluation mode, without gradients, ``batch_size`` images at a time.

        Inputs may lie on another device than the network; the answer lies on the network's.

        Raises:
            ValueError: shapes that do not fit, an attribute id or image index out of range, nothing to embed, a
                ``batch_size`` below one.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if image_index is None:
            image_index = torch.arange(len(images), device=images.device)
        check_entries(images, attribute_ids, image_index)
        if not len(attribute_ids):
            raise ValueError("attribute_ids is empty: there is nothing to embed")
        for name, ids, count in (
            ("attribute_ids", attribute_ids, self.options["num_attributes"]), ("image_index", image_index, len(images)),
        ):  # fmt: skip
            if not (int(ids.min()) >= 0 and int(ids.max()) < count):
                raise ValueError(f"{name} must be within [0, {count}), got {int(ids.min())} to {int(ids.max())}")
        device = next(self.parameters()).device
        order = image_index.argsort(stable=True)
        bounds = torch.searchsorted(image_index[order], torch.arange(0, len(images) + batch_size, batch_size,
                                                                     device=image_index.device)).tolist()  # fmt: skip
        modes = [(module, module.training) for module in self.modules()]  # a frozen part may be in evaluation mode
        self.eval()
        try:
            outputs = []
            for chunk, (first, last) in enumerate(itertools.pairwise(bounds)):
                entries, start = order[first:last], chunk * batch_size
                if len(entries):
                    part = images[start : start + batch_size].to(device)
                    ids, index = attribute_ids[entries].to(device), (image_index[entries] - start).to(device)
                    outputs.append(self(part, ids, index))
        finally:
            for module, training in modes:
                module.training = training
        back = order.argsort().to(device)
        joined = {}
        for name in EmbeddingOutput.__dataclass_fields__:
            parts = [getattr(output, name) for output in outputs]
            joined[name] = None if parts[0] is None else torch.cat(parts)[back]
        return EmbeddingOutput(**joined)

    def normalized(self, images: Tensor) -> Tensor:
        """Float images with the trunk's mean and standard deviation taken out, at their own size."""
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images must be (N, 3, H, W), got {tuple(images.shape)}")
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

    def feature_map(self, images: Tensor) -> Tensor:
        """``(N, C, h, w)`` map of the trunk. Kept, it can be asked again: ``forward(images, ..., feature_map=kept)``."""
        return self.trunk(self.trunk_input(self.normalized(images)))

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

    # -- saving ----------------------------------------------------------------------------------------------------

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json``, ``model.safetensors`` and a model card ``README.md`` into a folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {"architecture": self.architecture, "options": self.options, "weights": self.weights}
        (folder / CONFIG).write_text(json.dumps(config, indent=1), encoding="utf-8")
        card = model_card(self.architecture, self.options["num_attributes"], self.weights)
        (folder / CARD).write_text(card, encoding="utf-8")
        save_file({name: tensor.contiguous() for name, tensor in self.state_dict().items()}, folder / WEIGHTS)

    @classmethod
    def from_pretrained(cls, source: str | Path, **changes: Any) -> AttributeEmbedder:
        """Read a network from a folder, or from the Hugging Face hub; it is in evaluation mode.

        No pretrained weights are looked for: the network's own are in the folder, and :attr:`weights` still says what
        they started from.

        Args:
            source: Folder of :meth:`save_pretrained`, or a hub repository ``owner/name``.
            changes: Options to change, e.g. ``beta=0.5``; a ``trunk`` is merged over the saved one's.

        Raises:
            FileNotFoundError: the folder lacks ``config.json`` or ``model.safetensors``.
            ValueError: the files do not fit each other, or are not what they should be.
        """
        folder = find_folder(source)
        config = read_config(folder)
        name = config["architecture"]
        try:
            model = create_model(name, **without_weights(overlay_options(config["options"], changes)))
        except TypeError as error:
            if changes:
                raise
            raise ValueError(f"{folder / CONFIG} does not describe a {name!r}: {error}") from error
        if not isinstance(model, cls):
            raise ValueError(f"{folder} holds a {name!r}, which is no {cls.__name__}")
        try:
            model.load_state_dict(load_file(folder / WEIGHTS))
        except (RuntimeError, SafetensorError) as error:
            raise ValueError(f"{folder / WEIGHTS} does not fit its {CONFIG}: {error}") from None
        for part, trunk in model.trunks().items():
            trunk.started_from = config["weights"].get(part) or {**trunk.started_from, "source": "unknown"}
        return model.eval()

    def push_to_hub(self, repo_id: str, *, private: bool = False, token: str | None = None) -> str:
        """Upload to the Hugging Face hub; returns the address. A card that the repository has already stays."""
        api = HfApi(token=token)
        address = api.create_repo(repo_id, private=private, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            kept = [CARD] if api.file_exists(repo_id, CARD) else None
            api.upload_folder(repo_id=repo_id, folder_path=folder, ignore_patterns=kept)
        return str(address)


def _arguments(init: Callable[..., None], self: Any, args: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a constructor by name, defaults and the content of its ``**options`` among them."""
    signature = inspect.signature(init)
    bound = signature.bind(self, *args, **options)
    bound.apply_defaults()
    arguments = dict(list(bound.arguments.items())[1:])
    for name, parameter in signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            arguments |= arguments.pop(name)
        elif parameter.kind is inspect.Parameter.VAR_POSITIONAL and arguments.pop(name):
            raise TypeError(f"arguments of a network are saved by name; *{name} has none")
    return arguments


def check_entries(images: Tensor, attribute_ids: Tensor, image_index: Tensor | None) -> Tensor:
    """The image index, after checking the shapes.

    Raises:
        ValueError: shapes that do not fit.
    """
    if attribute_ids.ndim != 1:
        raise ValueError(f"attribute_ids must be (B,), got {tuple(attribute_ids.shape)}")
    if image_index is None:
        if len(attribute_ids) != len(images):
            raise ValueError(
                f"without image_index every image has one entry: got {len(images)} images and {len(attribute_ids)} "
                "attribute_ids"
            )
        return torch.arange(len(images), device=images.device)
    if image_index.shape != attribute_ids.shape:
        raise ValueError(f"image_index must be {tuple(attribute_ids.shape)}, got {tuple(image_index.shape)}")
    return image_index
