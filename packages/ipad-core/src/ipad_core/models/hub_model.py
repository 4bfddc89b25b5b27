"""Networks in folders and on the Hugging Face hub: ``config.json``, ``model.safetensors``, and a card."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub import HfApi, ModelHubMixin
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ipad_core._registry import create_model
from ipad_core.backbones import overlay_options, without_weights
from ipad_core.models.encoding import floating_type
from ipad_core.models.model_card import model_card
from ipad_core.models.saved_model import CARD, CONFIG, WEIGHTS, find_folder, read_config
from ipad_core.models.value_posteriors import ValuePosteriors


class HubModel(ModelHubMixin):
    """Saving, loading and pushing of a network that is an :class:`ipad_core.AttributeEmbedder`.

    What writes files and talks to the hub is huggingface_hub's mixin.
    """

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """Write ``config.json``, ``model.safetensors`` and a model card ``README.md`` into a folder.

        The header of the weights holds the configuration as well, as ``config``. Options are those of
        ``ModelHubMixin.save_pretrained``, such as ``push_to_hub=True``.

        Raises:
            ValueError: ``about`` holds a fact that the card does not know; nothing is written.
        """
        self._card()
        return super().save_pretrained(save_directory, **options)

    def _card(self) -> str:
        share = self.values.share if self.values else None
        count = self.options["num_attributes"]
        return model_card(self.architecture, count, self.weights, self.schema, self.about, share)

    def _save_pretrained(self, save_directory: Path) -> None:
        config = {"architecture": self.architecture, "options": self.options, "weights": self.weights}
        config |= {"schema": self.schema} if self.schema else {}
        config |= {"about": self.about} if self.about else {}
        config |= {"values": self.values.facts} if self.values else {}
        (save_directory / CONFIG).write_text(json.dumps(config, indent=1), encoding="utf-8")
        (save_directory / CARD).write_text(self._card(), encoding="utf-8")
        tensors = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        metadata = {"format": "pt", "library": "ipad-core", "architecture": self.architecture}
        save_file(tensors, save_directory / WEIGHTS, metadata={**metadata, "config": json.dumps(config)})

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload to the Hugging Face hub, with the options of ``ModelHubMixin.push_to_hub``: ``private``, ``token``, ...

        A card that the repository has already stays.

        Returns:
            The address of the commit.
        """
        if HfApi(token=options.get("token")).file_exists(repo_id, CARD, revision=options.get("branch")):
            ignored = options.pop("ignore_patterns", None) or []
            options["ignore_patterns"] = [*([ignored] if isinstance(ignored, str) else ignored), CARD]
        return super().push_to_hub(repo_id, **options)

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
    ) -> Self:
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
                depend on it start anew, a warning names them, and the names of the attributes are forgotten. Options with
                an entry for each attribute, such as HAEN's ``types``, are to be given along.
            changes: Options to change, e.g. ``beta=0.5``; a ``trunk`` is merged over the saved one's.

        Raises:
            FileNotFoundError: the folder lacks ``config.json`` or ``model.safetensors``.
            ValueError: the files do not fit each other, or are not what they should be; an unknown ``dtype``.

        Probabilities of values, see :meth:`set_values`, are left out with a warning where anything is changed.
        """
        kind = None if dtype is None else floating_type(dtype)
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
            if config["values"] is not None and not (anew or changes):
                model.set_values(ValuePosteriors(**config["values"]))
            elif config["values"] is not None:
                tensors = _without_values(tensors, changes)
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


def _without_values(tensors: dict[str, Tensor], changes: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors without those of :class:`ValuePosteriors`, which belong to the model as it was saved, with a warning."""
    warnings.warn(
        f"the probabilities of values were fitted on this model without {', '.join(changes)}; they are left out, fit them "
        "again with ValuePosteriors",
        stacklevel=3,
    )
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("value_posteriors.")}


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
