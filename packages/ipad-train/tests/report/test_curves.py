from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest

from ipad_train.report.curves import method_curves, plot, run_curves


def rows(stage, first, values, key="loss"):
    return [{"step": first + i, "stage": stage, key: value} for i, value in enumerate(values)]


def test_a_plot_is_well_formed_and_takes_the_pages_colour():
    svg = plot({"loss": ([1, 2, 3], [1.0, None, float("nan")])}, 'a "quoted" loss', "loss", [2])
    element = ElementTree.fromstring(svg)
    assert element.get("role") == "img"
    assert element.get("aria-label") == 'a "quoted" loss; last: loss 1'
    assert "currentColor" in svg
    assert "#010203" not in svg
    assert "http" not in svg
    assert "width=" not in svg[: svg.index(">")]


def test_equal_input_gives_an_equal_plot_and_ids_differ_between_plots():
    line = {"loss": ([1, 2], [1.0, 0.5])}
    assert plot(line, "first", "loss") == plot(line, "first", "loss")
    ids = [set(re.findall(r'id="([mp][0-9a-f]{8,})"', plot(line, name, "loss"))) for name in ("first", "second")]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_every_stage_has_its_losses_and_its_own_marks():
    metrics = [
        *rows("stage0", 1, [2.0, 1.0]),
        *rows("stage0", 1, [0.1, 0.2], "accuracy"),
        *rows("stage1", 3, [0.5]),
        {"step": 3, "stage": "stage1", "event": "something <began>"},
        *rows("stage1", 3, [40.0], "validation/MAP"),
        *rows("stage1", 3, [30.0], "validation/neck_line"),
    ]
    curves = {curve.title: curve for curve in run_curves(metrics)}
    assert list(curves) == ["Losses of stage0", "Accuracy of stage0", "Losses of stage1", "Validation MAP"]
    assert "step 3 (dotted line): something <began>" in curves["Losses of stage1"].note
    assert "overall 40, neck line 30" in curves["Validation MAP"].svg
    assert "last: training batches 20" in curves["Accuracy of stage0"].svg


def test_plots_of_a_stage_count_its_steps_as_its_messages_do():
    metrics = [
        *rows("stage1", 1, [0.5, 0.4]),
        *rows("stage1", 2, [40.0], "validation/MAP"),
        *rows("stage2", 3, [0.5, 0.4]),
        {"step": 4, "stage": "stage2", "event": "cluster loss starts at step 2"},
        *rows("stage2", 4, [50.0], "validation/MAP"),
    ]
    curves = {curve.title: curve for curve in run_curves(metrics, {"stage1": 0, "stage2": 2})}
    assert curves["Losses of stage2"].note == "step 2 (dotted line): cluster loss starts at step 2"
    assert ">step of stage2</text>" in curves["Losses of stage2"].svg
    assert max(ticks(curves["Losses of stage2"].svg)) == 2
    assert ">step of the run</text>" in curves["Validation MAP"].svg


def test_a_small_loss_beside_a_large_one_is_seen_on_a_logarithmic_axis():
    large = rows("stage2", 1, [4.0, 4.1, 3.9])
    small = rows("stage2", 1, [0.02, 0.019, 0.021], "triplet_semantic")
    (curve,) = run_curves([{**a, **b} for a, b in zip(large, small, strict=True)])
    assert ">loss (logarithmic)</text>" in curve.svg
    assert "triplet semantic: triplets of IP-SE (Eq. 14)" in curve.note.replace("\n", " ")
    (curve,) = run_curves([{**a, "contrast": 2.0} for a in large])
    assert ">loss</text>" in curve.svg


def test_learning_rates_of_the_stages():
    metrics = [
        *rows("stage1", 1, [1e-4, 9e-5], "learning_rate"),
        *rows("stage2", 3, [5e-5, 4e-5], "learning_rate"),
        *rows("stage2", 3, [1e-5, 8e-6], "learning_rate/spatial"),
    ]
    (curve,) = run_curves(metrics)
    assert curve.title == "Learning rate"
    assert "last: stage1 9e-05, stage2 4e-05, stage2, IP-SP 8e-06" in curve.svg


def test_counts_have_whole_numbers_on_their_axis():
    svg = plot({"stuck attributes": ([1, 2], [3.0, 3.0])}, "stuck", "attributes")
    assert all(tick.is_integer() for tick in ticks(svg)[-3:])
    assert 3.0 in ticks(svg)


def ticks(svg):
    return [float(text) for text in re.findall(r">([0-9.]+)</text>", svg)]


def test_skipped_images_are_no_loss_and_drawn_where_there_were_some():
    readable = [*rows("stage0", 1, [2.0, 1.0]), *rows("stage0", 1, [0.0, 0.0], "skipped_images")]
    (curve,) = run_curves(readable)
    assert "skipped" not in curve.svg
    losses, skipped = run_curves([*readable, *rows("stage0", 3, [3.0], "skipped_images")])
    assert skipped.title == "Unreadable images of stage0"
    assert "last: skipped images 3" in skipped.svg
    assert losses.svg == curve.svg


@pytest.mark.parametrize("metrics", [[], [{"step": 1, "stage": "stage1", "event": "only words"}]])
def test_nothing_measured_nothing_drawn(metrics):
    assert run_curves(metrics) == []
    assert method_curves({"a": metrics, "b": metrics}) == []


def test_methods_are_laid_over_each_other_from_the_start_of_stage_1():
    metrics = {
        "both": [*rows("stage0", 1, [2.0] * 40), *rows("stage1", 41, [0.5, 0.4])],
        "mask": rows("stage1", 1, [0.6, 0.3]),
    }
    (curve,) = method_curves(metrics | {"point": rows("stage1", 1, [30.0], "validation/MAP")}, {"both": 40})
    assert "both 0.4, mask 0.3" in curve.svg
    ticks = [float(text) for text in re.findall(r">([0-9.]+)</text>", curve.svg)]
    assert max(ticks) <= 2.0


def test_stuck_attributes_and_active_triplets_over_time():
    def evaluation(step, collar, hem):
        maps = {"validation/MAP": 30.0, "validation/neck_collar": collar, "validation/hem": hem}
        stuck = int(collar < 28) + int(hem < 28)
        return {
            "step": step,
            "stage": "stage1",
            **maps,
            "validation/stuck": stuck,
            "random/neck_collar": 20.0,
            "random/hem": 20.0,
        }

    metrics = [
        *rows("stage1", 1, [0.5, 0.4]),
        *rows("stage1", 1, [0.9, None], "active/neck_collar"),
        evaluation(2, 21.0, 22.0),
        evaluation(4, 21.0, 50.0),
        evaluation(6, 22.0, 60.0),
        evaluation(8, 50.0, 60.0),
    ]
    curves = {curve.title: curve for curve in run_curves(metrics)}
    assert list(curves) == ["Losses of stage1", "Active triplets of stage1", "Validation MAP", "Attributes at chance"]
    assert "last: neck collar 90" in curves["Active triplets of stage1"].svg
    assert "overall 30, neck collar 50, hem 60" in curves["Validation MAP"].svg
    assert "last: stuck attributes 0" in curves["Attributes at chance"].svg
    assert curves["Attributes at chance"].note == (
        "step 2 (stage1): neck collar, hem; step 4 (stage1): neck collar; step 8 (stage1): none"
    )
    never = [evaluation(2, 50.0, 60.0), evaluation(4, 51.0, 60.0)]
    assert [curve.title for curve in run_curves(never)] == ["Validation MAP"]
