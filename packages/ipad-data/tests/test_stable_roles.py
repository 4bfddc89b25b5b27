from __future__ import annotations

from ipad_data.roles import GALLERY, QUERY
from ipad_data.stable_roles import stable_roles


def test_a_query_without_match_goes_to_the_gallery():
    assert stable_roles([str(i) for i in range(8)], [(0,)] * 8, [(i,) for i in range(8)]) == [GALLERY] * 8


def test_two_images_of_a_value_become_query_and_match():
    for seed in range(20):
        assert sorted(stable_roles(["a", "b"], [(0,)] * 2, [(0,)] * 2, seed)) == [QUERY, GALLERY]


def test_given_roles_stay():
    given = ["query", "gallery", None, "query"]
    for seed in range(20):
        roles = stable_roles(list("abcd"), [(0,)] * 4, [(0,), (0,), (0,), (1,)], seed, given)
        assert (roles[0], roles[1], roles[3]) == (QUERY, GALLERY, QUERY)


def test_an_attribute_whose_only_pair_would_both_be_queries_gets_a_match():
    """Values (color, shape): the pair of squares must become query and gallery, and color stay answered."""
    values = [(0, 2), (0, 2), (0,), (1,), (1,)]
    attributes = [(0, 1), (0, 1), (0,), (0,), (0,)]
    for seed in range(50):
        roles = stable_roles(list("abcde"), attributes, values, seed)
        assert {roles[0], roles[1]} == {QUERY, GALLERY}


def test_every_value_with_five_images_is_asked_for():
    for seed in range(10):
        roles = stable_roles([str(i) for i in range(30)], [(0,)] * 30, [(i % 6,) for i in range(30)], seed)
        asked = {i % 6 for i, role in enumerate(roles) if role == QUERY}
        assert asked == set(range(6))
