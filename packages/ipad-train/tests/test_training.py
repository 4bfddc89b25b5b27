"""Whole runs of a network of a few thousand weights on real images."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ipad_core import AttributeEmbedder
from ipad_data.prepare import prepare
from ipad_data.render import SCHEMA
from ipad_rerank import FeatureReasoning
from ipad_train import finishing, judging, training
from ipad_train.chance import stuck_attributes
from ipad_train.checkpoint import CheckpointError, find_checkpoint, read_state
from ipad_train.commands import evaluate_run
from ipad_train.config_files import load_config
from ipad_train.data import load_data
from ipad_train.finite import DivergedError
from ipad_train.objectives import AttributeDiverging, MetricLearning
from ipad_train.tracking import read_metrics
from ipad_train.training import Training


def quiet(line):
    pass


class InterruptedRunError(Exception):
    """Stands for a kill at a step."""


def stop_after(monkeypatch, global_step):
    """Make a run die right after a global step, whatever it was doing."""
    original = training.Tracker.log

    def log(self, step, stage, values):
        original(self, step, stage, values)
        if step == global_step and "loss" in values:
            raise InterruptedRunError

    monkeypatch.setattr(training.Tracker, "log", log)
    return lambda: monkeypatch.setattr(training.Tracker, "log", original)


def test_a_run_leaves_what_the_readme_says(finished):
    run, said = finished
    assert (run / "config.yaml").is_file()
    assert find_checkpoint(run) is not None
    for stage in ("stage0", "stage1", "stage2"):
        AttributeEmbedder.from_pretrained(run / "stages" / stage)
    best = AttributeEmbedder.from_pretrained(run / "best")
    assert not best.training
    results = json.loads((run / "validation.json").read_text())
    assert [row["name"] for row in results["rows"]] == ["random", "stage 0 alone", "IP-SP", "IP-SE", "fused"]
    overall = {row["name"]: row["overall"] for row in results["rows"]}
    assert overall["fused"] >= max(overall["IP-SP"], overall["IP-SE"])
    assert overall[results["delivered"]] == max(overall[name] for name in ("stage 0 alone", "IP-SP", "fused"))
    assert all(0 <= row["overall"] <= 100 for row in results["rows"])
    assert 0 <= results["localization"]["overall"] <= 100
    assert any("MiB preallocated" in line for line in said)
    assert any(line.startswith("beta = ") for line in said)
    assert list((run / "tensorboard").iterdir())


def test_metrics_hold_every_stage_its_losses_and_the_switch(finished):
    rows = read_metrics(finished[0])
    steps = [row["step"] for row in rows if "loss" in row]
    assert steps == list(range(1, 10))
    stage2 = [row for row in rows if row["stage"] == "stage2"]
    assert {"triplet_semantic", "contrast", "learning_rate"} <= set(stage2[0])
    assert any("cluster loss starts" in row.get("event", "") for row in stage2)
    assert any("centers_semantic" in row for row in stage2)
    (evaluation,) = [row for row in rows if row["stage"] == "stage1" and "validation/MAP" in row]
    attributes = [key.removeprefix("random/") for key in evaluation if key.startswith("random/")]
    assert len(attributes) == 6
    maps, random = ({name: evaluation[f"{kind}/{name}"] for name in attributes} for kind in ("validation", "random"))
    assert evaluation["validation/stuck"] == len(stuck_attributes(maps, random))


def test_the_first_lines_say_what_is_about_to_happen_and_the_last_ones_what_stayed_at_chance(finished):
    run, said = finished
    assert "1 process, NO, cpu, float32; each with " in said[0]
    assert said[1].startswith("data: rendered, 48 labelled training images")
    assert "from random weights" in said[2]
    stuck = json.loads((run / "validation.json").read_text())["stuck"]
    (line,) = [line for line in said if line.startswith("still at chance on validation")]
    assert stuck
    assert all(f"{name} " in line for name in stuck)
    assert said[-1].startswith("what to try for these")


def test_shares_of_active_triplets_are_logged_by_name_and_none_does_not_spoil_the_mean(small_config, monkeypatch):
    original = MetricLearning.forward
    shares = iter([0.5, float("nan"), 1.0])

    def forward(self, batch):
        return {
            **original(self, batch),
            "active/0": torch.tensor(next(shares)),
            "active/1": torch.tensor(float("nan")),
        }

    monkeypatch.setattr(MetricLearning, "forward", forward)
    config = small_config("stage0.steps=0", "stage2.steps=0", "loop.log_every=3", "loop.save_every=10")
    run = Training(config, None, quiet)
    names = run.data.schema.attributes
    run.run()
    (row,) = [row for row in read_metrics(_path(config.output_dir)) if "loss" in row]
    assert row[f"active/{names[0]}"] == pytest.approx(0.75)
    assert f"active/{names[1]}" not in row
    assert row["loss"] > 0


def test_stage_one_starts_from_the_trunk_of_stage_zero_and_stage_two_keeps_a_frozen_spatial_branch(finished):
    run, _ = finished
    before = load_file(run / "stages" / "stage1" / "model.safetensors")
    after = load_file(run / "stages" / "stage2" / "model.safetensors")
    spatial = [name for name in before if name.startswith("spatial.")]
    assert spatial
    assert all(torch.equal(before[name], after[name]) for name in spatial)


@pytest.mark.parametrize("step", [3, 4, 7, 8], ids=["mid stage 1", "after a save", "mid stage 2", "late stage 2"])
def test_a_killed_run_resumes_bit_for_bit(finished, small_config, monkeypatch, step):
    straight, _ = finished
    config = small_config("loop.save_every=1")
    undo = stop_after(monkeypatch, step)
    with pytest.raises(InterruptedRunError):
        Training(config, None, quiet).run()
    undo()
    Training(config, "auto", quiet).run()
    resumed = config.output_dir
    expected = load_file(straight / "stages" / "stage2" / "model.safetensors")
    actual = load_file(f"{resumed}/stages/stage2/model.safetensors")
    assert expected.keys() == actual.keys()
    different = [name for name in expected if not torch.equal(expected[name], actual[name])]
    assert not different
    losses = [(row["step"], row["loss"]) for row in read_metrics(straight) if "loss" in row]
    assert [(row["step"], row["loss"]) for row in read_metrics(_path(resumed)) if "loss" in row] == losses


def _path(text):
    from pathlib import Path

    return Path(text)


def test_queues_centers_and_the_best_map_are_part_of_the_checkpoint(finished):
    run, _ = finished
    path = find_checkpoint(run)
    tensors = load_file(path / "objective.safetensors")
    assert any("queues.semantic.storage" in name for name in tensors)
    assert any("centers.semantic.centers" in name for name in tensors)
    assert any("momentum.network" in name for name in tensors)
    assert all(score["map"] > 0 for score in read_state(path)["scores"].values())


def test_a_checkpoint_of_another_configuration_is_refused_by_name(finished, small_config, tmp_path):
    run, _ = finished
    shutil.copytree(run, tmp_path / "run")
    with pytest.raises(CheckpointError, match="another configuration: stage1 differ"):
        Training(small_config("stage1.steps=5"), "auto", quiet)


def test_a_folder_with_a_run_is_not_overwritten(finished, small_config, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    with pytest.raises(FileExistsError, match="already holds a run"):
        Training(small_config(), None, quiet)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_a_loadable_checkpoint(small_config, monkeypatch, value):
    original = MetricLearning.forward
    calls = []

    def forward(self, batch):
        calls.append(1)
        losses = original(self, batch)
        return {"loss": losses["loss"] * (value if len(calls) == 3 else 1.0)}

    monkeypatch.setattr(MetricLearning, "forward", forward)
    config = small_config("loop.save_every=1", "stage2.steps=0", "loop.max_skipped=0")
    with pytest.raises(DivergedError, match="stage1, or its gradient, became NaN or infinite at step 3;"):
        Training(config, None, quiet).run()
    path = find_checkpoint(_path(config.output_dir))
    model = AttributeEmbedder.from_pretrained(path / "model")
    assert all(torch.isfinite(value).all() for value in model.state_dict().values() if value.is_floating_point())


def test_triplet_batches_and_a_trained_spatial_branch(small_config):
    config = small_config(
        "stage0.steps=1", "stage1.sampler=triplet", "stage1.batch_size=6", "stage2.sampler=triplet",
        "stage2.batch_size=6", "stage2.spatial_learning_rate=1e-4", "stage2.schedule=step", "stage2.optimizer=adam",
    )  # fmt: skip
    results = Training(config, None, quiet).run()
    rows = read_metrics(_path(config.output_dir))
    assert any("centers_spatial" in row and "triplet_spatial" in row for row in rows)
    assert results["rows"][-1]["overall"] > 0


def test_a_configuration_that_trains_nothing_is_an_error(small_config):
    with pytest.raises(ValueError, match="trains nothing"):
        Training(small_config("stage0.steps=0", "stage1.steps=0", "stage2.steps=0"), None, quiet)


def test_a_second_stage_of_a_network_with_one_branch_is_an_error(small_config):
    options = "model.options={image_size: 32, embed_dim: 16}"
    config = small_config("model.name=csn_tiny", options, "stage0.steps=0", "stage1.steps=1")
    with pytest.raises(ValueError, match=r"set stage2\.steps=0"):
        Training(config, None, quiet).run()


def test_epochs_and_a_batch_larger_than_the_dataset_become_steps_that_fit_it(small_config):
    said = []
    config = small_config("stage0.batch_size=100", "stage1.epochs=0.5", "stage2.epochs=0")
    run = Training(config, None, said.append)
    run.run()
    assert any("stage0: batch_size reduced from 100 to 48: there are 48 labelled training images" in x for x in said)
    written = load_config(_path(config.output_dir) / "config.yaml")
    assert (written.stage0.batch_size, written.stage1.steps, written.stage1.epochs) == (48, 2, None)
    assert [name for name, _ in written.stages()] == ["stage0", "stage1"]
    steps = [row["step"] for row in read_metrics(_path(config.output_dir)) if "loss" in row]
    assert steps == [1, 2, 3, 4]
    Training(config, "auto", said.append).run()  # the same epochs come to the same steps


def test_two_augmented_anchors_are_part_of_every_triplet_step(small_config, monkeypatch):
    seen = []
    original = AttributeDiverging.forward

    def forward(self, batch):
        seen.append({name: tensor.clone() for name, tensor in batch.items()})
        return original(self, batch)

    monkeypatch.setattr(AttributeDiverging, "forward", forward)
    config = small_config(
        "data.anchor_views=2", "data.anchor_augmentation={perspective: 0.2}", "data.flip=0", "stage0.steps=0",
        *(f"{stage}.{key}" for stage in ("stage1", "stage2") for key in ("sampler=triplet", "batch_size=4", "steps=2")),
    )  # fmt: skip
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
    broken = _path(training_run.data.splits["train"].with_format(None)[0]["image"]["path"])
    training_run_image = broken.read_bytes()
    broken.write_bytes(b"<html>not found</html>")
    training_run.run()
    rows = read_metrics(_path(config.output_dir))
    assert sum(row.get("skipped_images", 0) for row in rows) >= 1
    with pytest.raises(ValueError, match=broken.name):
        Training(small_config(*shared, "stage2.steps=0", output="other"), None, quiet).run()
    gallery = next(row for row in training_run.data.splits["validation"].with_format(None) if row["roles"] == [2])
    held_out = _path(gallery["image"]["path"])
    held_out.write_bytes(b"")
    with pytest.warns(UserWarning, match="embedding validation: 1 images cannot be read and are left out"):
        Training(small_config(*shared, "stage2.steps=0", "data.on_error=skip", output="fourth"), None, quiet).run()
    broken.write_bytes(training_run_image)
    with pytest.raises(ValueError, match=f"{held_out.name}: not an image file"):
        Training(small_config(*shared, "stage2.steps=0", output="fifth"), None, quiet).run()
    for photo in photos.glob("*.jpg"):
        photo.write_bytes(b"<html>not found</html>")
    with pytest.raises(
        ValueError, match=r"images cannot be read, and nothing of it is left:(.|\n)*\.jpg: not an image"
    ):
        Training(small_config(*shared, "stage2.steps=0", "data.on_error=skip", output="third"), None, quiet).run()


def test_a_stage_that_loses_what_the_one_before_knew_says_so_and_does_not_overwrite_it(small_config, monkeypatch):
    original = judging.evaluate_split

    def worse(model, *arguments, **options):
        results = original(model, *arguments, **options)
        if model.architecture == "ipad":
            results["rows"][-1]["overall"] /= 2
        return results

    monkeypatch.setattr(judging, "evaluate_split", worse)
    monkeypatch.setattr(finishing, "evaluate_split", worse)
    said = []
    config = small_config("stage2.steps=0")
    results = Training(config, None, said.append).run()
    run = _path(config.output_dir)
    overall = {row["name"]: row["overall"] for row in results["rows"]}
    assert overall["stage 0 alone"] > overall["IP-SP"]
    assert results["delivered"] == results["final"] == "stage 0 alone"
    assert AttributeEmbedder.from_pretrained(run / "best").architecture == "attribute_classifier"
    (warning,) = results["warnings"]
    assert "stage1 ends BELOW stage0" in warning
    assert sum(warning in line for line in said) == 2  # when the stage ends, and at the end of the run
    events = [row["event"] for row in read_metrics(run) if "event" in row]
    assert any("stage1 ends BELOW stage0" in event for event in events)
    scores = json.loads((run / "stages" / "stage0" / "score.json").read_text())
    assert scores["validation_map"] == pytest.approx(overall["stage 0 alone"])


def test_patience_ends_a_stage_hands_on_its_best_weights_and_resumes_into_the_next(small_config, monkeypatch):
    maps = iter([30.0, 20.0, 10.0, 40.0, 50.0, 60.0, 70.0, 80.0])
    original = judging.evaluate_split

    def scripted(*arguments, **options):
        results = original(*arguments, **options)
        results["rows"][-1]["overall"] = next(maps)
        return results

    monkeypatch.setattr(judging, "evaluate_split", scripted)
    config = small_config(
        "stage0.steps=0",
        "stage1.steps=6",
        "stage2.steps=2",
        "loop.eval_every=1",
        "loop.patience=2",
        "loop.save_every=1",
    )
    undo = stop_after(monkeypatch, 7)  # the first step of stage 2
    with pytest.raises(InterruptedRunError):
        Training(config, None, quiet).run()
    undo()
    run = _path(config.output_dir)
    assert [row["step"] for row in read_metrics(run) if "loss" in row] == [1, 2, 3, 7]
    assert any("stage1 ends early at step 3 of 6" in row.get("event", "") for row in read_metrics(run))
    score = json.loads((run / "stages" / "stage1" / "score.json").read_text())
    assert (score["step"], score["validation_map"]) == (1, 30.0)
    said = []
    Training(config, "auto", said.append).run()  # from the end of stage 1, which must not go on
    assert [row["step"] for row in read_metrics(run) if "loss" in row] == [1, 2, 3, 7, 8]


def test_a_reasoner_is_kept_only_where_validation_rises(small_config, monkeypatch):
    config = small_config("stage1.steps=0", "stage2.steps=0", "rerank.enabled=true", "rerank.steps=2")
    for after, used in ((99.0, True), (0.5, False)):
        monkeypatch.setattr(finishing, "fit_reasoner", lambda *arguments: random_reasoner())
        monkeypatch.setattr(finishing, "reasoned_row", lambda *arguments, after=after: {"overall": after})
        folder = _path(config.output_dir) / str(used)
        changed = dataclasses.replace(config, output_dir=str(folder))
        results = Training(changed, None, quiet).run()
        assert results["rerank"] == {"used": used, "before": results["rows"][1]["overall"], "after": after}
        assert (folder / "reasoner").is_dir() == used
        rows = evaluate_run(folder, "test", [], quiet)["rows"]
        assert rows[-1]["name"] == "stage 0 alone + FR" + (" (not used)" if not used else "")
        if not used:
            assert rows[-1]["attributes"] == rows[-2]["attributes"]


def random_reasoner():
    reasoner = FeatureReasoning(n_r=5, step_size=50.0)
    torch.nn.init.normal_(reasoner.network.last.weight, generator=torch.Generator().manual_seed(0))
    return reasoner


def test_a_run_killed_after_the_cluster_loss_started_resumes_with_it(small_config, monkeypatch):
    settings = ("stage2.steps=8", "clusters.refresh_every=3", "clusters.queue_length=1", "loop.save_every=1")
    straight = small_config(*settings, "stage0.steps=0", "stage1.steps=1", output="straight")
    Training(straight, None, quiet).run()
    expected = read_metrics(_path(straight.output_dir))
    (start,) = [row["step"] for row in expected if "cluster loss starts" in row.get("event", "")]
    assert start + 2 < 9
    config = dataclasses.replace(straight, output_dir=str(_path(straight.output_dir).with_name("killed")))
    undo = stop_after(monkeypatch, start + 1)
    with pytest.raises(InterruptedRunError):
        Training(config, None, quiet).run()
    undo()
    Training(config, "auto", quiet).run()
    assert read_metrics(_path(config.output_dir)) == expected
    one, other = (load_file(f"{run.output_dir}/stages/stage2/model.safetensors") for run in (straight, config))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_gradient_that_is_not_finite_is_never_saved_though_the_loss_is(small_config, monkeypatch):
    original = MetricLearning.forward
    calls = []

    def forward(self, batch):
        calls.append(1)
        losses = original(self, batch)
        if len(calls) == 3:
            parameter = next(self.parameters())
            losses["loss"] = losses["loss"] + (0 * parameter).sqrt().sum() * 0  # 0, with a gradient of 0 * infinity
        return losses

    monkeypatch.setattr(MetricLearning, "forward", forward)
    settings = ("stage0.steps=0", "stage2.steps=0", "stage1.steps=5", "loop.save_every=1", "loop.max_skipped=0")
    config = small_config(*settings)
    with pytest.raises(DivergedError, match="stage1, or its gradient, became NaN or infinite at step 3;"):
        Training(config, None, quiet).run()
    path = find_checkpoint(_path(config.output_dir))
    assert path.name == "step-00000002"
    tensors = load_file(path / "model" / "model.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values() if tensor.is_floating_point())
    monkeypatch.setattr(MetricLearning, "forward", original)
    Training(config, "auto", quiet).run()  # and it resumes
    assert all(row["gradient_norm"] > 0 for row in read_metrics(_path(config.output_dir)) if "loss" in row)


def test_a_second_start_in_a_folder_is_refused_while_the_first_one_lives(small_config):
    config = small_config()
    first = Training(config, None, quiet)
    with pytest.raises(FileExistsError, match=r"process \d+ trains in .*run; wait for it"):
        Training(small_config("seed=5"), "auto", quiet)
    assert load_config(_path(config.output_dir) / "config.yaml").seed == 0
    first.run()
    with pytest.raises(FileExistsError, match="already holds a run"):
        Training(config, None, quiet)
    Training(config, "auto", quiet).run()  # nobody holds it any more


def test_a_mistake_before_the_first_step_leaves_a_folder_that_a_run_may_start_in(small_config):
    with pytest.raises(ValueError, match=r"model\.options does not fit model\.name 'ipad_tiny'.*embed_dimm"):
        Training(small_config("model.options={embed_dimm: 3}"), None, quiet)
    run = Training(small_config("stage1.steps=0", "stage2.steps=0"), None, quiet)
    run.tracker.close()  # a run that died before it wrote anything
    run.lock.release()
    Training(small_config("stage1.steps=0", "stage2.steps=0"), None, quiet).run()


def test_a_folder_of_data_spelled_otherwise_is_the_same_data(small_config, tmp_path, monkeypatch):
    prepare(load_data(small_config().data).splits, tmp_path / "prepared", size=48)
    monkeypatch.chdir(tmp_path)
    settings = ("data.options={}", "stage1.steps=0", "stage2.steps=0")
    Training(small_config(*settings, "data.dir=prepared"), None, quiet).run()
    written = load_config(tmp_path / "run" / "config.yaml")
    assert written.data.dir == str(tmp_path / "prepared")
    monkeypatch.chdir("/")
    Training(small_config(*settings, f"data.dir={tmp_path}/x/../prepared/"), "auto", quiet).run()
    evaluate_run(tmp_path / "run", "test", [], quiet)


def test_a_signal_ends_a_run_that_is_being_finished(small_config, monkeypatch):
    def interrupted(*arguments):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(training, "finish_run", interrupted)
    config = small_config("stage1.steps=0", "stage2.steps=0")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in the background
    try:
        with pytest.raises(KeyboardInterrupt):
            Training(config, None, quiet).run()
    finally:
        signal.signal(signal.SIGINT, before)
    monkeypatch.undo()
    assert Training(config, "auto", quiet).run()["delivered"] == "stage 0 alone"


def test_the_delivered_model_knows_its_words(finished):
    """Names of attributes and values travel with every stage's model, so that it can be asked by name."""
    run, _ = finished
    for folder in ("best", "stages/stage0", "stages/stage2"):
        assert AttributeEmbedder.from_pretrained(run / folder).schema == {
            name: list(values) for name, values in SCHEMA.values.items()
        }
    photo = np.random.default_rng(0).integers(0, 256, (48, 40, 3), dtype=np.uint8)
    model = AttributeEmbedder.from_pretrained(run / "best")
    by_name = model.encode(photo, attribute="collar_design").embedding
    torch.testing.assert_close(by_name, model.encode(photo, attribute=2).embedding)
