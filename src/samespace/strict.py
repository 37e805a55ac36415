"""Strict YAML: text to dataclasses, where an unknown key or a value of the wrong type is one clear line."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from samespace import text
from samespace.errors import InputError, suggest

T = TypeVar("T")


class _Twice(yaml.constructor.ConstructorError):
    """A key of a mapping comes twice."""


class _Loader(yaml.SafeLoader):
    """Plain YAML in which no mapping names a key twice, of which one value would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping."""
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        if twice := [key for key in names if names.count(key) > 1]:
            raise _Twice(None, None, f"the key '{twice[0]}' comes twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, what: str, holds: str) -> dict[str, Any]:
    """Read a YAML file that holds one mapping.

    Messages say `what` it is, such as `a recipe (YAML)`, and what it `holds`.

    Raises:
        InputError: the file is missing, is not YAML, or holds something else.
    """
    content = text.read(path, what)
    try:
        value = yaml.load(content, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid YAML{_fault(error)}") from error
    if not isinstance(value, dict):
        kind = "nothing" if value is None else type(value).__name__
        raise InputError(f"{path} should hold {holds}, got {kind}")
    return value


def _fault(error: Exception) -> str:
    """Where a YAML file stops being YAML, and what stands there, as far as the reader knows."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return ""
    lines = (mark.buffer or "").rstrip("\0").splitlines()
    there = f": '{lines[mark.line].strip()[:60]}'" if mark.line < len(lines) else ""
    problem = str(getattr(error, "problem", ""))
    ours = f", {problem}" if isinstance(error, _Twice) else there
    return f" at line {mark.line + 1}, column {mark.column + 1}{ours}"


def override(tree: dict[str, Any], assignment: str) -> None:
    """Apply `section.key=value`, the value read as YAML, to nested mappings.

    Raises:
        InputError: it is no assignment, or the section is no mapping.
    """
    key, equals, given = assignment.partition("=")
    if not equals or not key:
        raise InputError(f"an override is section.key=value, got '{assignment}'")
    section, _, name = key.partition(".")
    try:
        value = yaml.safe_load(given)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise InputError(f"the value in '{assignment}' is not valid YAML") from None
    if not name:
        tree[section] = value
        return
    inside = tree.setdefault(section, {})
    if not isinstance(inside, dict):
        raise InputError(f"'{section}' should hold keys, got {inside!r}")
    inside[name] = value


def build(kind: type[T], value: Any, what: str, where: str = "") -> T:
    """A dataclass from nested mappings, each key known and each value of its declared type.

    Its fields may be dataclasses, `Literal`s, tuples of one type, mappings of text, `X | Y`, `X | None` and plain
    values. Messages say `what` the file is, such as `recipe`, and `where` in it, a path that ends in a dot.

    Raises:
        InputError: a key is unknown (the right one is suggested) or missing, or a value has the wrong type.
    """
    if not isinstance(value, Mapping):
        raise InputError(f"'{where.rstrip('.')}' should hold keys and values, got {value!r}")
    fields = {item.name: item for item in dataclasses.fields(kind)}  # type: ignore[arg-type]
    hints = get_type_hints(kind)
    for key in value:
        if key not in fields:
            raise InputError(f"unknown {what} key '{where}{key}'; {suggest(str(key), fields)}")
    for name, item in fields.items():
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING and name not in value:
            raise InputError(f"the {what} lacks '{where}{name}'")
    return kind(**{key: _convert(hints[key], part, what, f"{where}{key}") for key, part in value.items()})


def _convert(kind: Any, value: Any, what: str, where: str) -> Any:
    origin = get_origin(kind)
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return build(kind, {} if value is None else value, what, f"{where}.")  # type: ignore[arg-type]
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        parts = [part for part in get_args(kind) if part is not types.NoneType]
        for part in parts[:-1]:
            with suppress(InputError):
                return _convert(part, value, what, where)
        return _convert(parts[-1], value, what, where)
    if origin is Literal:
        if value not in get_args(kind):
            raise InputError(f"{where} is {value!r}; {suggest(str(value), map(str, get_args(kind)))}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise InputError(f"{where} should be a list, got {value!r}")
        return tuple(_element(get_args(kind)[0], part, what, where, number) for number, part in enumerate(value, 1))
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise InputError(f"{where} should hold keys and values, got {value!r}")
        return {str(key): _convert(get_args(kind)[1], part, what, f"{where}.{key}") for key, part in value.items()}
    return _scalar(kind, value, where)


def _element(kind: Any, value: Any, what: str, where: str, number: int) -> Any:
    """One of a list; errors of one that holds keys say which, counted from 1."""
    try:
        return _convert(kind, value, what, where)
    except InputError as error:
        if not dataclasses.is_dataclass(kind):
            raise
        raise InputError(f"{where}, number {number}: {error}") from None


def _scalar(kind: type, value: Any, where: str) -> Any:
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind is float and isinstance(value, str):
        # YAML 1.1 reads 1e-4 as text
        try:
            return float(value)
        except ValueError:
            pass
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    raise InputError(f"{where} should be {names[kind]}, got {value!r}")
