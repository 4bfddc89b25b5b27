from __future__ import annotations

import numpy as np
import pytest
import torch

from ipad_core import create_model
from ipad_train.embed import EntryEmbeddings
from ipad_train.evaluate import query_precisions, some_queries
from ipad_train.fusion_weight import choose_beta, with_beta
from ipad_train.reranking import RunReranking
from ipad_train.run_results import final_row, join_stages


def row(name, overall, **attributes):
    attributes = attributes or {"a": overall}
    return {"name": name, "overall": overall, "macro": overall, "attributes": attributes}


def evaluated(*rows, localization=None):
    return {"split": "test", "queries": 5, "rows": [row("random", 20.0), *rows], "localization": localization}


STAGES = {
    "stage0": evaluated(row("stage 0 alone", 48.0)),
    "stage1": evaluated(row("IP-SP", 30.0), localization={"overall": 60.0}),
    "stage2": evaluated(row("IP-SP", 30.0), row("IP-SE", 25.0), row("fused", 31.0), localization={"overall": 61.0}),
}


def names(results):
    return [row["name"] for row in results["rows"]]


def test_every_stage_has_a_row_and_an_unchanged_branch_only_one():
    results = join_stages(STAGES, "stage2", None, None, RunReranking())
    assert names(results) == ["random", "stage 0 alone", "IP-SP", "IP-SE", "fused"]
    assert (results["delivered"], results["final"], results["localization"]) == ("fused", "fused", {"overall": 61.0})


def test_a_delivered_stage_zero_is_final_and_keeps_the_attention_of_the_last_stage():
    results = join_stages(STAGES, "stage0", None, None, RunReranking(refused=True))
    assert names(results)[-1] == "stage 0 alone + FR (not used)"
    assert final_row(results)["overall"] == 48.0
    assert results["delivered"] == "stage 0 alone"
    assert results["localization"] == {"overall": 61.0}


def test_a_branch_that_stage_two_changed_keeps_its_row_of_stage_one():
    changed = {**STAGES, "stage2": evaluated(row("IP-SP", 28.0), row("IP-SE", 25.0), row("fused", 29.0))}
    results = join_stages(changed, "stage1", None, None, RunReranking())
    assert names(results) == ["random", "stage 0 alone", "IP-SP after stage 1", "IP-SP", "IP-SE", "fused"]
    assert (results["delivered"], final_row(results)["overall"]) == ("IP-SP after stage 1", 30.0)
    assert STAGES["stage1"]["rows"][1]["name"] == "IP-SP"  # what came in stays


def test_results_without_a_final_row_end_with_it():
    assert final_row({"rows": [row("random", 1.0), row("IP-SP", 2.0)]})["name"] == "IP-SP"


@pytest.fixture
def branches():
    """Entries whose first branch knows the value and whose second knows nothing."""
    torch.manual_seed(0)
    value_ids = np.tile([0, 1], 20)
    spatial = np.stack([value_ids, 1 - value_ids], 1) + 0.4 * np.random.default_rng(0).standard_normal((40, 2))
    semantic = np.random.default_rng(1).standard_normal((40, 2))
    return EntryEmbeddings(
        fused=np.zeros((40, 2), np.float32),
        spatial=spatial.astype(np.float32),
        semantic=semantic.astype(np.float32),
        peak=None,
        image_ids=np.arange(40),
        attribute_ids=np.zeros(40, np.int64),
        value_ids=value_ids,
        roles=np.repeat([1, 2], 20),
    )


def test_a_branch_that_knows_nothing_gets_no_weight_that_hurts(branches):
    options = {"image_size": 32, "crop_size": 32, "embed_dim": 2, "latent_dim": 4}
    model = create_model("ipad_tiny", num_attributes=1, **options)
    beta = choose_beta(model, branches)

    def quality(value):
        fused = with_beta(model, branches, value)
        return query_precisions(fused.with_role("query"), fused.with_role("gallery"), "fused").mean()

    scores = [quality(step / 20) for step in range(21)]
    assert quality(beta) == max(scores) >= max(quality(0.0), quality(1.0))


def test_some_queries_are_the_same_for_every_model(branches):
    assert some_queries(branches, None).image_ids.tolist() == list(range(20))
    few = some_queries(branches, 7)
    assert len(few.image_ids) == 7
    assert few.image_ids.tolist() == some_queries(branches, 7).image_ids.tolist()
