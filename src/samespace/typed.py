"""JSON values read as dataclasses, every key known and every value of its declared type."""

from __future__ import annotations

import dataclasses
import json
import re
import types
from collections.abc import Iterator
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from samespace.errors import InputError, SamespaceError, short, suggest

T = TypeVar("T")

_NOUNS: dict[Any, str] = {float: "a number", int: "a whole number", str: "text", bool: "true or false", list: "a list"}


def read(kind: type[T], value: Any, where: str) -> T:
    """A dataclass, or a container of dataclasses, from the JSON values that `plain` gives.

    `kind`: a dataclass; its fields may be dataclasses, `Literal`s, tuples, dicts with text as keys, `X | None`.

    Raises:
        InputError: a key is unknown (the right one is suggested) or missing, or a value has the wrong type or is
            refused by the dataclass; the message names the innermost place.
    """
    try:
        made = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        for place, part_kind, part in _parts(kind, value, where):
            read(part_kind, part, place)
        if dataclasses.is_dataclass(kind) and isinstance(value, dict):
            raise InputError(f"{where}{_refusal(kind, value, error.__cause__)}") from None
        raise InputError(f"{where} should be {_noun(kind)}, got {short(value, 200)}") from None
    _refuse_unknown(value, msgspec.to_builtins(made), where)
    return made


def _refusal(kind: type, value: dict[str, Any], cause: BaseException | None) -> str:
    """Why a dict whose parts are right is not right as a whole: `cause` is what the dataclass itself raised."""
    if isinstance(cause, SamespaceError):
        return f": {cause}"
    needed = [
        field.name
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    missing = next((name for name in needed if name not in value), None)
    return " holds values that do not fit each other" if missing is None else f" lacks '{missing}'"


def plain(value: Any) -> dict[str, Any]:
    """A dataclass as JSON-ready dicts and lists, fields in the order of their declaration."""
    # msgspec writes the fields of a dataclass in the order in which they were set
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(value)))
    return values


def _parts(kind: Any, value: Any, where: str) -> Iterator[tuple[str, Any, Any]]:
    """The parts of a value, each with its place and declared type; a missing field counts as null."""
    if get_origin(kind) in (Union, types.UnionType) and value is not None:
        kind = next(option for option in get_args(kind) if option is not types.NoneType)
    origin, inner = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        hints = get_type_hints(kind)
        for field in dataclasses.fields(kind):
            needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            if needed or field.name in value:
                yield f"{where}: '{field.name}'", hints[field.name], value.get(field.name)
    elif origin is dict and isinstance(value, dict):
        named = re.fullmatch(r"(.*: )'(\w+?)s?'", where, re.DOTALL)
        entry = f"{named[1]}{named[2]}" if named else f"{where}:"
        for key, part in value.items():
            yield f"{entry} '{key}'", inner[1], part
    elif origin is tuple and inner[-1] is Ellipsis and isinstance(value, list):
        for place, part in enumerate(value, start=1):
            yield f"{where}: item {place}", inner[0], part


def _noun(kind: Any) -> str:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(_noun(option) for option in inner if option is not types.NoneType)
    if origin is Literal:
        return f"one of {', '.join(map(repr, inner))}"
    if origin is tuple:
        return "a list" if inner[-1] is Ellipsis else "an interval, [low, high]"
    return _NOUNS.get(kind, "a dict")


def _refuse_unknown(given: Any, known: Any, where: str) -> None:
    if isinstance(given, dict) and isinstance(known, dict):
        for key, value in given.items():
            if key not in known:
                raise InputError(f"{where}: unknown key '{key}'; {suggest(str(key), known)}")
            _refuse_unknown(value, known[key], f"{where}: '{key}'")
    elif isinstance(given, list) and given and isinstance(given[0], dict):
        for value, part in zip(given, known, strict=True):
            _refuse_unknown(value, part, where)
