"""Mistakes that would only show when a later stage starts or the run ends."""

from __future__ import annotations

import pytest

from ipad_train.training import Training


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.augmentation={blurr: 1}"], r"data\.augmentation does not fit .*blurr"),
        (["data.anchor_augmentation={perspectiv: 1}"], r"data\.anchor_augmentation does not fit .*perspectiv"),
        (["rerank.options={step_sise: 1}"], r"rerank\.options holds 'step_sise'.*nearest: .*step_size"),
        (["rerank.options={seed: 1}"], r"rerank\.options holds 'seed'"),
        (
            ["stage1.sampler=balanced", "stage1.batch_size=3200", "stage1.values_per_attribute=2"],
            r"stage1: .*attributes",
        ),
        (["stage2.batch_size=10", "stage2.accumulation=4"], r"stage2\.batch_size must be a multiple of accumulation"),
        (["stage2.objective=tripplet"], r"stage2\.objective must be one of"),
        (["loop.log_with=[tensorbord]"], r"loop\.log_with must name trackers"),
    ],
)
def test_mistakes_of_later_stages_are_found_before_the_first_step(small_config, overrides, message):
    with pytest.raises(ValueError, match=message):
        Training(small_config(*overrides), None, lambda line: None)
