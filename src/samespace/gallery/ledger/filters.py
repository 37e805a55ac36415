"""Filters on labels and metadata: from what a user writes to conditions that a store evaluates."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from samespace.errors import InputError

Operator = Literal["=", "!=", "<", "<=", ">", ">=", "in"]
Scalar = str | int | float | bool

_WRITTEN = re.compile(r"(?P<key>[^=!<>\s]+)\s*(?P<operator>!=|<=|>=|=|<|>)\s*(?P<value>.*)", re.DOTALL)
_OPERATORS = ("=", "!=", "<", "<=", ">", ">=", "in")


@dataclass(frozen=True)
class Condition:
    """One condition on an item; `label` is its class, every other key is one of its metadata.

    An item without the key meets no condition on it, `!=` included. Numbers compare with numbers and strings with
    strings, by code point.
    """

    key: str
    operator: Operator
    value: Scalar | tuple[Scalar, ...]


Where = Mapping[str, Any] | Iterable[str] | None
"""A filter as users write it: `{"shop": "berlin", "year": (">=", 2020), "colour": ["red", "blue"]}`, or the same in
words: `["shop=berlin", "year>=2020", "colour=red|blue"]`. All conditions must hold."""


def conditions(where: Where) -> tuple[Condition, ...]:
    """The conditions of a filter.

    Raises:
        InputError: an operator or value that is not legal.

    Example:
        >>> conditions(["year>=2020", "colour=red|blue"])[1].value
        ('red', 'blue')
    """
    if where is None:
        return ()
    if isinstance(where, Mapping):
        return tuple(_from_value(str(key), value) for key, value in where.items())
    if isinstance(where, str):
        where = [where]
    return tuple(_from_words(words) for words in where)


def _from_value(key: str, value: Any) -> Condition:
    if isinstance(value, tuple) and len(value) == 2 and value[0] in _OPERATORS:
        operator, value = value
    else:
        operator = "in" if isinstance(value, (list, tuple, set, frozenset)) else "="
    if operator == "in":
        options = tuple(sorted(value, key=str)) if isinstance(value, (set, frozenset)) else tuple(value)
        if not options:
            raise InputError(f"the filter on '{key}' lists no value; give at least one")
        return Condition(key, "in", tuple(_scalar(key, option) for option in options))
    return Condition(key, operator, _scalar(key, value))


def _scalar(key: str, value: Any) -> Scalar:
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, (str, bool, int)) or (isinstance(value, float) and value == value):
        return value
    raise InputError(f"the filter on '{key}' has the value {value!r}; legal: a string, a number, true, false, a list")


def _from_words(words: str) -> Condition:
    match = _WRITTEN.fullmatch(words.strip())
    if match is None:
        raise InputError(f"the filter {words!r} is not understood; write key=value, key!=value, key>=number or key=a|b")
    key, operator = match["key"], match["operator"]
    options = tuple(_typed(key, text.strip()) for text in match["value"].split("|"))
    if len(options) > 1:
        if operator != "=":
            raise InputError(f"the filter {words!r} gives a choice; that goes with '=' only")
        return Condition(key, "in", options)
    return Condition(key, operator, options[0])  # type: ignore[arg-type]


def _typed(key: str, text: str) -> Scalar:
    """A label is always a string; elsewhere what looks like a number is one, and quotes make a string."""
    if len(text) > 1 and text[0] == text[-1] == '"':
        return text[1:-1]
    return text if key == "label" else typed(text)


def typed(text: str) -> Scalar:
    """A value as a user writes it: `true` and `false` are booleans, what looks like a finite number is one.

    Example:
        >>> typed("2020"), typed("0.5"), typed("true"), typed("nan")
        (2020, 0.5, True, 'nan')
    """
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        if math.isfinite(value):
            return value
    return text
