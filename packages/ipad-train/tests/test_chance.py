from __future__ import annotations

from ipad_train.chance import chance_level, describe_stuck, stuck_attributes


def test_a_tenth_of_the_way_to_perfect_by_hand():
    assert chance_level(20.0) == 28.0
    assert chance_level(84.0) == 85.6
    maps = {"collar": 27.9, "sleeve": 28.0, "scarf": 85.5, "belt": 100.0}
    random = {"collar": 20.0, "sleeve": 20.0, "scarf": 84.0, "belt": 100.0}
    assert stuck_attributes(maps, random) == ["collar", "scarf"]


def test_the_user_reads_which_and_what_to_try():
    first, second = describe_stuck({"collar": 21.04, "hem": 70.0}, {"collar": 20.0, "hem": 20.0})
    assert "less than a tenth of the way from a random ranking to a perfect one: collar 21.0 (random 20.0)" in first
    assert "stage1.epochs" in second
    assert describe_stuck({"hem": 70.0}, {"hem": 20.0}) == []
