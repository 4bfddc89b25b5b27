"""Readings of the equations and ablations of section 4.3 in other runtimes: the graph has other operations in each."""

from __future__ import annotations

import onnxruntime
import pytest
import torch

from ipad_core import create_model, export_onnx, export_program

SOFT = {"suppression": "soft", "suppression_ratio": [0.2, 0.3, 0.4]}
TOKENS = {"semantic_trunk": {"name": "hybrid", "options": {"embed_dim": 16, "depth": 1, "num_heads": 2}}}
ALONE = {"semantic": False}  # of IP-SP, whose options these are
EVERYTHING = {"background": True, "maps": True}
# Options of the network, and of its forward pass.
VARIANTS = {
    # Of two rounds: in later ones positions differ so little that rounding decides which of them are masked.
    "the paper's text, beta 1": ({"reading": "literal", "iterations": 2, "beta": 1.0}, EVERYTHING),
    "the public code": ({**ALONE, "reading": "public_code"}, EVERYTHING),
    "a query that moves": ({**ALONE, "reading": "mlp_xy"}, EVERYTHING),
    "raw keys, scaled, residual": (
        {**ALONE, "attention": {"normalize_keys": False, "carry": "scaled", "query": "residual"}}, {},
    ),
    "a kept peak, pooled": (
        {**ALONE, "attention": {"suppression": "keep_peak", "query": "pooled", "output": "query"}}, {},
    ),
    "three queries, one round": ({**ALONE, "iterations": 1, "attention": {"num_queries": 3}}, {}),
    "without ISA": ({**ALONE, "attention": {**SOFT, "spatial": False}}, {}),
    "without ICA": ({**ALONE, "attention": {**SOFT, "channel": False}}, {}),
    "without SP": ({"spatial": False}, {}),
    "ten rounds": ({**ALONE, "iterations": 10}, {}),
    "beta 0, side by side": ({"beta": 0.0, "fusion": "concat"}, {}),
}  # fmt: skip


def questions(size):
    """Images and entries in several numbers."""
    generator = torch.Generator().manual_seed(3)
    for images, entries in ((1, 1), (2, 2), (5, 5), (2, 5), (5, 1)):
        asked = torch.arange(entries)
        yield (
            torch.randint(0, 256, (images, 3, size, size), generator=generator, dtype=torch.uint8),
            asked % 2,
            asked % images,
        )


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # torch's exporter about torch
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_exported_for_any_number_of_images_and_entries(small_trunk, tmp_path, variant):
    options, asked = VARIANTS[variant]
    sizes = {"embed_dim": 16, "latent_dim": 8, "crop_size": 32, "semantic_heads": 2, **TOKENS, **small_trunk}
    model = create_model("ipad", num_attributes=2, **{**sizes, "image_size": 64, **options}).eval()
    program = export_program(model, **asked).module()
    names = export_onnx(model, tmp_path / "model.onnx", **asked)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for question in questions(model.detail_size):
        given = zip(("images", "attribute_ids", "image_index"), (tensor.numpy() for tensor in question), strict=True)
        answers = session.run(None, dict(given))
        with torch.no_grad():
            expected = model(*question, **asked)
            exported = program(*question)
        for name, answer, other in zip(names, answers, exported, strict=True):
            for each in (torch.from_numpy(answer), other):
                torch.testing.assert_close(each, getattr(expected, name), atol=1e-4, rtol=1e-3, msg=name)
