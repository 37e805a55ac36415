"""Filters on labels and metadata: from what a user writes to conditions that a store evaluates."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from samespace.errors import InputError, short, suggest
from samespace.text import Scalar, number

Operator = Literal["=", "!=", "<", "<=", ">", ">=", "in"]
_WRITTEN = re.compile(r"(?P<key>[^=!<>\s]+)\s*(?P<operator>!=|<=|>=|=|<|>)\s*(?P<value>.*)", re.DOTALL)
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]{0,300})(\.[0-9]+)?([eE][+-]?[0-9]{1,2})?")
_SURROGATE = re.compile("[\ud800-\udfff]")
MOST_OPTIONS = 10_000
_OPERATORS: tuple[Operator, ...] = get_args(Operator)
_LIKE_OPERATOR = re.compile(r"[=!<>~≤≥≠]+")
_MEANT = {
    "==": "=", "===": "=", "=>": ">=", "=<": "<=", "<>": "!=", "=!": "!=", "!==": "!=", "≥": ">=", "≤": "<=", "≠": "!=",
    "eq": "=", "ne": "!=", "gt": ">", "ge": ">=", "gte": ">=", "lt": "<", "le": "<=", "lte": "<=",
}  # fmt: skip
"""Operators of other languages, by what they mean here."""
_WORDED = tuple(one for one in _OPERATORS if one != "in")


@dataclass(frozen=True)
class Condition:
    """One condition on an item; `label` is its class, every other key is one of its metadata.

    An item without the key meets no condition on it, `!=` included. Numbers compare with numbers and strings with
    strings, by code point. Of several values, one has to meet the condition.
    """

    key: str
    operator: Operator
    value: Scalar | tuple[Scalar, ...]


Where = Mapping[str, Any] | Iterable[str | Condition] | None
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
        found = tuple(_from_value(str(key), value) for key, value in where.items())
    else:
        given = [where] if isinstance(where, str) else where
        found = tuple(one if isinstance(one, Condition) else _from_words(one) for one in given)
    for one in found:
        if one.operator not in _OPERATORS:
            raise _unknown(one.key, one.operator)
    _require_storable(found)
    return found


def _require_storable(found: tuple[Condition, ...]) -> None:
    """Refuse what one store could compare and another could not."""
    listed = 0
    for condition in found:
        options = condition.value if isinstance(condition.value, tuple) else (condition.value,)
        listed += len(options)
        for part in (condition.key, *options):
            if isinstance(part, str) and ("\0" in part or _SURROGATE.search(part)):
                raise InputError(
                    f"the filter on {short(condition.key)} holds {short(part)}, which is no text: NUL, or no UTF-8"
                )
    if listed > MOST_OPTIONS:
        raise InputError(f"the filter lists {listed:,} values; at most {MOST_OPTIONS:,} are compared in one search")


def _from_value(key: str, value: Any) -> Condition:
    if getattr(value, "ndim", 0):  # an array of choices
        value = value.tolist()
    if isinstance(value, tuple) and len(value) == 2 and value[0] in _OPERATORS:
        operator, value = value
    elif isinstance(value, (list, tuple)) and (meant := _misspelt(value)) is not None:
        raise _unknown(key, meant)
    else:
        operator = "in" if isinstance(value, (list, tuple, set, frozenset)) else "="
    if operator == "in":
        if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
            raise InputError(f"the filter on {short(key)} with 'in' takes a list of values, got {short(value)}")
        options = tuple(sorted(value, key=str)) if isinstance(value, (set, frozenset)) else tuple(value)
        if not options:
            raise InputError(f"the filter on {short(key)} lists no value; give at least one")
        return Condition(key, "in", tuple(_scalar(key, option) for option in options))
    return Condition(key, operator, _scalar(key, value))


def _misspelt(value: Sequence[Any]) -> str | None:
    """What looks like an operator that is none, at the beginning of what would be a choice of values.

    A list of texts is a choice whatever they are, and so is a pair of words.
    """
    first = value[0] if len(value) > 1 else None
    if not isinstance(first, str) or (isinstance(value, list) and all(isinstance(one, str) for one in value)):
        return None
    word = first.strip().lower().lstrip("$")
    known = word in _MEANT or word in _OPERATORS or word in ("not in", "nin", "between", "like")
    return first if _LIKE_OPERATOR.fullmatch(word) or (known and not isinstance(value[1], str)) else None


def _unknown(key: str, operator: str) -> InputError:
    """The error for what is no operator."""
    meant = operator.strip().lower().lstrip("$")
    hint = suggest(operator, _OPERATORS, meant=meant if meant in _OPERATORS else _MEANT.get(meant))
    what = "a list that begins with the operator" if operator in _OPERATORS else "the operator"
    hint = "" if operator in _OPERATORS else f"{hint}; "
    return InputError(
        f"the filter on {short(key)} has {what} {short(operator)}; {hint}write a pair, ('>=', 2020), or a list of "
        "texts for a choice"
    )


def _scalar(key: str, value: Any) -> Scalar:
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        # no whole number that is stored is so large
        return float(value) if abs(value) < 2**1023 else math.copysign(math.inf, 1 if value > 0 else -1)
    if isinstance(value, (str, bool, int)) or (isinstance(value, float) and value == value):
        return value
    raise InputError(
        f"the filter on {short(key)} has the value {short(value)}; legal: a string, a number, true, false, a list"
    )


def _from_words(words: str) -> Condition:
    match = _WRITTEN.fullmatch(words.strip())
    if match is None:
        raise InputError(
            f"the filter {short(words)} is not understood; write key=value, key!=value, key>=number or key=a|b"
        )
    key, operator = match["key"], match["operator"]
    if (rest := _LIKE_OPERATOR.match(match["value"])) is not None:
        told = _MEANT.get(wrong := operator + rest[0])
        raise InputError(
            f"the filter {short(words)} has the operator '{wrong}'; {suggest(wrong, _WORDED, meant=told)}; "
            "a value that begins so stands in double quotes"
        )
    options = [text.strip() for text in match["value"].split("|")]
    if len(options) > 1:
        if operator != "=":
            raise InputError(f"the filter {short(words)} gives a choice; that goes with '=' only")
        return Condition(key, "in", tuple(value for text in options for value in _meant(key, text)))
    if operator in ("=", "!="):
        values = _meant(key, options[0])
        # a value may be held as text or as a number, and each compares with its own kind alone
        return Condition(key, operator, values if len(values) > 1 else values[0])  # type: ignore[arg-type]
    return Condition(key, operator, _bound(key, options[0]))  # type: ignore[arg-type]


def _quoted(text: str) -> str | None:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else None


def _meant(key: str, text: str) -> tuple[Scalar, ...]:
    """What a value in words may be held as: a number or boolean where it is written as that is printed, or text.

    A label is always text, and so is what stands in double quotes.
    """
    if (inside := _quoted(text)) is not None:
        return (inside,)
    if key == "label":
        return (text,)
    if text in ("true", "false"):
        return (text == "true", text)
    value = number(text)
    return (text,) if value is None else (value, text)


def _bound(key: str, text: str) -> Scalar:
    """What a value is compared with by size: a number where it reads as one, `2.50` and `1e3` included."""
    if (inside := _quoted(text)) is not None:
        return inside
    if key == "label":
        return text
    value = number(text)
    if value is None and _DECIMAL.fullmatch(text):
        value = float(text)
    return text if value is None else value
