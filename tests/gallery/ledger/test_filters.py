"""Filters as users write them: what is no operator is refused, not taken for a value that nothing has."""

from __future__ import annotations

import numpy as np
import pytest

from samespace.errors import InputError
from samespace.gallery.ledger.filters import Condition, conditions


@pytest.mark.parametrize(
    ("where", "meant"),
    [
        ({"year": ("=>", 2020)}, ">="),
        ({"year": ("==", "2020")}, "="),
        ({"year": ("≥", 2020)}, ">="),
        ({"year": (">= ", 2020)}, ">="),
        ({"year": ("gt", 2020)}, ">"),
        ({"year": ("$lte", 2020)}, "<="),
        ({"shop": ("IN", ["berlin"])}, "in"),
        ({"year": ["=<", 2020]}, "<="),
        ({"year": ("<>", 2020, 2021)}, "!="),
        ([Condition("year", "=>", 2020)], ">="),
        (["year=>2020"], ">="),
        (["year == 2020"], "="),
        (["year<>2020"], "!="),
    ],
)
def test_what_looks_like_an_operator_is_refused_with_the_one_that_was_meant(where, meant):
    with pytest.raises(InputError, match=rf"has the operator '.+'; did you mean '{meant}'\? legal: =, !=, <"):
        conditions(where)


@pytest.mark.parametrize("where", [{"year": ("~", 2020)}, {"shop": ("not in", ["a"])}, ["name=~x"]])
def test_an_operator_that_there_is_not_is_refused_with_the_legal_ones(where):
    with pytest.raises(InputError, match="legal: =, !=, <, <=, >, >="):
        conditions(where)


def test_an_operator_in_a_list_is_no_value():
    with pytest.raises(InputError, match=r"a list that begins with the operator '>='; write a pair, \('>=', 2020\)"):
        conditions({"year": [">=", 2020]})


@pytest.mark.parametrize(
    "choice", [["<", ">"], ["=>", "->"], ("le", "la"), ("gt", "lt"), (1, 2), ["in", "out"], ("=>",), {"==", "!="}]
)
def test_a_choice_of_values_may_look_like_operators(choice):
    (found,) = conditions({"key": choice})
    assert (found.operator, sorted(found.value)) == ("in", sorted(choice))


def test_a_choice_may_be_an_array():
    assert conditions({"n": np.array([1, 2])}) == conditions({"n": [1, 2]})
    with pytest.raises(InputError, match="lists no value"):
        conditions({"n": np.array([], dtype=int).reshape(0)})
    with pytest.raises(InputError, match="legal: a string, a number"):
        conditions({"n": np.ones((2, 2))})


def test_a_value_that_begins_like_an_operator_stands_in_quotes():
    assert conditions(['key=">x"']) == (Condition("key", "=", ">x"),)
    assert conditions(["key>=-3"]) == (Condition("key", ">=", -3),)
