"""Reading and writing recipes: strict keys, typed values, overrides from the command line."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from samespace.errors import InputError, suggest
from samespace.files import require_file, write_text
from samespace.train.recipe import Recipe

T = TypeVar("T")


def load_recipe(path: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe file, apply `section.key=value` overrides, and check everything.

    Paths inside a recipe are taken as they stand, from the working folder.

    Raises:
        InputError: the file is missing or not YAML, a key is unknown (the right one is suggested), a value has the
            wrong type, or options exclude each other.
    """
    path = Path(path)
    require_file(path, "a recipe (YAML)")
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(value, dict):
        raise InputError(f"{path} should hold sections such as 'data:' and 'model:', got {type(value).__name__}")
    return parse_recipe(value, overrides)


def parse_recipe(value: Mapping[str, Any], overrides: Iterable[str] = ()) -> Recipe:
    """Build a recipe from nested mappings; see `load_recipe`."""
    tree: dict[str, Any] = {
        key: dict(section) if isinstance(section, Mapping) else section for key, section in value.items()
    }
    for override in overrides:
        _override(tree, override)
    return _build(Recipe, tree, "")


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML with every value filled in; `load_recipe` gives it back."""
    return yaml.safe_dump(_plain(dataclasses.asdict(recipe)), sort_keys=False, allow_unicode=True)


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write the resolved recipe, whole or not at all."""
    write_text(path, dump_recipe(recipe))


def differences(a: Recipe, b: Recipe) -> list[str]:
    """Keys that change what is learnt and whose values differ, as `key: value in a → value in b`."""
    flat_a, flat_b = _flat(dataclasses.asdict(a)), _flat(dataclasses.asdict(b))
    return [
        f"{key}: {flat_a[key]} → {flat_b[key]}"
        for key in flat_a
        if not key.startswith("run.") and key != "data.workers" and flat_a[key] != flat_b[key]
    ]


def _override(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise InputError(f"an override is section.key=value, got '{override}'")
    section, _, name = key.partition(".")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise InputError(f"the value in '{override}' is not valid YAML") from None
    if not name:
        tree[section] = value
        return
    inside = tree.setdefault(section, {})
    if not isinstance(inside, dict):
        raise InputError(f"'{section}' should hold keys, got {inside!r}")
    inside[name] = value


def _build(kind: type[T], value: Any, where: str) -> T:
    if not isinstance(value, Mapping):
        raise InputError(f"'{where.rstrip('.')}' should hold keys and values, got {value!r}")
    fields = {item.name: item for item in dataclasses.fields(kind)}  # type: ignore[arg-type]
    hints = get_type_hints(kind)
    for key in value:
        if key not in fields:
            raise InputError(f"unknown recipe key '{where}{key}'; {suggest(str(key), fields)}")
    for name, item in fields.items():
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING and name not in value:
            raise InputError(f"the recipe lacks '{where}{name}'")
    return kind(**{key: _convert(hints[key], part, f"{where}{key}") for key, part in value.items()})


def _convert(kind: Any, value: Any, where: str) -> Any:
    origin = get_origin(kind)
    if dataclasses.is_dataclass(kind):
        return _build(kind, {} if value is None else value, f"{where}.")  # type: ignore[arg-type]
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        (kind,) = (part for part in get_args(kind) if part is not types.NoneType)
        return _convert(kind, value, where)
    if origin is Literal:
        if value not in get_args(kind):
            raise InputError(f"{where} is {value!r}; {suggest(str(value), map(str, get_args(kind)))}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise InputError(f"{where} should be a list, got {value!r}")
        return tuple(_convert(get_args(kind)[0], part, where) for part in value)
    return _scalar(kind, value, where)


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


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return value


def _flat(value: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, part in value.items():
        if isinstance(part, Mapping):
            flat |= _flat(part, f"{where}{key}.")
        else:
            flat[f"{where}{key}"] = part
    return flat
