from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ipad_core import AttributeEmbedder, create_model

IMAGES = torch.randint(0, 256, (6, 3, 32, 32), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
ENTRIES = torch.tensor([0, 0, 1, 2, 3, 3, 5])
ATTRIBUTES = torch.tensor([0, 1, 0, 1, 1, 0, 0])


@pytest.fixture
def lens(small_trunk):
    return create_model("lens", num_attributes=2, **small_trunk)


@pytest.fixture
def labelled():
    """Sixty features of the small trunk's width; attribute 0 shows in dimension 0, attribute 1 in dimension 1."""
    values = torch.stack([torch.arange(60) % 3, torch.arange(60) // 3 % 2], dim=1)
    features = torch.randn(60, 16)
    features[:, 0] += 6 * values[:, 0]
    features[:, 1] += 6 * values[:, 1]
    index = torch.arange(60).repeat_interleave(2)
    attributes = torch.tensor([0, 1]).repeat(60)
    return features, index, attributes, (values + torch.tensor([0, 3])).flatten()


def test_before_fitting_it_is_the_frozen_trunk(lens):
    output = lens(IMAGES, ATTRIBUTES, ENTRIES)
    pooled = lens.trunk(lens.trunk_input(lens.normalized(IMAGES))).mean(dim=(2, 3))
    torch.testing.assert_close(output.embedding, F.normalize(pooled, dim=1)[ENTRIES])
    assert not lens.is_fitted
    assert not any(parameter.requires_grad for parameter in lens.parameters())
    assert not lens.train().trunk.training


@pytest.mark.parametrize("form", ["posterior", "directions"])
@pytest.mark.parametrize("balanced", [False, True])
def test_entries_of_one_value_come_together(small_trunk, labelled, form, balanced):
    lens = create_model("lens", num_attributes=2, form=form, balanced=balanced, **small_trunk)
    features, index, attributes, values = labelled
    fits = lens.fit(*labelled)
    assert fits.keys() == {0, 1}
    assert all(fit.score > 0.95 for fit in fits.values())
    embedded = lens.project(features, index, attributes)
    torch.testing.assert_close(embedded.norm(dim=1), torch.ones(len(index)))
    for attribute in (0, 1):
        mine = attributes == attribute
        similarity = embedded[mine] @ embedded[mine].T
        same = values[mine][:, None] == values[mine]
        assert similarity[same].mean() > similarity[~same].mean() + 0.5
    assert lens.options["width"] == (3 if form == "posterior" else 2)


def test_numpy_and_tensors_give_the_same_and_missing_labels_are_fine(lens, labelled):
    lens.fit(*(array.numpy() for array in labelled))
    projection = lens.discriminants.projection
    lens.fit(*labelled)
    assert torch.equal(projection, lens.discriminants.projection)
    keep = torch.arange(len(labelled[1])) % 5 != 0
    assert lens.fit(labelled[0], *(ids[keep] for ids in labelled[1:])).keys() == {0, 1}


def test_saved_and_read_back_after_fitting(lens, labelled, tmp_path):
    lens.fit(*labelled)
    lens.save_pretrained(tmp_path)
    again = AttributeEmbedder.from_pretrained(tmp_path)
    assert again.is_fitted
    assert again.options == lens.options
    with torch.no_grad():
        expected = lens(IMAGES, ATTRIBUTES, ENTRIES).embedding
        assert torch.equal(again(IMAGES, ATTRIBUTES, ENTRIES).embedding, expected)


@pytest.mark.parametrize("form", ["posterior", "directions"])
def test_an_attribute_with_one_value_keeps_the_standardized_features(small_trunk, labelled, form):
    lens = create_model("lens", num_attributes=3, form=form, **small_trunk)
    features, index, attributes, values = labelled
    values = torch.where(attributes == 1, 9, values)
    with pytest.warns(UserWarning, match="labelled values") as caught:
        fits = lens.fit(features, index, attributes, values)
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == 2
    assert messages[0].startswith("attribute 1 has 1 labelled values")
    assert messages[1].startswith("attribute 2 has 0 labelled values")
    assert fits.keys() == {0}
    standard = (features - features.mean(dim=0)) / features.std(dim=0, correction=0)
    for attribute in (1, 2):
        embedded = lens.project(features, torch.arange(60), torch.full((60,), attribute))
        torch.testing.assert_close(embedded, F.normalize(standard, dim=1))
    embedded = lens.project(features, torch.arange(60), torch.zeros(60, dtype=torch.long))
    assert not embedded[:, 3:].any()


def test_fewer_images_than_features_and_values_of_one_image(lens):
    features = torch.randn(7, 16)
    fits = lens.fit(features, np.arange(7).repeat(2), np.array([0, 1] * 7), np.arange(14) // 4)
    assert fits.keys() == {0, 1}
    assert lens.project(features, torch.arange(7), torch.zeros(7, dtype=torch.long)).isfinite().all()


def test_a_constant_feature_does_no_harm(lens, labelled):
    labelled[0][:, 5] = 3.0
    lens.fit(*labelled)
    assert lens.project(*labelled[:3]).isfinite().all()


def test_a_grid_pools_cell_by_cell(small_trunk):
    lens = create_model("lens", num_attributes=2, grid=[2, 1], **{**small_trunk, "image_size": 64}).eval()
    assert lens.num_features == 32
    feature_map = lens.trunk(lens.trunk_input(lens.normalized(IMAGES)))
    pooled = lens.pooled(IMAGES).view(6, 16, 2)
    torch.testing.assert_close(pooled[..., 0], feature_map[:, :, :1].mean(dim=(2, 3)))
    torch.testing.assert_close(pooled[..., 1], feature_map[:, :, 1:].mean(dim=(2, 3)))


def test_the_stage_is_the_last_unless_another_is_given(small_trunk):
    assert create_model("lens", num_attributes=1, **small_trunk).trunk.stride == 32
    small_trunk["trunk"]["stage"] = 2
    assert create_model("lens", num_attributes=1, **small_trunk).trunk.stride == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"form": "qda"}, "form must be one of posterior, directions, got 'qda'"),
        ({"grid": [0, 1]}, r"grid must be two whole numbers of at least 1, got \[0, 1\]"),
        ({"grid": [1]}, "grid must be two whole numbers"),
    ],
)
def test_bad_options(small_trunk, options, message):
    with pytest.raises(ValueError, match=message):
        create_model("lens", num_attributes=2, **small_trunk, **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({0: torch.rand(60, 8)}, r"features must be \(N, 16\), got \(60, 8\)"),
        ({0: torch.full((60, 16), torch.nan)}, "features must be finite"),
        ({1: torch.arange(120)}, r"image_index must be within \[0, 60\), got 0 to 119"),
        ({2: torch.arange(120) % 3}, r"attribute_ids must be within \[0, 2\), got 0 to 2"),
        ({3: torch.zeros(3)}, r"must be \(B,\) each, got .*'value_ids': \(3,\)"),
        ({i: torch.zeros(0) for i in (1, 2, 3)}, "there are no labelled entries to fit"),
    ],
)
def test_fit_rejects(lens, labelled, change, message):
    given = [change.get(i, value) for i, value in enumerate(labelled)]
    with pytest.raises(ValueError, match=message):
        lens.fit(*given)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_fitted_lens_in_half_precision_and_under_autocast(lens, labelled, dtype):
    lens.fit(*labelled)
    features, index, attributes, _ = labelled
    expected = lens.project(features, index, attributes)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(lens.project(features, index, attributes), expected)
    half = lens.to(dtype).project(features, index, attributes)
    assert (F.cosine_similarity(half, expected) > 0.98).float().mean() > 0.95
