"""Conditions on the payload of a point: judged here one by one, and as a filter of Qdrant that lets more pass."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

from samespace.gallery.index.qdrant.wire import q
from samespace.gallery.ledger.adopted_collection import AdoptedCollection
from samespace.gallery.ledger.filters import Condition
from samespace.text import Scalar, number

_COMPARED = {
    "=": operator.eq, "in": operator.eq, "!=": operator.ne,
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def value_at(payload: Mapping[str, Any], key: str) -> Any:
    """What a payload has at a key, `a.b` for `b` within `a`; None where there is nothing."""
    value: Any = payload
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def text_at(payload: Mapping[str, Any], key: str | None) -> str | None:
    """The same as text, as an id or a label is; None where it is no text, number or boolean."""
    value = None if key is None else value_at(payload, key)
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, (str, int, float)) else None


def meets(payload: Mapping[str, Any], adopted: AdoptedCollection, where: Sequence[Condition]) -> bool:
    """Whether a point meets every condition, as `filters.Condition` says."""
    return all(any(_holds(payload, adopted, one, option) for option in _options(one)) for one in where)


def prefilter(adopted: AdoptedCollection, where: Sequence[Condition]) -> list[q.Condition]:
    """Conditions for Qdrant that hold wherever those of a search do; what they let through is still to be judged."""
    chosen: list[q.Condition] = []
    for one in where:
        parts = [_sent(adopted, one, option) for option in _options(one)]
        if all(part is not None for part in parts):
            chosen.append(q.Filter(should=[part for part in parts if part is not None]))
    return chosen


def _options(condition: Condition) -> tuple[Scalar, ...]:
    return condition.value if isinstance(condition.value, tuple) else (condition.value,)


def _holds(payload: Mapping[str, Any], adopted: AdoptedCollection, condition: Condition, option: Scalar) -> bool:
    held: Any
    if condition.key == "label":
        held, option = text_at(payload, adopted.label), str(option)
    else:
        held = value_at(payload, condition.key) if condition.key in adopted.metadata else None
    return _kind(held) is not None and _kind(held) is _kind(option) and _COMPARED[condition.operator](held, option)


def _kind(value: Any) -> type | None:
    if isinstance(value, bool):
        return bool
    if isinstance(value, (int, float)):
        return float
    return str if isinstance(value, str) else None


def _sent(adopted: AdoptedCollection, condition: Condition, option: Scalar) -> q.Condition | None:
    key = adopted.label if condition.key == "label" else condition.key
    if key is None or condition.operator == "!=":
        return None
    equal = condition.operator in ("=", "in")
    if isinstance(option, bool) or (isinstance(option, str) and equal):
        # a label is compared as text, whatever the payload has it as
        odd = condition.key == "label" and (number(str(option)) is not None or str(option).lower() in ("true", "false"))
        return None if odd or not equal else q.FieldCondition(key=key, match=q.MatchValue(value=option))
    if isinstance(option, str) or condition.key == "label":
        return None
    if abs(option) >= 2**53:  # Qdrant compares numbers as float64
        return None
    names = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}
    bounds = {"gte": option, "lte": option} if equal else {names[condition.operator]: option}
    return q.FieldCondition(key=key, range=q.Range(**bounds))
