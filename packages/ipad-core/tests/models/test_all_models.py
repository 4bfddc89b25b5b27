"""What holds for every registered network."""

from __future__ import annotations

import dataclasses
import json

import onnxruntime
import pytest
import torch

from ipad_core import (
    AttributeEmbedder,
    EmbeddingOutput,
    FeatureMaps,
    create_model,
    export_onnx,
    export_program,
    list_models,
)

ATTRIBUTES = 3
IMAGES = torch.randint(0, 256, (4, 3, 48, 48), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
IMAGE_INDEX = torch.tensor([0, 0, 1, 2, 3, 3, 3])
ATTRIBUTE_IDS = torch.tensor([0, 2, 1, 1, 0, 1, 2])

every_model = pytest.mark.parametrize("name", list_models())
PRESETS = ("_tiny", "_vitb16")  # architectures with other sizes
every_architecture = pytest.mark.parametrize("name", [name for name in list_models() if not name.endswith(PRESETS)])
every_trained_model = pytest.mark.parametrize("name", [name for name in list_models() if name != "lens"])


@pytest.fixture
def make(small_trunk):
    """Function that builds a network at sizes that take milliseconds, whatever its own are."""

    def build(name, **options):
        attention = {"embed_dim": 16, "latent_dim": 8}
        crops = {"crop_size": 32}
        vit = {"name": "vit_tiny_patch16_224", "options": {"embed_dim": 16, "depth": 1, "num_heads": 2}}
        hybrid = {**vit, "name": "hybrid"}
        tokens = {"semantic_heads": 2, "semantic_trunk": hybrid if name.endswith("tiny") else vit}
        sizes = {
            "ipad": {**attention, **crops, **tokens},
            "rpf": {**attention, **crops, **tokens, "attribute_dim": 12},
            "asen_pp": {**attention, **crops},
            "asen": attention,
            "attn_fashion": attention,
            "isln": attention,
            "haen": {**attention, "types": [0, 1, 0]},
            "attribute_classifier": {"num_values": [2, 3, 4]},
            "lens": {},
            "triplet": {"embed_dim": 16},
            "csn": {"embed_dim": 16},
        }
        options = {**next(own for start, own in sizes.items() if name.startswith(start)), **options}
        return create_model(name, num_attributes=ATTRIBUTES, **{**small_trunk, **options})

    return build


def tensors(output):
    return {f.name: getattr(output, f.name) for f in dataclasses.fields(output) if getattr(output, f.name) is not None}


def assert_same(first, second, exactly=True):
    first, second = tensors(first), tensors(second)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        if exactly:
            assert torch.equal(tensor, second[name]), name
        else:
            torch.testing.assert_close(tensor, second[name], atol=1e-5, rtol=1e-4)


@every_model
def test_shapes(make, name):
    output = make(name)(IMAGES, ATTRIBUTE_IDS, IMAGE_INDEX)
    assert isinstance(output, EmbeddingOutput)
    assert output.embedding.ndim == 2
    assert output.embedding.dtype == torch.float32
    torch.testing.assert_close(output.embedding.norm(dim=1), torch.ones(7))
    for name_, tensor in tensors(output).items():
        assert len(tensor) == 7, name_
        assert tensor.isfinite().all(), name_


@every_trained_model
def test_gradient_reaches_every_trainable_parameter(make, name):
    model = make(name)
    with torch.no_grad():  # timm starts residual branches at zero, which keeps gradients from what lies before
        for parameter in model.parameters():
            if not parameter.any():
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    generator = torch.Generator().manual_seed(2)
    output = model(IMAGES, ATTRIBUTE_IDS, IMAGE_INDEX)
    (output.embedding * torch.randn(output.embedding.shape, generator=generator)).sum().backward()
    missing = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not missing
    assert all(p.grad.isfinite().all() for p in model.parameters())


@every_model
def test_evaluation_is_deterministic_and_does_not_look_at_the_rest_of_the_batch(make, name):
    model = make(name).eval()
    with torch.no_grad():
        output = model(IMAGES, ATTRIBUTE_IDS, IMAGE_INDEX)
        assert_same(output, model(IMAGES, ATTRIBUTE_IDS, IMAGE_INDEX))
        single = model(IMAGES[1:2], ATTRIBUTE_IDS[2:3])
    assert single.embedding.shape == (1, output.embedding.shape[1])
    torch.testing.assert_close(single.embedding[0], output.embedding[2], atol=1e-5, rtol=1e-4)


@every_model
def test_a_network_says_which_branches_it_has(make, name):
    model = make(name).eval()
    assert model.branches in ((), ("spatial",), ("semantic",), ("spatial", "semantic"))
    assert all(getattr(model, branch) is not None for branch in model.branches)
    with torch.no_grad():
        output = model(IMAGES, ATTRIBUTE_IDS, IMAGE_INDEX)
    if len(model.branches) == 2:
        assert all(getattr(output, branch) is not None for branch in model.branches)
    assert (model.detail_size > model.image_size) == ("semantic" in model.branches)


@every_model
def test_uint8_equals_float(make, name):
    model = make(name).eval()
    with torch.no_grad():
        whole = model(IMAGES, ATTRIBUTE_IDS, IMAGE_INDEX)
        for images in (IMAGES.float() / 255, IMAGES.double() / 255, IMAGES.long()):
            assert_same(whole, model(images, ATTRIBUTE_IDS, IMAGE_INDEX), exactly=False)


@every_model
def test_trunk_runs_once_per_image(make, name):
    model, seen = make(name).eval(), []
    model.trunk.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    model(IMAGES, ATTRIBUTE_IDS, IMAGE_INDEX)
    assert seen == [4]
    seen.clear()
    model.encode(IMAGES, ATTRIBUTE_IDS, IMAGE_INDEX, batch_size=3)
    assert seen == [3, 1]


@every_model
def test_a_kept_feature_map_saves_the_trunk(make, name):
    model, seen = make(name).eval(), []
    with torch.no_grad():
        expected = model(IMAGES, ATTRIBUTE_IDS, IMAGE_INDEX)
        kept = FeatureMaps(model.stage_maps(IMAGES), IMAGES)
        model.trunk.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
        assert_same(model(kept, ATTRIBUTE_IDS, IMAGE_INDEX), expected)
    assert not seen


@every_model
def test_without_index_entry_i_asks_image_i(make, name):
    model = make(name).eval()
    ids = ATTRIBUTE_IDS[:4]
    with torch.no_grad():
        assert_same(model(IMAGES, ids), model(IMAGES, ids, torch.arange(4)))


@every_model
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_encode_equals_forward_in_any_order(make, name, batch_size):
    model = make(name)
    order = torch.tensor([6, 0, 3, 2, 5, 1, 4])
    with torch.no_grad():
        expected = model.eval()(IMAGES, ATTRIBUTE_IDS[order], IMAGE_INDEX[order])
    model.train()
    encoded = model.encode(IMAGES, ATTRIBUTE_IDS[order], IMAGE_INDEX[order], batch_size=batch_size)
    assert model.training
    assert not encoded.embedding.requires_grad
    assert_same(encoded, expected, exactly=False)


@every_model
def test_encode_with_images_that_nobody_asks_for(make, name):
    model = make(name).eval()
    encoded = model.encode(IMAGES, torch.tensor([1, 0]), torch.tensor([3, 3]), batch_size=1)
    assert_same(encoded, model.encode(IMAGES[3:], torch.tensor([1, 0]), torch.tensor([0, 0])), exactly=False)


@every_model
def test_saved_and_read_back_bit_for_bit(make, name, tmp_path):
    model = make(name)
    model(IMAGES, ATTRIBUTE_IDS, IMAGE_INDEX)  # running statistics that differ from the initial ones
    model.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    again = AttributeEmbedder.from_pretrained(tmp_path)
    assert not again.training
    assert type(again) is type(model)
    assert again.options == model.options
    assert again.weights == model.weights
    config = json.loads((tmp_path / "config.json").read_text())
    assert config == {"architecture": model.architecture, "options": model.options, "weights": model.weights}
    assert all(record["source"] == "random" for record in model.weights.values())
    with torch.no_grad():
        assert_same(again(IMAGES, ATTRIBUTE_IDS, IMAGE_INDEX), model.eval()(IMAGES, ATTRIBUTE_IDS, IMAGE_INDEX))


@every_trained_model
@pytest.mark.parametrize("images", [torch.zeros(2, 3, 32, 32), torch.ones(2, 3, 40, 40)], ids=["black", "white"])
def test_constant_images_are_finite(make, name, images):
    model = make(name)
    output = model(images, torch.tensor([0, 1]))
    output.embedding.sum().backward()
    assert output.embedding.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@every_trained_model
def test_bfloat16_autocast_gives_finite_float32(make, name):
    model = make(name)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(IMAGES, ATTRIBUTE_IDS, IMAGE_INDEX)
    output.embedding.sum().backward()
    assert output.embedding.dtype == torch.float32
    assert output.embedding.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@every_model
@pytest.mark.parametrize(
    ("images", "ids", "index", "message"),
    [
        ((4, 1, 32, 32), 4, 4, r"images must be \(N, 3, H, W\), got \(4, 1, 32, 32\)"),
        ((4, 3, 32, 32), 3, None, "got 4 images and 3 attribute_ids"),
        ((4, 3, 32, 32), 3, 2, r"image_index must be \(3,\), got \(2,\)"),
        ((4, 3, 32, 32), (3, 1), None, r"attribute_ids must be \(B,\)"),
    ],
)
def test_rejects_shapes(make, name, images, ids, index, message):
    index = None if index is None else torch.zeros(index, dtype=torch.long)
    with pytest.raises(ValueError, match=message):
        make(name)(torch.rand(images), torch.zeros(ids, dtype=torch.long), index)


@every_model
def test_rejects_ids(make, name):
    model = make(name)
    for ids, index, message in (
        ([3], [0], r"attribute_ids must be within \[0, 3\), got 3 to 3"),
        ([1, -1], [0, 0], r"attribute_ids must be within \[0, 3\), got -1 to 1"),
        ([0], [4], r"image_index must be within \[0, 4\), got 4 to 4"),
        ([0], [-1], r"image_index must be within \[0, 4\), got -1 to -1"),
        ([], [], "attribute_ids is empty"),
    ):
        asked = [torch.tensor(numbers, dtype=torch.long) for numbers in (ids, index)]
        for answer in (model.encode, model)[: 2 if ids else 1]:
            with pytest.raises(ValueError, match=message):
                answer(IMAGES, *asked)
    for dtype in (torch.float32, torch.uint8, torch.bool):  # bytes would be taken for a mask
        with pytest.raises(ValueError, match=f"attribute_ids must be int64 or int32, got {dtype}"):
            model(IMAGES, ATTRIBUTE_IDS.to(dtype), IMAGE_INDEX)
        with pytest.raises(ValueError, match=f"image_index must be int64 or int32, got {dtype}"):
            model(IMAGES, ATTRIBUTE_IDS, IMAGE_INDEX.to(dtype))


@every_model
def test_ids_of_32_bits(make, name):
    model = make(name).eval()
    with torch.no_grad():
        assert_same(model(IMAGES, ATTRIBUTE_IDS.int(), IMAGE_INDEX.int()), model(IMAGES, ATTRIBUTE_IDS, IMAGE_INDEX))


@every_model
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_on_a_cpu(make, name, dtype):
    model = make(name).to(dtype).eval()
    with torch.no_grad():
        output = model(IMAGES, ATTRIBUTE_IDS, IMAGE_INDEX)  # 48 px, resized to the trunk's 32
    assert output.embedding.dtype == torch.float32
    assert output.embedding.isfinite().all()


# -- other runtimes ------------------------------------------------------------------------------------------------


def questions(model, counts=((1, 1), (2, 2), (5, 5), (2, 5), (5, 1))):
    """Images and entries in several numbers."""
    generator = torch.Generator().manual_seed(3)
    for images, entries in counts:
        shape = (images, 3, model.detail_size, model.detail_size)
        asked = torch.arange(entries)
        yield torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8), asked % ATTRIBUTES, asked % images


@every_architecture
def test_compiled_whole(make, name):
    model = make(name).eval()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():
        for question in questions(model, [(2, 3), (2, 5)]):
            assert_same(compiled(*question), model(*question), exactly=False)


@every_architecture
def test_exported_with_any_number_of_images_and_entries(make, name):
    model = make(name).train()
    program = export_program(model).module()
    assert model.training
    model.eval()
    with torch.no_grad():
        for question in questions(model):
            torch.testing.assert_close(program(*question)[0], model(*question).embedding, atol=1e-5, rtol=1e-4)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # torch's exporter about torch
@every_architecture
def test_onnx_with_any_number_of_images_and_entries(make, name, tmp_path):
    model = make(name).eval()
    names = export_onnx(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == names
    for question in questions(model):
        given = zip(("images", "attribute_ids", "image_index"), (tensor.numpy() for tensor in question), strict=True)
        answers = session.run(None, dict(given))
        with torch.no_grad():
            expected = tensors(model(*question))
        for answer, key in zip(answers, names, strict=True):
            torch.testing.assert_close(torch.from_numpy(answer), expected[key], atol=1e-4, rtol=1e-3, msg=key)
