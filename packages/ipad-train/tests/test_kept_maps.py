"""A frozen trunk's maps: made once, equal to what the trunk answers, found again, never half-written."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from ipad_core import FeatureMaps, create_model
from ipad_data import BatchDataset, BatchPlan
from ipad_train.data import load_data
from ipad_train.embed import embed_split
from ipad_train.kept_crops import can_keep_crops, kept_inputs
from ipad_train.kept_maps import can_keep_maps, forget_maps, keep_maps, kept_split
from ipad_train.launch import make_accelerator
from ipad_train.map_files import KeptMaps
from ipad_train.run_context import RunContext
from ipad_train.step_inputs import MapsOfImages, StepSeed
from ipad_train.tracking import read_metrics
from ipad_train.training import Training

FROZEN = "model.options.trunk={stage: [2, 3], freeze: all, options: {channels: [8, 8, 16, 16], stem_width: 8}}"


@pytest.fixture
def parts(small_config):
    """Configuration, data, a network with a frozen trunk, accelerator."""
    config = small_config(FROZEN, "stage0.steps=0")
    data = load_data(config.data)
    torch.manual_seed(0)
    model = create_model("ipad_tiny", num_attributes=len(data.schema.attributes), **config.model.options)
    return config, data, model, make_accelerator(config)


def _images(data, config, rows: list[int]) -> torch.Tensor:
    nothing = torch.empty(0, dtype=torch.int64).numpy()
    plan = BatchPlan(torch.tensor(rows).numpy(), nothing, nothing, nothing)
    return BatchDataset(data.splits["train"], config.data.detail_size)[plan]["images"]


def test_maps_are_those_of_the_images_and_of_their_mirror_images(parts, tmp_path):
    config, data, model, accelerator = parts
    kept = keep_maps(model, data.splits["train"], config.data, tmp_path, accelerator, mirrored=True)
    rows, mirrored = [7, 0, 40], torch.tensor([True, False, True])
    images = _images(data, config, rows)
    images[mirrored] = images[mirrored].flip(-1)
    with torch.no_grad():
        expected = model.eval().stage_maps(images)
    for actual, wanted in zip(kept.read(torch.tensor(rows), mirrored), expected, strict=True):
        assert actual.dtype == torch.float16
        error = (actual.float() - wanted).abs().max() / wanted.abs().max()
        assert error < 0.03  # bfloat16 where the processor has it


def test_maps_are_found_again_and_another_trunk_has_its_own(parts, tmp_path):
    config, data, model, accelerator = parts
    said: list[str] = []
    dataset = data.splits["validation"]
    first = keep_maps(model, dataset, config.data, tmp_path, accelerator, False, said.append)
    again = keep_maps(model, dataset, config.data, tmp_path, accelerator, False, said.append)
    assert first.folder == again.folder
    assert len(said) == 1
    assert "30 images" in said[0]
    with torch.no_grad():
        next(model.trunk.parameters()).add_(0.1)
    assert keep_maps(model, dataset, config.data, tmp_path, accelerator, False).folder != first.folder


def test_what_a_killed_process_left_is_made_anew(parts, tmp_path):
    config, data, model, accelerator = parts
    dataset = data.splits["validation"]
    whole = keep_maps(model, dataset, config.data, tmp_path, accelerator, False)
    left = whole.folder.with_name(f".building-{whole.folder.name}")
    whole.folder.rename(left)
    (left / "stage0.npy").write_bytes(b"half")
    (left / "stage9.npy").write_bytes(b"of another time")
    again = keep_maps(model, dataset, config.data, tmp_path, accelerator, False)
    assert not left.exists()
    assert sorted(file.name for file in again.folder.iterdir()) == ["stage0.npy", "stage1.npy"]
    assert torch.isfinite(again.read(torch.arange(30))[0]).all()


def test_mirror_images_that_were_not_kept_cannot_be_read(parts, tmp_path):
    config, data, model, accelerator = parts
    kept = keep_maps(model, data.splits["validation"], config.data, tmp_path, accelerator, False)
    with pytest.raises(ValueError, match="was kept without mirror images"):
        KeptMaps(kept.folder).read(torch.arange(2), torch.tensor([True, False]))


@pytest.mark.parametrize(
    "override",
    [
        "data.keep_maps=false",
        "data.augmentation={scale: 0.1}",
        "data.on_error=skip",
        "model.options.trunk={stage: 3, freeze: 3}",
    ],
)
def test_maps_are_kept_only_where_nothing_could_change_them(small_config, override):
    config = small_config(FROZEN, override)
    model = create_model("ipad_tiny", num_attributes=2, **config.model.options)
    assert can_keep_maps(
        create_model("ipad_tiny", num_attributes=2, **small_config(FROZEN).model.options), config.data
    ) == ("trunk" in override)
    assert not can_keep_maps(model, config.data)


def test_images_turn_as_their_maps_do(parts, tmp_path):
    config, data, model, accelerator = parts
    kept = keep_maps(model, data.splits["train"], config.data, tmp_path, accelerator, mirrored=True)
    images = _images(data, config, [3, 4, 5, 6])
    batch = {"rows": torch.tensor([3, 4, 5, 6]), "images": images, "image_index": torch.arange(4)}
    inputs = MapsOfImages(kept, flip=0.5)
    turned = inputs(batch, StepSeed(0, 0))["images"]
    assert isinstance(turned, FeatureMaps)
    mirrored = torch.tensor([not torch.equal(a, b) for a, b in zip(turned.images, images, strict=True)])
    assert 0 < mirrored.sum() < 4
    torch.testing.assert_close(turned.images[mirrored], images[mirrored].flip(-1))
    torch.testing.assert_close(turned.stages[0], kept.read(batch["rows"], mirrored)[0])


def test_a_run_on_kept_maps_trains_both_stages_and_resumes_to_the_bit(small_config):
    overrides = [FROZEN, "stage0.steps=0"]
    whole = small_config(*overrides)
    said: list[str] = []
    Training(whole, None, said.append).run()
    assert sum("kept the trunk's maps" in line for line in said) == 1
    folder = Path(whole.output_dir)
    losses = [row["loss"] for row in read_metrics(folder) if "loss" in row]
    assert len(losses) == 7

    halved = small_config(*overrides, output="halved")
    stopped = Training(halved, None, lambda line: None)
    original = stopped._save

    def save_and_stop(run):
        original(run)
        if run.name == "stage2" and run.step == 2:
            raise KeyboardInterrupt

    stopped._save = save_and_stop
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    Training(halved, "auto", lambda line: None).run()
    assert [row["loss"] for row in read_metrics(Path(halved.output_dir)) if "loss" in row] == losses


def test_embeddings_from_kept_maps_and_crops_are_those_from_the_images(parts):
    config, data, model, accelerator = parts
    config = dataclasses.replace(config, stage2=dataclasses.replace(config.stage2, spatial_learning_rate=0.0))
    inputs = kept_inputs(model, RunContext(config, data, accelerator), "validation")
    assert set(inputs) == {"maps", "crops"}
    split = data.splits["validation"]
    expected = embed_split(model, split, config.data, accelerator)
    actual = embed_split(model, split, config.data, accelerator, **inputs)
    assert (actual.image_ids == expected.image_ids).all()
    for branch in ("spatial", "semantic", "fused"):
        a, b = (torch.from_numpy(getattr(entries, branch)) for entries in (actual, expected))
        assert torch.nn.functional.cosine_similarity(a, b).min() > 0.99  # half precision in between


def test_a_crop_that_was_not_kept_is_named(parts):
    config, data, model, accelerator = parts
    config = dataclasses.replace(config, stage2=dataclasses.replace(config.stage2, spatial_learning_rate=0.0))
    crops = kept_inputs(model, RunContext(config, data, accelerator), "validation")["crops"]
    with pytest.raises(KeyError, match="row 900 has no crop of attribute 1"):
        crops.read(torch.tensor([900]), torch.tensor([1]))


def test_crops_are_kept_only_where_nothing_before_them_learns(parts):
    config, _, model, _ = parts
    for rate, kept in ((0.0, True), (None, False), (1e-4, False)):
        stage2 = dataclasses.replace(config.stage2, spatial_learning_rate=rate)
        assert can_keep_crops(model, dataclasses.replace(config, stage2=stage2)) == kept
    one_branch = create_model("ipad_tiny", num_attributes=2, **{**config.model.options, "semantic": False})
    assert not can_keep_crops(one_branch, config)


def test_a_run_forgets_what_it_kept_for_itself_and_leaves_what_it_shares(small_config, tmp_path):
    config = small_config(FROZEN, f"data.maps_dir={tmp_path / 'shared'}")
    for folder in (tmp_path / "shared" / "train-1", tmp_path / "run" / "maps" / "train-crops-2"):
        folder.mkdir(parents=True)
    forget_maps(config)
    assert (tmp_path / "shared" / "train-1").is_dir()
    assert not (tmp_path / "run" / "maps").exists()
    own = small_config(FROZEN)
    (tmp_path / "run" / "maps" / "train-1").mkdir(parents=True)
    forget_maps(own)
    assert not (tmp_path / "run" / "maps").exists()


def test_a_run_evaluated_by_itself_leaves_no_maps_and_the_mode_stays(parts, tmp_path):
    config, data, model, accelerator = parts
    assert kept_split(model, RunContext(config, data, accelerator), "test") is None
    shared = dataclasses.replace(config, data=dataclasses.replace(config.data, maps_dir=str(tmp_path / "shared")))
    model.train()
    assert len(kept_split(model, RunContext(shared, data, accelerator), "test")) == 30
    assert model.training
