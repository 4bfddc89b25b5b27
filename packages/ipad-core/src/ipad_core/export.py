"""Networks for other runtimes: ``torch.export`` and ONNX, with any number of images and of entries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ipad_core.backbones.vectors import Vectors
from ipad_core.feature_maps import FeatureMaps
from ipad_core.models.embedder import AttributeEmbedder
from ipad_core.models.encoding import evaluating
from ipad_core.output import EmbeddingOutput

INPUTS = ("images", "attribute_ids", "image_index")


class Exportable(nn.Module):
    """A network as a function of three tensors to a tuple of tensors, the fields of its answer that are not None.

    Args:
        model: The network.
        options: Of its ``forward``, e.g. ``branches="spatial"``.

    Attributes:
        names: Of the tensors that it answers, ``embedding`` first.
    """

    def __init__(self, model: AttributeEmbedder, **options: Any) -> None:
        super().__init__()
        self.model, self.options = model, options
        with torch.no_grad(), evaluating(model):
            output = self.answer(*example_inputs(model))
        self.names = [name for name in output.__dataclass_fields__ if getattr(output, name) is not None]

    def forward(self, images: Tensor, attribute_ids: Tensor, image_index: Tensor) -> tuple[Tensor, ...]:
        output = self.answer(images, attribute_ids, image_index)
        return tuple(getattr(output, name) for name in self.names)

    def answer(self, images: Tensor, attribute_ids: Tensor, image_index: Tensor) -> EmbeddingOutput:
        """Of the network, which may read vectors in place of images."""
        given = FeatureMaps.from_vectors(images) if isinstance(self.model.trunk, Vectors) else images
        return self.model(given, attribute_ids, image_index, **self.options)


def example_inputs(model: AttributeEmbedder, size: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Two images, or vectors, and three entries. (Tracing takes a size of one for a constant.)"""
    device, side = model.trunk.mean.device, size or model.detail_size
    images = torch.zeros(2, 3, side, side, dtype=torch.uint8, device=device)
    if isinstance(model.trunk, Vectors):
        images = torch.zeros(2, model.trunk.num_features, device=device)
    return images, torch.zeros(3, dtype=torch.long, device=device), torch.tensor([0, 1, 1], device=device)


def export_program(model: AttributeEmbedder, size: int | None = None, **options: Any) -> torch.export.ExportedProgram:
    """The network by ``torch.export``, as :class:`Exportable`, in evaluation mode.

    Args:
        model: The network.
        size: Side of the uint8 images that it will take, px; by default :attr:`AttributeEmbedder.detail_size`. Their number
            and that of the entries stay free. A network that reads vectors takes ``(N, C)`` float32 under the same name.
        options: Of its ``forward``.

    Example:
        >>> program = export_program(create_model("csn_tiny", num_attributes=2))
        >>> embedding, *_ = program.module()(images, attribute_ids, image_index)
    """
    entries = {0: torch.export.Dim("entries", min=1)}
    shapes = {"images": {0: torch.export.Dim("images", min=1)}, "attribute_ids": entries, "image_index": entries}
    with torch.no_grad(), evaluating(model):
        exportable = Exportable(model, **options).eval()
        return torch.export.export(exportable, example_inputs(model, size), dynamic_shapes=shapes)


def export_onnx(model: AttributeEmbedder, path: str | Path, size: int | None = None, **options: Any) -> list[str]:
    """Write the network as an ONNX file with the inputs ``images``, ``attribute_ids`` and ``image_index``.

    Args:
        model, size, options: As in :func:`export_program`.
        path: Where to; a file that is there is overwritten.

    Returns:
        Names of the outputs, ``embedding`` first.

    Raises:
        ImportError: onnx or onnxscript is not installed.
    """
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError('ONNX files need more packages: pip install "ipad-core[onnx]"') from error
    program = export_program(model, size, **options)
    names = Exportable(model, **options).names
    written = torch.onnx.export(program, input_names=list(INPUTS), output_names=names, dynamo=True, verbose=False)
    outputs = {id(value) for value in written.model.graph.outputs}
    for node in written.model.graph:
        for value in node.outputs:
            if value.name in names and id(value) not in outputs:  # a step inside that happens to have an output's name
                value.name = f"{value.name}_inside"
    written.save(str(path))
    return names
