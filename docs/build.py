"""Write the pages that follow from the code: docs/recipes.md and docs/cli.md.

`--check` only says whether they are up to date.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
import sys
from pathlib import Path

import click

from samespace.cli.main import cli
from samespace.data import Augment
from samespace.train.recipe import Recipe
from samespace.train.sections import (
    CompatibilitySection,
    DataSection,
    HeadSection,
    ModelSection,
    OptimSection,
    RunSection,
)

HERE = Path(__file__).parent
SECTIONS = {
    "data": DataSection,
    "model": ModelSection,
    "head": HeadSection,
    "optim": OptimSection,
    "augment": Augment,
    "compatibility": CompatibilitySection,
    "run": RunSection,
}


def meanings(section: type) -> dict[str, str]:
    """The meaning of each field, from the Attributes of a docstring."""
    text = inspect.getdoc(section).split("Attributes:\n")[1]
    text = re.split(r"\n\n|\nRaises:", text)[0]
    found: dict[str, str] = {}
    for line in text.splitlines():
        if match := re.match(r"    (\w+): (.*)", line):
            name = match[1]
            found[name] = match[2]
        elif line.strip():
            found[name] += " " + line.strip()
    return {name: meaning.replace("|", r"\|") for name, meaning in found.items()}


def default(field: dataclasses.Field) -> str:
    """The default of a field as YAML would write it."""
    if field.default is dataclasses.MISSING:
        return "required"
    words = {None: "null", True: "true", False: "false", (): "[]"}
    value = field.default
    return f"`{words[value] if isinstance(value, bool | tuple | type(None)) else value}`"


def recipes() -> str:
    """docs/recipes.md."""
    lines = [
        "# Recipes: every key",
        "",
        "A recipe is a YAML file for `samespace train`. Unknown keys are refused, and the right one is suggested.",
        "Override a key with `--set section.key=value`; see what is filled in with `--dry-run`. `seed` stands at the",
        "top level.",
        "",
        "This page is written from the code by `docs/build.py`.",
    ]
    for name, section in SECTIONS.items():
        intro = inspect.getdoc(section).splitlines()[0]
        lines += ["", f"## {name}", "", intro, "", "| key | default | meaning |", "|---|---|---|"]
        described = meanings(section)
        lines += [f"| `{f.name}` | {default(f)} | {described[f.name]} |" for f in dataclasses.fields(section)]
    seed = meanings(Recipe)["seed"]
    lines += ["", "## seed", "", f"Default `0`: {seed}"]
    return "\n".join(lines) + "\n"


def commands() -> str:
    """docs/cli.md."""
    lines = ["# Commands", "", "The help of every command, written by `docs/build.py`.", ""]

    def show(command: click.Command, path: str, parent: click.Context | None) -> None:
        settings = {**cli.context_settings, "max_content_width": 100, "terminal_width": 100}
        context = click.Context(command, info_name=path, parent=parent, **settings)
        title = context.command_path
        lines.extend([f"## {title}", "", "```text", command.get_help(context).rstrip(), "```", ""])
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                show(command.commands[name], name, context)

    show(cli, "samespace", None)
    return "\n".join(lines)


def main() -> int:
    """Write the pages, or say which are out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = []
    for name, text in {"recipes.md": recipes(), "cli.md": commands()}.items():
        path = HERE / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not check:
            path.write_text(text, encoding="utf-8")
    if stale:
        print(f"{'out of date' if check else 'written'}: {', '.join(stale)}")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
