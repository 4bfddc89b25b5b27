from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from PIL import Image

from ipad_core import AttributeEmbedder, create_model
from ipad_core.models.model_card import model_card

WORDS = {"collar": ["none", "shirt"], "sleeve_length": ["short", "long"], "hem": ["straight", "round"]}
IMAGES = torch.randint(0, 256, (5, 3, 32, 32), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
HYBRID = {"name": "hybrid", "options": {"embed_dim": 16, "depth": 1, "num_heads": 2}}


@pytest.fixture
def model(small_trunk):
    built = create_model("asen_v2", num_attributes=3, embed_dim=6, latent_dim=4, **small_trunk).eval()
    built.schema = WORDS
    return built


@pytest.fixture
def two_branches(small_trunk):
    options = {"embed_dim": 6, "latent_dim": 4, "crop_size": 32, "semantic_heads": 2, "semantic_trunk": HYBRID}
    return create_model("ipad", num_attributes=3, **options, **small_trunk).eval()


# -- attributes ----------------------------------------------------------------------------------------------------


def test_one_attribute_by_name_or_number(model):
    expected = model.encode(IMAGES, torch.full((5,), 1)).embedding
    for attribute in ("sleeve_length", 1):
        assert torch.equal(model.encode(IMAGES, attribute=attribute).embedding, expected)
    assert torch.equal(model.encode(IMAGES, ["sleeve_length"] * 5).embedding, expected)


def test_several_attributes_of_every_image(model):
    output = model.encode(IMAGES, attributes=["hem", 0], batch_size=2)
    table = output.embedding.unflatten(0, (5, 2))
    torch.testing.assert_close(table[:, 0], model.encode(IMAGES, attribute="hem").embedding)
    torch.testing.assert_close(table[:, 1], model.encode(IMAGES, attribute="collar").embedding)
    assert output.attention.shape == (10, 2, 2)


def test_all_attributes_cost_the_trunk_once_per_image(model):
    seen = []
    model.trunk.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    output = model.encode(IMAGES, attributes="all", batch_size=4)
    assert seen == [4, 1]
    assert output.embedding.shape == (15, 6)


def test_names_and_numbers_of_other_libraries(model):
    expected = model.encode(IMAGES, attributes=["hem", 0]).embedding
    for asked in (
        np.array(["hem", "collar"]), [np.int64(2), "collar"], np.array([2, 0]), [torch.tensor(2), np.str_("collar")],
        (name for name in ("hem", "collar")),
    ):  # fmt: skip
        assert torch.equal(model.encode(IMAGES, attributes=asked).embedding, expected)
    assert torch.equal(model.encode(IMAGES, attribute=np.int64(2)).embedding, expected[::2])


def test_entries_by_name_with_an_index(model):
    output = model.encode(IMAGES, ["hem", "collar"], [4, 4])
    torch.testing.assert_close(output.embedding, model.encode(IMAGES[[4, 4]], torch.tensor([2, 0])).embedding)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "give one of attribute_ids, attribute and attributes, got none"),
        ({"attribute": 0, "attributes": "all"}, "got attribute and attributes"),
        ({"attribute": "colar"}, "unknown attribute 'colar'; did you mean one of: collar"),
        ({"attribute": 3}, r"attribute must be within \[0, 3\), got 3 to 3"),
        ({"attribute": ["hem", "collar"]}, "attribute must be one number or name"),
        ({"attributes": []}, "attributes is empty"),
        ({"attributes": [0.5]}, "attributes must be numbers or names of attributes, got 0.5"),
        ({"attributes": 0.5}, "attributes must be numbers or names of attributes, got 0.5"),
        ({"attribute": True}, "attribute must be numbers or names of attributes, got True"),
        ({"attributes": np.array(["colar"])}, "unknown attribute 'colar'; did you mean one of: collar"),
        ({"attribute_ids": torch.ones(5) > 0}, r"attribute_ids must be \(B,\), whole numbers, got torch.bool"),
        ({"attribute_ids": [0], "image_index": [0.0]}, "image_index must be whole numbers, got torch.float32"),
        ({"attribute": 0, "batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"attributes": torch.rand(2)}, r"attributes must be \(B,\), whole numbers, got torch.float32"),
        ({"attribute": 0, "image_index": [0]}, "image_index goes with attribute_ids"),
        ({"attribute_ids": [0, 1], "image_index": [0]}, r"image_index must be \(2,\), got \(1,\)"),
    ],
)
def test_bad_questions(model, asked, message):
    with pytest.raises(ValueError, match=message):
        model.encode(IMAGES, **asked)


def test_a_model_without_words_says_so(model):
    model.schema = None
    with pytest.raises(ValueError, match=r"does not know the names of its 3 attributes; give a number, or set"):
        model.encode(IMAGES, attribute="collar")


def test_a_schema_must_fit(model):
    with pytest.raises(ValueError, match="schema must name 3 attributes, got 1: collar"):
        model.schema = {"collar": ["none"]}
    for words in ({"a": [1], "b": [], "c": []}, ["collar", "sleeve_length", "hem"]):
        with pytest.raises(TypeError, match="schema must map names of attributes to lists"):
            model.schema = words


# -- images --------------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    paths = []
    for i, image in enumerate(IMAGES):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(paths[-1])
    return paths


def test_every_form_of_images_gives_the_same(model, files):
    expected = model.encode(IMAGES, attribute=0).embedding
    array = IMAGES.permute(0, 2, 3, 1).numpy()
    forms = [
        list(IMAGES),
        array,
        list(array),
        array.astype(np.float64) / 255,
        IMAGES.float() / 255,
        files,
        [str(path) for path in files],
        [Image.open(path) for path in files],
        [files[0], IMAGES[1], array[2], Image.open(files[3]), IMAGES[4]],
    ]
    for form in forms:
        torch.testing.assert_close(model.encode(form, attribute=0).embedding, expected, atol=1e-5, rtol=1e-4)


def test_one_image_is_a_batch_of_one(model, files):
    expected = model.encode(IMAGES[:1], attribute=0).embedding
    for one in (IMAGES[0], IMAGES[0].permute(1, 2, 0).numpy(), files[0], str(files[0]), Image.open(files[0])):
        torch.testing.assert_close(model.encode(one, attribute=0).embedding, expected, atol=1e-5, rtol=1e-4)


def test_images_of_several_sizes_are_resized(model):
    images = [torch.rand(3, 20, 30), torch.rand(3, 50, 10)]
    both = model.encode(images, attribute=0).embedding
    for image, embedding in zip(images, both, strict=True):
        torch.testing.assert_close(model.encode(image, attribute=0).embedding[0], embedding, atol=1e-4, rtol=1e-3)


def test_files_are_opened_a_batch_at_a_time_and_larger_for_crops(two_branches, files, monkeypatch):
    sizes = []
    forward = two_branches.forward
    monkeypatch.setattr(
        two_branches, "forward", lambda images, *a, **o: sizes.append(images.shape) or forward(images, *a, **o)
    )
    output = two_branches.encode(files, attribute=0, batch_size=2, maps=True)
    assert sizes == [(2, 3, 64, 64), (2, 3, 64, 64), (1, 3, 64, 64)]
    assert output.boxes.shape == (5, 4)
    assert output.attention_maps.shape == (5, 3, 2, 2)


def test_grey_transparent_and_turned_files(model, tmp_path):
    grey = Image.fromarray(IMAGES[0, 0].numpy())
    grey.save(tmp_path / "grey.png")
    rgb = IMAGES[0, :1].expand(3, -1, -1)
    expected = model.encode(rgb, attribute=0).embedding
    torch.testing.assert_close(model.encode(tmp_path / "grey.png", attribute=0).embedding, expected)
    Image.new("RGBA", (32, 32), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    white = model.encode(torch.full((3, 32, 32), 255, dtype=torch.uint8), attribute=0).embedding
    torch.testing.assert_close(model.encode(tmp_path / "clear.png", attribute=0).embedding, white)
    turned = Image.fromarray(IMAGES[0].permute(1, 2, 0).numpy())
    exif = turned.getexif()
    exif[0x0112] = 3  # upside down
    turned.save(tmp_path / "turned.png", exif=exif)
    expected = model.encode(IMAGES[0].flip(1, 2), attribute=0).embedding
    torch.testing.assert_close(model.encode(tmp_path / "turned.png", attribute=0).embedding, expected)


def test_grey_of_sixteen_bits_is_that_of_eight(model, tmp_path):
    grey = IMAGES[0, 0].numpy()
    expected = model.encode(Image.fromarray(grey), attribute=0).embedding
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    deep.save(tmp_path / "deep.png")
    white = model.encode(Image.new("RGB", (32, 32), "white"), attribute=0).embedding
    assert not torch.allclose(expected, white, atol=1e-3)
    for form in (deep, tmp_path / "deep.png", Image.fromarray(grey.astype(np.int32) * 257)):
        torch.testing.assert_close(model.encode(form, attribute=0).embedding, expected)
    for floats in (grey.astype(np.float32), grey / np.float32(255)):
        found = model.encode(Image.fromarray(floats), attribute=0).embedding
        torch.testing.assert_close(found, expected, atol=1e-2, rtol=1e-2)  # the last rounds down


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        ([], ValueError, "images is empty"),
        (torch.zeros(0, 3, 8, 8), ValueError, "images is empty"),
        (torch.zeros(2, 1, 8, 8), ValueError, r"images must be \(N, 3, H, W\), with pixels, got \(2, 1, 8, 8\)"),
        (torch.zeros(2, 3, 0, 8), ValueError, r"images must be \(N, 3, H, W\), with pixels, got \(2, 3, 0, 8\)"),
        ([np.zeros((8, 0, 3))], ValueError, r"images\[0\] must be RGB, \(3, H, W\), with pixels, got \(3, 8, 0\)"),
        (torch.zeros(1, 3, 8, 8) > 0, ValueError, "images must be uint8 or float, got bool"),
        (b"jpeg", TypeError, "images must be a tensor .* got bytes"),
        ({"a": torch.zeros(3, 8, 8)}, TypeError, "images must be a tensor .* got dict"),
        (np.zeros((8, 8)), ValueError, r"arrays of images must be RGB, .* got \(8, 8\)"),
        (
            [torch.zeros(3, 8, 8), torch.zeros(1, 8, 8)],
            ValueError,
            r"images\[1\] must be RGB, \(3, H, W\), with pixels, got",
        ),
        (3, TypeError, "images must be a tensor .* got int"),
        ([3], TypeError, r"images\[0\] must be a tensor, array, PIL image or path, got int"),
        ("nothing.jpg", FileNotFoundError, "there is no image nothing.jpg"),
        (
            255 * torch.ones(1, 3, 8, 8),
            ValueError,
            r"float images must be within \[0, 1\], got 255 to 255; give uint8",
        ),
        (
            np.full((1, 8, 8, 3), 65_535, np.uint16),
            ValueError,
            r"whole-number images must be within \[0, 255\], got 65535",
        ),
        (-torch.ones(1, 3, 8, 8).long(), ValueError, r"whole-number images must be within \[0, 255\], got -1 to -1"),
        (torch.full((1, 3, 8, 8), torch.nan), ValueError, r"float images must be within \[0, 1\], got nan"),
    ],
)
def test_bad_images(model, images, error, message):
    with pytest.raises(error, match=message):
        model.encode(images, attribute=0)


def test_a_forward_pass_on_a_cpu_looks_at_the_pixels_as_well(model):
    ids = torch.zeros(5, dtype=torch.long)
    for images in (IMAGES.float(), (IMAGES / 255 - 0.45) / 0.22):  # 0 to 255; normalized already
        with pytest.raises(ValueError, match=r"float images must be within \[0, 1\]"):
            model(images, ids)
    torch.testing.assert_close(
        model(IMAGES / 255 + 1e-5, ids).embedding, model(IMAGES, ids).embedding, atol=1e-3, rtol=0
    )


def test_a_file_that_may_be_a_bomb_is_named(model, tmp_path, monkeypatch):
    Image.new("L", (64, 64)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(
        OSError, match=r"bomb\.png cannot be read as an image: Image size \(4096 pixels\) exceeds limit"
    ):
        model.encode(tmp_path / "bomb.png", attribute=0)


def test_a_file_that_is_no_image(model, tmp_path):
    (tmp_path / "page.jpg").write_text("<html>")
    with pytest.raises(OSError, match=r"page\.jpg cannot be read as an image"):
        model.encode(tmp_path / "page.jpg", attribute=0)


# -- kept images ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["model", "two_branches"])
def test_kept_images_are_asked_again_without_the_trunk(which, request):
    network = request.getfixturevalue(which)
    expected = network.encode(IMAGES, attributes="all")
    kept, seen = network.keep(IMAGES, batch_size=2), []
    network.trunk.register_forward_hook(lambda *given: seen.append(given))
    again = network.encode(kept, attributes="all", batch_size=3)
    assert not seen
    assert len(kept) == 5
    torch.testing.assert_close(again.embedding, expected.embedding, atol=1e-5, rtol=1e-4)


def test_nothing_is_kept_of_empty_batches(model):
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        model.keep(IMAGES, batch_size=0)


# -- device and type -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bfloat16", torch.float16])
def test_it_computes_in_the_type_asked_for(two_branches, dtype):
    seen = []
    two_branches.semantic.register_forward_hook(
        lambda module, inputs, output: seen.append(torch.is_autocast_enabled("cpu"))
    )
    whole = two_branches.encode(IMAGES, attribute=0)
    half = two_branches.encode(IMAGES, attribute=0, dtype=dtype, device="cpu")
    assert seen == [False, True]
    assert half.embedding.dtype == torch.float32
    assert {parameter.dtype for parameter in two_branches.parameters()} == {torch.float32}
    assert not torch.equal(half.embedding, whole.embedding)
    assert (F.cosine_similarity(half.spatial, whole.spatial) > 0.99).all()
    assert torch.equal(two_branches.encode(IMAGES, attribute=0, dtype="float32").embedding, whole.embedding)


def test_the_network_moves_to_the_device_asked_for(model):
    assert model.encode(IMAGES, attribute=0, device="meta").embedding.is_meta
    assert model.trunk.mean.is_meta


def test_types_that_are_not_to_be_had(model):
    with pytest.raises(
        ValueError, match=r"dtype must be bfloat16, float16, or that of the weights, torch\.float32, got"
    ):
        model.encode(IMAGES, attribute=0, dtype="float64")
    with pytest.raises(
        ValueError, match=r"dtype must be a floating type such as 'bfloat16' or torch\.float16, got 'int8'"
    ):
        model.encode(IMAGES, attribute=0, dtype="int8")


# -- saving --------------------------------------------------------------------------------------------------------


def test_words_and_facts_are_saved(model, tmp_path):
    model.about = {
        "license": "mit",
        "dataset": "rendered garments",
        "dataset_terms": "Free to use.",
        "metrics": {"test MAP": 61.8},
        "metrics_command": "ipad_train evaluate RUN",
    }
    model.save_pretrained(tmp_path)
    again = AttributeEmbedder.from_pretrained(tmp_path)
    assert (again.schema, again.about) == (WORDS, model.about)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "mit"
    for line in (
        "| sleeve_length | short, long |",
        "Measured with `ipad_train evaluate RUN`.",
        "| test MAP | 61.8 |",
        "Trained on rendered garments. Free to use.",
        "attribute='collar'",
    ):
        assert line in card
    with pytest.raises(ValueError, match=r"about must hold only license, dataset, .* got 'licence'"):
        model_card("csn", 1, {}, about={"licence": "mit"})


def test_a_card_stays_whole_whatever_the_names_hold():
    card = model_card("csn", 1, {}, {"fit | cut": ["a|b", "two\nlines"]}, {"license": "other: see below"})
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "other: see below"
    assert "| fit \\| cut | a\\|b, two lines |" in card.splitlines()


def test_words_that_do_not_fit_the_configuration(model, tmp_path):
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["schema"]["hem"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"config\.json: schema must name 3 attributes, got 2"):
        AttributeEmbedder.from_pretrained(tmp_path)


def test_dtype_and_device(model, tmp_path):
    model.save_pretrained(tmp_path)
    half = AttributeEmbedder.from_pretrained(tmp_path, dtype="bfloat16", device="cpu")
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    similarity = F.cosine_similarity(
        half.encode(IMAGES, attribute=0).embedding, model.encode(IMAGES, attribute=0).embedding
    )
    assert (similarity > 0.99).all()
    with pytest.raises(
        ValueError, match=r"dtype must be a floating type such as 'bfloat16' or torch\.float16, got 'int8'"
    ):
        AttributeEmbedder.from_pretrained(tmp_path, dtype="int8")


def test_another_number_of_attributes_says_what_starts_anew(model, tmp_path):
    model.save_pretrained(tmp_path)
    with pytest.warns(
        UserWarning, match=r"num_attributes=5 is not what .* anew and have to be trained: attention.table"
    ):
        other = AttributeEmbedder.from_pretrained(tmp_path, num_attributes=5)
    assert other.attention.table.num_embeddings == 5
    assert other.schema is None
    assert torch.equal(other.attention.key.weight, model.attention.key.weight)
    assert AttributeEmbedder.from_pretrained(tmp_path, num_attributes=3).schema == WORDS
    with pytest.raises(ValueError, match="does not fit"):
        AttributeEmbedder.from_pretrained(tmp_path, embed_dim=7)


def test_a_lens_for_other_attributes_is_to_be_fitted_again(small_trunk, tmp_path):
    lens = create_model("lens", num_attributes=1, **small_trunk)
    lens.fit(torch.randn(8, 16), range(8), [0] * 8, [0, 1] * 4)
    lens.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="projection"):
        other = AttributeEmbedder.from_pretrained(tmp_path, num_attributes=2)
    assert not other.is_fitted


def test_options_with_an_entry_for_each_attribute_are_given_along(small_trunk, tmp_path):
    create_model("haen", num_attributes=2, types=[0, 1], embed_dim=6, latent_dim=4, **small_trunk).save_pretrained(
        tmp_path
    )
    with pytest.raises(ValueError, match=r"types must have 3 numbers, one per attribute, got \[0, 1\]"):
        AttributeEmbedder.from_pretrained(tmp_path, num_attributes=3)
    with pytest.warns(UserWarning, match=r"start anew and have to be trained: attention\.table\.weight$"):
        other = AttributeEmbedder.from_pretrained(tmp_path, num_attributes=3, types=[0, 1, 1])
    assert other.options["types"] == [0, 1, 1]


def test_revision_and_token_reach_the_hub(monkeypatch, model, tmp_path):
    model.save_pretrained(tmp_path / "saved")
    asked = {}

    def download(repository, **options):
        asked.update(options, repository=repository)
        return str(tmp_path / "saved")

    monkeypatch.setattr("ipad_core.models.saved_model.snapshot_download", download)
    AttributeEmbedder.from_pretrained("owner/name", revision="v1", token="secret")
    assert asked == {
        "repository": "owner/name",
        "revision": "v1",
        "token": "secret",
        "allow_patterns": ["config.json", "model.safetensors"],
    }
