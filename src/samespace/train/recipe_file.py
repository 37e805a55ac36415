"""Reading and writing recipes: strict keys, typed values, overrides from the command line."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from samespace.strict import build, override, read_yaml
from samespace.train.recipe import Recipe
from samespace.typed import plain

_WHERE_USED = {
    "model": ("freeze",),
    "optim": ("name", "betas", "eps", "layer_decay", "fused"),
    "compatibility": ("earlier",),
}


def load_recipe(path: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe file, apply `section.key=value` overrides, and check everything.

    Paths inside a recipe are taken as they stand, from the working folder.

    Raises:
        InputError: the file is missing or not YAML, a key is unknown (the right one is suggested), a value has the
            wrong type, or options exclude each other.
    """
    value = read_yaml(Path(path), "a recipe (YAML)", "sections such as 'data:' and 'model:'")
    return parse_recipe(value, overrides)


def parse_recipe(value: Mapping[str, Any], overrides: Iterable[str] = ()) -> Recipe:
    """Build a recipe from nested mappings; see `load_recipe`."""
    tree: dict[str, Any] = {
        key: dict(section) if isinstance(section, Mapping) else section for key, section in value.items()
    }
    for assignment in overrides:
        override(tree, assignment)
    return build(Recipe, tree, "recipe")


def dump_recipe(recipe: Recipe, *, whole: bool = False) -> str:
    """The recipe as YAML with every value filled in, as `written`; `load_recipe` gives it back.

    `whole`: keys that are not used as well.
    """
    return yaml.safe_dump(plain(recipe) if whole else written(recipe), sort_keys=False, allow_unicode=True)


def written(recipe: Recipe) -> dict[str, Any]:
    """The recipe as JSON-ready values; of some keys, such as those of fine-tuning, only those that are used."""
    tree = plain(recipe)
    for section, keys in _WHERE_USED.items():
        for item in dataclasses.fields(getattr(recipe, section)):
            if item.name in keys and getattr(getattr(recipe, section), item.name) == item.default:
                del tree[section][item.name]
    return tree


def differences(a: Recipe, b: Recipe) -> list[str]:
    """Keys that change what is learnt and whose values differ, as `key: value in a → value in b`."""
    flat_a, flat_b = _flat(dataclasses.asdict(a)), _flat(dataclasses.asdict(b))
    return [
        f"{key}: {flat_a[key]} → {flat_b[key]}"
        for key in flat_a
        if not key.startswith("run.") and key != "data.workers" and flat_a[key] != flat_b[key]
    ]


def _flat(value: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, part in value.items():
        if isinstance(part, Mapping):
            flat |= _flat(part, f"{where}{key}.")
        else:
            flat[f"{where}{key}"] = part
    return flat
