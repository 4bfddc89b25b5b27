"""Stages with batches of their own kinds, on real images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ipad_train.objectives import AttributeDiverging
from ipad_train.run_context import RunContext
from ipad_train.stage_start import start_stage
from ipad_train.tracking import read_metrics
from ipad_train.training import Training


def quiet(line):
    pass


def test_triplet_batches_and_a_trained_spatial_branch(small_config):
    config = small_config(
        "stage0.steps=1",
        "stage1.sampler=triplet",
        "stage1.batch_size=6",
        "stage2.sampler=triplet",
        "stage2.batch_size=6",
        "stage2.spatial_learning_rate=1e-4",
        "stage2.schedule=step",
        "stage2.optimizer=adam",
    )
    results = Training(config, None, quiet).run()
    rows = read_metrics(Path(config.output_dir))
    assert any("centers_spatial" in row and "triplet_spatial" in row for row in rows)
    assert results["rows"][-1]["overall"] > 0


def test_two_augmented_anchors_are_part_of_every_triplet_step(small_config, monkeypatch):
    seen = []
    original = AttributeDiverging.forward

    def forward(self, batch):
        seen.append({name: tensor.clone() for name, tensor in batch.items()})
        return original(self, batch)

    monkeypatch.setattr(AttributeDiverging, "forward", forward)
    config = small_config(
        "data.anchor_views=2",
        "data.anchor_augmentation={perspective: 0.2}",
        "data.flip=0",
        "stage0.steps=0",
        *(
            f"{stage}.{key}"
            for stage in ("stage1", "stage2")
            for key in ("sampler=triplet", "batch_size=4", "steps=2")
        ),
    )
    Training(config, None, quiet).run()
    assert len(seen) == 2
    for batch in seen:
        assert len(batch["image_index"]) == 5 * 4
        images = batch["images"][batch["image_index"]]
        for view in (12, 16):
            assert batch["image_ids"][view : view + 4].tolist() == batch["image_ids"][:4].tolist()
            assert batch["value_ids"][view : view + 4].tolist() == batch["value_ids"][:4].tolist()
            assert all((images[view + i] != images[i]).any() for i in range(4))
        assert all((images[12 + i] != images[16 + i]).any() for i in range(4))
    with pytest.raises(ValueError, match=r"data\.anchor_views must be 0 for dense batches.* stage1\.sampler must be"):
        small_config("data.anchor_views=2")


def test_unreadable_photos_are_counted_under_skip_and_named_under_raise(small_config, tmp_path):
    from ipad_data.render import render_image

    photos = tmp_path / "photos"
    photos.mkdir()
    lines = ["file_name,sleeve"]
    for index in range(60):
        render_image(index, 3, 64, "easy").image.save(photos / f"{index}.jpg")
        lines.append(f"{index}.jpg,{'long' if index % 2 else 'short'}")
    (photos / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    shared = ["data.name=table", "data.options={}", f"data.dir={photos}", "stage0.steps=3", "stage1.steps=0"]
    config = small_config(*shared, "stage2.steps=0", "data.on_error=skip")
    training_run = Training(config, None, quiet)
    broken = Path(training_run.data.splits["train"].with_format(None)[0]["image"]["path"])
    training_run_image = broken.read_bytes()
    broken.write_bytes(b"<html>not found</html>")
    with pytest.warns(UserWarning, match="train: 1 images cannot be read and are left out"):
        training_run.run()
    rows = read_metrics(Path(config.output_dir))
    assert sum(row.get("skipped_images", 0) for row in rows) >= 1
    with pytest.raises(ValueError, match=broken.name):
        Training(small_config(*shared, "stage2.steps=0", output="other"), None, quiet).run()
    gallery = next(row for row in training_run.data.splits["validation"].with_format(None) if row["roles"] == [2])
    held_out = Path(gallery["image"]["path"])
    held_out.write_bytes(b"")
    with pytest.warns(UserWarning, match="cannot be read and are left out") as told:
        Training(small_config(*shared, "stage2.steps=0", "data.on_error=skip", output="fourth"), None, quiet).run()
    assert any("embedding validation: 1 images cannot be read and are left out" in str(each.message) for each in told)
    broken.write_bytes(training_run_image)
    with pytest.raises(ValueError, match=f"{held_out.name}: not an image file"):
        Training(small_config(*shared, "stage2.steps=0", output="fifth"), None, quiet).run()
    for photo in photos.glob("*.jpg"):
        photo.write_bytes(b"<html>not found</html>")
    with pytest.raises(
        ValueError, match=r"images cannot be read, and nothing of it is left:(.|\n)*\.jpg: not an image"
    ):
        Training(small_config(*shared, "stage2.steps=0", "data.on_error=skip", output="third"), None, quiet).run()


@pytest.mark.parametrize(
    ("rate", "steps"),
    [
        pytest.param(0.0, 2, id="IP-SP is frozen", marks=pytest.mark.slow),
        pytest.param(1e-4, 2, id="both learn", marks=pytest.mark.slow),
        pytest.param(0.0, 0, id="stage 1 alone"),
    ],
)
def test_compiled_networks_train_as_others_do(small_config, monkeypatch, rate, steps):
    from torch._dynamo.utils import counters

    def weights(name):
        overrides = (
            "stage0.steps=0",
            "stage1.steps=2",
            f"stage2.steps={steps}",
            f"stage2.spatial_learning_rate={rate}",
        )
        config = small_config(*overrides, "values.enabled=false", "rerank.enabled=false", output=name)
        results = Training(config, None, quiet).run()
        return results["rows"][-1]["overall"], load_file(Path(config.output_dir) / "best" / "model.safetensors")

    expected, plain = weights("plain")
    torch._dynamo.reset()
    monkeypatch.setattr("ipad_train.launch.launched_compiler", lambda: "eager")
    counters.clear()
    found, compiled = weights("compiled")
    assert counters["stats"]["unique_graphs"] >= (3 if steps else 1)  # stage 1, stage 2, the momentum encoder
    assert found == pytest.approx(expected, abs=1.0)
    for name, tensor in plain.items():
        torch.testing.assert_close(compiled[name], tensor, atol=2e-3, rtol=1e-2, msg=name)


def test_stage_2_compiles_its_network_the_second_branch_and_the_momentum_encoder(small_config, monkeypatch):
    monkeypatch.setattr("ipad_train.launch.launched_compiler", lambda: "eager")
    context = RunContext.open(small_config("stage0.steps=0", "stage1.steps=0", "stage2.steps=1"), quiet)
    objective = context.accelerator.unwrap_model(
        start_stage(context, "stage2", context.config.stage2, 0, None).objective
    )
    for network in (objective.model, objective.model.semantic, objective.memory.momentum.network):
        assert network._compiled_call_impl is not None
