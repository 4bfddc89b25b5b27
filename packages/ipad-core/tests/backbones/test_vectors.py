from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

from ipad_core import AttributeEmbedder, FeatureMaps, create_model, export_onnx, export_program

TRUNK = {"name": "vectors", "options": {"dim": 6}}
SIZES = {"embed_dim": 5, "latent_dim": 4}
HEADS = {
    "triplet": {"embed_dim": 5},
    "csn": {"embed_dim": 5},
    "asen": SIZES,
    "asen_v2": SIZES,
    "attn_fashion": SIZES,
    "isln": SIZES,
    "haen": SIZES,
    "ipad": {**SIZES, "semantic": False},
    "lens": {},
    "attribute_classifier": {"num_values": [2, 3]},
}
VECTORS = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", HEADS)
def test_every_head_reads_vectors_and_comes_back(name, tmp_path):
    model = create_model(name, num_attributes=2, trunk=TRUNK, **HEADS[name])
    kept = FeatureMaps.from_vectors(VECTORS.numpy())
    output = model.encode(kept, attributes="all")
    assert output.embedding.shape[0] == 8
    assert output.embedding.isfinite().all()
    model.save_pretrained(tmp_path)
    again = AttributeEmbedder.from_pretrained(tmp_path)
    torch.testing.assert_close(again.encode(kept, attributes="all").embedding, output.embedding)
    assert again.weights["trunk"]["source"] == "vectors"


@pytest.mark.parametrize("name", [name for name in HEADS if name != "lens"])
def test_heads_on_vectors_learn(name):
    model = create_model(name, num_attributes=2, trunk=TRUNK, **HEADS[name])
    embedding = model(FeatureMaps.from_vectors(VECTORS), torch.tensor([0, 1, 0, 1])).embedding
    (embedding * torch.randn(embedding.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_a_lens_on_vectors_is_the_lens_on_their_numbers():
    values = torch.tensor([0, 0, 1, 1])
    model = create_model("lens", num_attributes=1, trunk=TRUNK)
    model.fit(VECTORS, range(4), torch.zeros(4, dtype=torch.long), values)
    found = model.encode(FeatureMaps.from_vectors(VECTORS), attribute=0).embedding
    expected = model.project(VECTORS, torch.arange(4), torch.zeros(4, dtype=torch.long))
    torch.testing.assert_close(found, expected)


def questions():
    """Vectors and entries in several numbers."""
    for count, entries in ((1, 1), (2, 2), (5, 5), (2, 5), (5, 1)):
        asked = torch.arange(entries)
        yield torch.rand(count, 6), asked % 2, asked % count


@pytest.mark.parametrize("name", HEADS)
def test_heads_are_exported_for_any_number_of_vectors(name):
    model = create_model(name, num_attributes=2, trunk=TRUNK, **HEADS[name]).eval()
    program = export_program(model).module()
    for vectors, *entries in questions():
        with torch.no_grad():
            expected = model(FeatureMaps.from_vectors(vectors), *entries).embedding
        torch.testing.assert_close(program(vectors, *entries)[0], expected)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # torch's exporter about torch
def test_a_head_as_an_onnx_file(tmp_path):
    model = create_model("asen_v2", num_attributes=2, trunk=TRUNK, **HEADS["asen_v2"]).eval()
    export_onnx(model, tmp_path / "head.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "head.onnx", providers=["CPUExecutionProvider"])
    for vectors, *entries in questions():
        given = zip(("images", "attribute_ids", "image_index"), (vectors, *entries), strict=True)
        answer = session.run(["embedding"], {name: tensor.numpy() for name, tensor in given})[0]
        with torch.no_grad():
            expected = model(FeatureMaps.from_vectors(vectors), *entries).embedding
        torch.testing.assert_close(torch.from_numpy(answer), expected, atol=1e-5, rtol=1e-4)


def test_what_is_not_vectors():
    model = create_model("csn", num_attributes=1, embed_dim=5, trunk=TRUNK)
    with pytest.raises(ValueError, match="this network reads vectors of 6 numbers, not images"):
        model(torch.rand(2, 3, 8, 8), torch.tensor([0, 0]))
    with pytest.raises(ValueError, match=r"vectors must be \(N, 6\)"):
        model(FeatureMaps.from_vectors(torch.rand(2, 7)), torch.tensor([0, 0]))
    with pytest.raises(ValueError, match=r"vectors must be \(N, C\) floats, got torch.int64 \(2, 7\)"):
        FeatureMaps.from_vectors(np.zeros((2, 7), dtype=np.int64))
    for name in ("ipad", "rpf", "asen_pp"):
        with pytest.raises(
            ValueError, match=r"the trunk 'vectors' has no images, .* with semantic=False, or give a network"
        ):
            create_model(name, num_attributes=1, trunk=TRUNK)
        create_model(name, num_attributes=1, trunk=TRUNK, semantic=False)
    for trunk in ({"name": "vectors"}, {**TRUNK, "pretrained": True}, {"name": "vectors", "options": {"width": 3}}):
        with pytest.raises(TypeError, match="the trunk 'vectors' takes options"):
            create_model("csn", num_attributes=1, trunk=trunk)
    with pytest.raises(ValueError, match="dim must be a positive whole number, got 0"):
        create_model("csn", num_attributes=1, trunk={"name": "vectors", "options": {"dim": 0}})
