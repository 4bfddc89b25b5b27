from __future__ import annotations

import pytest

from ipad_train.ablation import ablate


def nothing(line):
    pass


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": ["7"]}, "figures must be of 2, 3, 4, 5, 6, readings, fusion, got 7"),
        ({"names": []}, "figures must be of 2, 3, 4, 5, 6, readings, fusion, got none"),
        ({"seeds": [1, 1]}, "seeds must be different whole numbers"),
        ({"split": "tset"}, "split must be one of train, validation, test, got 'tset'"),
    ],
)
def test_mistakes_are_found_at_the_start(small_config, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        ablate(small_config(), announce=nothing, **options)
    assert not (tmp_path / "run").exists()


def test_only_an_ipad_with_both_branches_is_ablated(small_config):
    with pytest.raises(ValueError, match=r"model\.name must be an ipad with both branches to ablate, got 'ipad_tiny'"):
        ablate(small_config("model.options.semantic=false", "stage2.steps=0"), announce=nothing)
    with pytest.raises(ValueError, match="stage2 must have a length"):
        ablate(small_config("stage2.steps=0"), announce=nothing)


def test_the_dataset_is_opened_once_for_all_variants(small_config, tmp_path, opened):
    ablate(small_config("stage0.steps=1", "stage1.steps=1", "stage2.steps=1"), ["6"], [0], announce=nothing)
    assert len(list((tmp_path / "run" / "seed-0").iterdir())) == 2  # stage 0, and what the figure is of
    assert opened == ["rendered"]


@pytest.mark.slow
def test_variants_share_stage_zero_and_what_is_equal_and_go_on_where_they_were(small_config, tmp_path):
    config = small_config("stage0.steps=1", "stage1.steps=2", "stage2.steps=2")
    results = ablate(config, ["2", "4", "6"], [0], announce=nothing)
    folder = tmp_path / "run"
    names = [path.name.rsplit("-", 1)[0] for path in (folder / "seed-0").iterdir()]
    # "w/o ME" is "w/ IP", figure 6 needs no run of its own
    assert sorted(names) == ["stage-0", "w-ip", "w-me", "w-o-me-se", "w-o-me-sp", "w-o-se", "w-o-sp"]
    points = results["figures"]["6"]["points"]
    assert [point["name"] for point in points] == ["0", "0.1", *(f"0.{i}" for i in range(2, 10)), "1"]
    assert points[0]["mean"] != points[-1]["mean"]
    for name in ("ablation.json", "ablation.md", "ablation.csv", "figure-2.svg", "figure-6.svg"):
        assert (folder / name).is_file()
    said: list[str] = []
    assert ablate(config, ["2", "3"], [0], announce=said.append)["figures"]["2"] == results["figures"]["2"]
    assert sum("trained already" in line for line in said) >= 4
    assert sum(line.startswith("== w/o ") for line in said) == 2  # ISA and ICA; "w/o AS" is "w/o SE"
    with pytest.raises(ValueError, match="holds runs of other settings"):
        ablate(small_config("stage0.steps=1", "stage1.steps=3", "stage2.steps=2"), ["2"], [0], announce=nothing)
