"""A run's model for other runtimes, checked against the model itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ipad_core import AttributeEmbedder, export_onnx, export_program
from ipad_core.export import INPUTS, Exportable
from ipad_train.checkpoint import write_json
from ipad_train.config_files import load_run_config
from ipad_train.run_folder import RunFolder
from ipad_train.vectors import reads_vectors

FORMATS = {"onnx": "model.onnx", "torch": "model.pt2"}
_CHECKED = ((1, 1), (2, 2), (5, 5), (2, 5), (5, 1))  # images, entries
_TOLERANCE = 1e-3  # of unit-length embeddings; kernels of another runtime sum in another order


class ExportMismatchError(RuntimeError):
    """An exported model answers something else than the model that it was made from."""


def export_run(
    run_dir: Path, out: Path | None, formats: Sequence[str], announce: Callable[[str], None], branch: str = "both"
) -> Path:
    """Write the model that a run delivers as ONNX and ``torch.export`` files, and ``export.json`` beside them.

    Every file is read back and asked with 1, 2 and 5 images and entries; it must answer what the model answers.

    Args:
        run_dir: Folder of a run.
        out: Folder to write into; ``export`` in the run when None.
        formats: Of ``FORMATS``.
        announce: Receives lines for the user.
        branch: ``both``, or ``spatial`` to leave a second branch out.

    Returns:
        The folder. ``export.json`` has the side of the images (null for vectors), names of inputs and outputs, the
        attributes and their values, and the largest difference that was found.

    Raises:
        FileNotFoundError: the folder is no run, or holds no model yet.
        ValueError: an unknown format, or a branch that the model does not have.
        ImportError: onnx, onnxscript or onnxruntime is not installed.
        ExportMismatchError: a file answers something else; it is deleted.
    """
    for name in formats:
        if name not in FORMATS:
            raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {name!r}")
    config = load_run_config(run_dir)
    if "onnx" in formats:
        _onnxruntime()
    model = AttributeEmbedder.from_pretrained(RunFolder(run_dir).best)
    if branch == "spatial" and len(model.branches) < 2:
        raise ValueError(f"branch spatial is one of two, and the model in {run_dir / 'best'} has one")
    options = {"branches": branch} if branch != "both" else {}
    folder, side = out or RunFolder(run_dir).export, config.data.detail_size
    folder.mkdir(parents=True, exist_ok=True)
    facts: dict[str, Any] = {
        "architecture": model.architecture,
        "image_size": None if reads_vectors(model) else side,
        "inputs": list(INPUTS),
        "outputs": Exportable(model, **options).names,
        "attributes": model.schema,
        "files": {},
    }
    for name in formats:
        path = folder / FORMATS[name]
        if name == "onnx":
            export_onnx(model, path, side, **options)
            answer = _onnx_answer(path)
        else:
            torch.export.save(export_program(model, side, **options), path)
            answer = _program_answer(path)
        worst = _largest_difference(model, answer, side, options)
        if not worst <= _TOLERANCE:
            path.unlink()
            raise ExportMismatchError(
                f"{path} answered embeddings that differ from the model's by {worst:.2g}, more than {_TOLERANCE:g}; it is "
                "deleted"
            )
        facts["files"][FORMATS[name]] = {"largest_difference": worst}
        announce(f"{path}: {path.stat().st_size / 2**20:.1f} MiB, differs from the model by {worst:.1e} at most")
    write_json(folder / "export.json", facts)
    return folder


Answer = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def _largest_difference(model: AttributeEmbedder, answer: Answer, side: int, options: dict[str, Any]) -> float:
    worst, original = 0.0, Exportable(model, **options)
    with torch.no_grad():
        for question in _questions(model, side):
            expected = original.answer(*question).embedding
            worst = max(worst, float((answer(*question) - expected).abs().max()))
    return worst


def _questions(model: AttributeEmbedder, side: int) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    for images, entries in _CHECKED:
        drawn = torch.randint(0, 256, (images, 3, side, side), generator=generator, dtype=torch.uint8)
        if reads_vectors(model):
            drawn = torch.rand(images, model.trunk.num_features, generator=generator)
        asked = torch.arange(entries)
        yield drawn, asked % model.options["num_attributes"], asked % images


def _program_answer(path: Path) -> Answer:
    program = torch.export.load(path).module()
    return lambda *question: program(*question)[0]


def _onnx_answer(path: Path) -> Answer:
    session = _onnxruntime().InferenceSession(path, providers=["CPUExecutionProvider"])

    def answer(*question: torch.Tensor) -> torch.Tensor:
        given = dict(zip(INPUTS, (tensor.numpy() for tensor in question), strict=True))
        return torch.from_numpy(np.asarray(session.run(["embedding"], given)[0]))

    return answer


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError('ONNX files are checked with onnxruntime: pip install "ipad-train[export]"') from error
    return onnxruntime
