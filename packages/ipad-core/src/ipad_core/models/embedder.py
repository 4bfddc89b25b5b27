"""The base of all networks: images and attributes in, embeddings out."""

from __future__ import annotations

import functools
import inspect
import json
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
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
from ipad_core.feature_maps import FeatureMaps
from ipad_core.models.encoding import encode_entries, entries_of, evaluating
from ipad_core.models.images import ImageBatches
from ipad_core.models.model_card import model_card
from ipad_core.models.saved_model import CARD, CONFIG, WEIGHTS, find_folder, read_config
from ipad_core.models.schema import Words, checked_words
from ipad_core.output import EmbeddingOutput
from ipad_core.weights import WeightsRecord


class AttributeEmbedder(nn.Module):
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
            self.options, self.about = recorded, {}

        cls.__init__ = recording

    def forward(
        self, images: Tensor | FeatureMaps, attribute_ids: Tensor, image_index: Tensor | None = None, **options: Any
    ) -> EmbeddingOutput:
        """Embed B entries over N images.

        Args:
            images: ``(N, 3, H, W)`` uint8 in [0, 255] or float in [0, 1], of any size; or what :meth:`keep` made of them.
            attribute_ids: ``(B,)``.
            image_index: ``(B,)`` image of each entry; None where entry i asks image i (B = N).
            options: Of the network.

        Raises:
            ValueError: shapes that do not fit.
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
            options: Of the network's :meth:`forward`, e.g. ``maps=True``.

        Raises:
            ValueError: shapes that do not fit, an unknown name, an attribute or image out of range, nothing to embed,
                floats outside [0, 1], a ``batch_size`` below one.
            TypeError, OSError: as :class:`ImageBatches`.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        opened = images if isinstance(images, FeatureMaps) else ImageBatches(images, self.detail_size)
        entries = entries_of(self, len(opened), attribute_ids, image_index, attribute, attributes)
        with evaluating(self):
            return encode_entries(self, opened, *entries, batch_size, progress, options)

    @torch.no_grad()
    def keep(self, images: Any, batch_size: int = 64) -> FeatureMaps:
        """Run the trunk over images once; what it answers stands for them in every later call, for any attribute.

        Raises:
            ValueError, TypeError, OSError: as :meth:`encode`.
        """
        opened, device = ImageBatches(images, self.detail_size), next(self.parameters()).device
        with evaluating(self):
            batches = [opened.take(i, i + batch_size).to(device) for i in range(0, len(opened), batch_size)]
            stages = zip(*(self.stage_maps(batch) for batch in batches), strict=True)
            return FeatureMaps([torch.cat(parts) for parts in stages], torch.cat(batches))

    @property
    def detail_size(self) -> int:
        """Side in pixels at which :meth:`encode` opens files; a second branch cuts its crops from larger images."""
        return 2 * self.image_size if getattr(self, "semantic", None) is not None else self.image_size

    @property
    def schema(self) -> Words | None:
        """Attribute name -> names of its values, in the order of their ids; None where nobody set it. Saved along."""
        return self._schema

    @schema.setter
    def schema(self, words: Mapping[str, Sequence[str]] | None) -> None:
        self._schema = checked_words(words, self.options["num_attributes"])

    def stage_maps(self, images: Tensor) -> list[Tensor]:
        """The maps of the trunk's stages ``(N, C, h, w)``, before they are joined; what :class:`FeatureMaps` holds."""
        return self.trunk.stage_maps(self.trunk_input(self.normalized(images)))

    def feature_map(self, images: Tensor | FeatureMaps) -> Tensor:
        """The trunk's map ``(N, C, h, w)`` of images, or of what :meth:`keep` made of them."""
        if isinstance(images, FeatureMaps):
            dtype = next(self.trunk.parameters()).dtype
            return self.trunk.join([stage.to(dtype) for stage in images.stages])
        return self.trunk(self.trunk_input(self.normalized(images)))

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
        """Write ``config.json``, ``model.safetensors`` and a model card ``README.md`` into a folder.

        Raises:
            ValueError: :attr:`about` holds a fact that the card does not know.
        """
        folder = Path(folder)
        card = model_card(self.architecture, self.options["num_attributes"], self.weights, self.schema, self.about)
        folder.mkdir(parents=True, exist_ok=True)
        config = {"architecture": self.architecture, "options": self.options, "weights": self.weights}
        config |= {"schema": self.schema} if self.schema else {}
        config |= {"about": self.about} if self.about else {}
        (folder / CONFIG).write_text(json.dumps(config, indent=1), encoding="utf-8")
        (folder / CARD).write_text(card, encoding="utf-8")
        tensors = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt", "architecture": self.architecture})

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        token: str | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        num_attributes: int | None = None,
        **changes: Any,
    ) -> AttributeEmbedder:
        """Read a network from a folder, or from the Hugging Face hub; it is in evaluation mode.

        No pretrained weights are looked for: the network's own are in the folder, and :attr:`weights` still says what
        they started from.

        Args:
            source: Folder of :meth:`save_pretrained`, or a hub repository ``owner/name``.
            revision: Branch, tag or commit of the repository.
            token: For a private repository; by default the one that the machine is logged in with.
            device: Where to put it.
            dtype: Of its weights, e.g. ``bfloat16``.
            num_attributes: For other attributes than it was trained for: where the number differs, the tensors that
                depend on it start anew, a warning names them, and the names of the attributes are forgotten.
            changes: Options to change, e.g. ``beta=0.5``; a ``trunk`` is merged over the saved one's.

        Raises:
            FileNotFoundError: the folder lacks ``config.json`` or ``model.safetensors``.
            ValueError: the files do not fit each other, or are not what they should be; an unknown ``dtype``.
        """
        kind = None if dtype is None else _floating(dtype)
        folder = find_folder(source, revision, token)
        config = read_config(folder)
        name, options = config["architecture"], config["options"]
        anew = num_attributes is not None and num_attributes != options.get("num_attributes")
        if anew:
            changes = {**cls.for_other_attributes(options), **changes, "num_attributes": num_attributes}
        try:
            model = create_model(name, **without_weights(overlay_options(options, changes)))
        except TypeError as error:
            if changes:
                raise
            raise ValueError(f"{folder / CONFIG} does not describe a {name!r}: {error}") from error
        if not isinstance(model, cls):
            raise ValueError(f"{folder} holds a {name!r}, which is no {cls.__name__}")
        try:
            tensors = load_file(folder / WEIGHTS)
            if anew:
                tensors |= _that_differ(model, tensors, num_attributes)
            model.load_state_dict(tensors)
        except (RuntimeError, SafetensorError) as error:
            raise ValueError(f"{folder / WEIGHTS} does not fit its {CONFIG}: {error}") from None
        for part, trunk in model.trunks().items():
            trunk.started_from = config["weights"].get(part) or {**trunk.started_from, "source": "unknown"}
        model.about = {} if anew else config["about"]
        try:
            model.schema = None if anew else config["schema"]
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{folder / CONFIG}: {error}") from None
        return model.to(device=device, dtype=kind).eval()

    @staticmethod
    def for_other_attributes(options: dict[str, Any]) -> dict[str, Any]:
        """Changes of saved options that another number of attributes brings with it."""
        return {"width": 0} if "width" in options else {}  # a lens is then to be fitted again

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


def _floating(dtype: str | torch.dtype) -> torch.dtype:
    kind = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(kind, torch.dtype) or not kind.is_floating_point:
        raise ValueError(f"dtype must be a floating type such as 'bfloat16' or torch.float16, got {dtype!r}")
    return kind


def _that_differ(model: nn.Module, tensors: dict[str, Tensor], num_attributes: int) -> dict[str, Tensor]:
    """The model's own tensors where the saved ones have another shape, with a warning that names them."""
    own = model.state_dict()
    differing = {
        name: own[name] for name, tensor in tensors.items() if name in own and own[name].shape != tensor.shape
    }
    warnings.warn(
        f"num_attributes={num_attributes} is not what the model was saved with: these tensors start anew and have to be "
        f"trained: {', '.join(differing) or 'none'}",
        stacklevel=3,
    )
    return differing


def check_entries(images: Tensor | FeatureMaps, attribute_ids: Tensor, image_index: Tensor | None) -> Tensor:
    """The image index, after checking the shapes.

    Raises:
        ValueError: shapes that do not fit.
    """
    if attribute_ids.ndim != 1:
        raise ValueError(f"attribute_ids must be (B,), got {tuple(attribute_ids.shape)}")
    if image_index is None:
        count, entries = images.shape[0], attribute_ids.shape[0]  # len() would fix the number in a traced graph
        if entries != count:
            raise ValueError(
                f"without image_index every image has one entry: got {count} images and {entries} attribute_ids"
            )
        return torch.arange(count, device=images.device)
    if image_index.shape != attribute_ids.shape:
        raise ValueError(f"image_index must be {tuple(attribute_ids.shape)}, got {tuple(image_index.shape)}")
    return image_index
