from __future__ import annotations

import json

import torch

from ipad_core import AttributeEmbedder
from ipad_train.run_folder import RunFolder


def test_the_delivered_model_knows_what_it_was_trained_on_and_how_it_was_measured(finished):
    run = finished[0]
    results = json.loads((run / "validation.json").read_text())
    model = AttributeEmbedder.from_pretrained(run / "best")
    assert model.about["metrics_command"] == "ipad-train evaluate run --split validation"
    row = next(row for row in results["rows"] if row["name"] == results["delivered"])
    assert model.about["metrics"]["validation MAP of all queries, %"] == round(row["overall"], 2)
    assert set(model.about["metrics"]) == {"validation MAP of all queries, %"} | {
        f"validation MAP of {name}, %" for name in model.schema
    }
    assert model.about["dataset"].startswith("rendered: 48 images with ")
    card = (run / "best" / "README.md").read_text()
    assert "Measured with `ipad-train evaluate run --split validation`." in card
    assert "rendered: 48 images" in card
    assert "| sleeve_length | sleeveless, short, elbow, three_quarter, long |" in card
    stage = AttributeEmbedder.from_pretrained(run / "stages" / RunFolder(run).delivered_stage())
    assert stage.about == {}
    torch.testing.assert_close(model.state_dict(), stage.state_dict(), rtol=0, atol=0)
