from __future__ import annotations

from functools import partial

from click.testing import CliRunner

from ipad_core import create_model
from ipad_train import commands
from ipad_train.analyze import analyze, explain
from ipad_train.cli import main


def test_parts_add_up_to_the_whole():
    model = create_model("ipad_tiny", num_attributes=3)
    parts = {part.name.strip(): part for part in analyze(model, 96, repeats=1)}
    whole, first, second = parts["whole network"], parts["first branch (IP-SP)"], parts["second branch (IP-SE)"]
    assert whole.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert first.parameters + second.parameters == whole.parameters
    assert first.multiply_adds + second.multiply_adds == whole.multiply_adds
    trunk, rest = parts["of it the trunk"], parts["of it attention and head"]
    assert trunk.parameters + rest.parameters == first.parameters
    assert trunk.multiply_adds > 10 * rest.multiply_adds
    assert parts["of it its trunk"].parameters == sum(p.numel() for p in model.semantic.crop_trunk.parameters())
    assert explain(model, list(parts.values())) == []


def test_one_branch_is_one_row():
    assert [part.name for part in analyze(create_model("csn_tiny", num_attributes=2), 96, repeats=1)] == [
        "whole network"
    ]


def test_the_papers_sizes_beside_the_paper(monkeypatch):
    monkeypatch.setattr(commands, "analyze", partial(analyze, repeats=1))
    result = CliRunner().invoke(main, ["analyze"])
    assert result.exit_code == 0, result.output
    rows = {line.split("|")[1].strip(): line.split("|")[2:4] for line in result.output.splitlines() if line[:1] == "|"}
    assert [cell.strip() for cell in rows["whole network"]] == ["107.16", "21.192"]
    assert [cell.strip() for cell in rows["first branch (IP-SP)"]] == ["14.60", "3.392"]
    assert [cell.strip() for cell in rows["the paper, section 4.5 (RTX 3090)"]] == ["142.00", "3.440"]
    assert "With them it is 141.6 M" in result.output
    assert "the paper's figure cannot hold both branches" in result.output.replace("\n", " ")


def test_a_run_and_what_is_neither(finished):
    output = CliRunner().invoke(main, ["analyze", str(finished[0])]).output
    assert "whole network" in output
    assert (
        "unknown model 'ipat_tiny'; did you mean one of: ipad_tiny"
        in CliRunner().invoke(main, ["analyze", "ipat_tiny"]).output
    )
    assert "must be positive" in CliRunner().invoke(main, ["analyze", "--attributes", "0"]).output
