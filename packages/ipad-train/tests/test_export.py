from __future__ import annotations

import json

import onnxruntime
import pytest
import torch
from click.testing import CliRunner

from ipad_core import AttributeEmbedder
from ipad_train import export as exporting
from ipad_train.cli import main
from ipad_train.export import ExportMismatchError, export_run

# torch's exporter about torch's own code
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def exported(finished, tmp_path_factory):
    """The folder of a run's model for other runtimes."""
    folder = tmp_path_factory.mktemp("exported")
    result = CliRunner().invoke(main, ["export", str(finished[0]), "--out", str(folder)])
    assert result.exit_code == 0, result.output
    return folder


def test_a_run_leaves_files_that_answer_as_its_model(finished, exported):
    facts = json.loads((exported / "export.json").read_text())
    assert set(facts["files"]) == {"model.onnx", "model.pt2"}
    assert facts["image_size"] == 48
    assert list(facts["attributes"]) == list(AttributeEmbedder.from_pretrained(finished[0] / "best").schema)
    images, asked = torch.randint(0, 256, (3, 3, 48, 48), dtype=torch.uint8), torch.tensor([4, 0, 1, 2])
    index = torch.tensor([0, 1, 2, 2])
    with torch.no_grad():
        expected = AttributeEmbedder.from_pretrained(finished[0] / "best")(images, asked, index).embedding
        program = torch.export.load(exported / "model.pt2").module()(images, asked, index)
    session = onnxruntime.InferenceSession(exported / "model.onnx", providers=["CPUExecutionProvider"])
    given = {"images": images.numpy(), "attribute_ids": asked.numpy(), "image_index": index.numpy()}
    answers = dict(zip(facts["outputs"], session.run(facts["outputs"], given), strict=True))
    torch.testing.assert_close(program[0], expected, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(torch.from_numpy(answers["embedding"]), expected, atol=1e-3, rtol=1e-2)


def test_what_answers_something_else_is_deleted(finished, exported, tmp_path, monkeypatch):
    """The program is the one that was exported before: to make another takes seconds."""
    program, honest = torch.export.load(exported / "model.pt2"), exporting._program_answer
    monkeypatch.setattr(exporting, "export_program", lambda *arguments, **options: program)
    monkeypatch.setattr(exporting, "_program_answer", lambda path: lambda *asked: honest(path)(*asked) + 0.01)
    with pytest.raises(
        ExportMismatchError, match=r"differ from the model's by 0\.01, more than 0\.001; it is deleted"
    ):
        export_run(finished[0], tmp_path, ["torch"], lambda line: None)
    assert not (tmp_path / "model.pt2").exists()


def test_bad_requests(finished, tmp_path):
    with pytest.raises(ValueError, match="format must be one of onnx, torch, got 'pickle'"):
        export_run(finished[0], tmp_path, ["pickle"], lambda line: None)
    assert "is no run" in CliRunner().invoke(main, ["export", str(tmp_path)]).output
