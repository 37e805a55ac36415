"""Write what follows from the code: docs/recipes.md, docs/cli.md and the drawing docs/architecture.svg.

`--check` only says whether they are up to date.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
import sys
import tomllib
from html import escape
from pathlib import Path

import click

from samespace.cli.exits import MEANINGS
from samespace.cli.main import cli
from samespace.data import Augment
from samespace.train.optim import OptimSection
from samespace.train.recipe import Recipe
from samespace.train.sections import (
    CompatibilitySection,
    DataSection,
    EarlierSection,
    HeadSection,
    ModelSection,
    RunSection,
    ValidationSection,
)

HERE = Path(__file__).parent
SECTIONS = {
    "data": DataSection,
    "model": ModelSection,
    "head": HeadSection,
    "optim": OptimSection,
    "augment": Augment,
    "compatibility": CompatibilitySection,
    "compatibility.earlier": EarlierSection,
    "validation": ValidationSection,
    "run": RunSection,
}

ROOMS = {
    "cli": "one file per command; errors become one line",
    "demo": "the whole job on made-up characters",
    "serve": "the HTTP service",
    "studies": "the papers' tables, and our own, on your images",
    "project": "images to a certified upgrade, by one file",
    "benchmarks": "IJB, Market-1501, landmarks, LFW",
    "report": "a certificate for people",
    "integrations": "in others' trainers",
    "gallery": "search, upgrade, backfill, roll back",
    "bridge": "maps between two spaces",
    "evaluate": "a check gives a certificate",
    "train": "a recipe gives a model",
    "scoring": "the metrics over many pairs, in blocks",
    "encoders": "families of users' models",
    "models": "images in, vectors of one space out",
    "data": "labelled images; which trains which model",
    "losses": "margins, heads, compatibility terms",
    "vectors": "vectors with their items",
    "prototypes": "class centres in the old space",
    "fusion": "queries summed of two models",
    "metrics": "pure functions of scores and labels",
    "space": "whose vectors may be compared",
    "strict": "strict YAML",
    "typed": "JSON as dataclasses",
    "progress": "bars",
    "text": "one reader of what users write",
    "files": "whole or absent",
    "names": "kept anywhere, shown on one line",
    "threads": "work in order, by several",
    "errors": "what a user can catch",
}
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1d2430 } .what { font-size: 11px; fill: #566072 }
rect { fill: #f2f5fa; stroke: #8a97ab } .page { fill: #ffffff; stroke: none } path { stroke: #566072; fill: none }
@media (prefers-color-scheme: dark) {
  text { fill: #e6eaf2 } .what { fill: #a7b1c2 } rect { fill: #232a36; stroke: #6d7a90 }
  .page { fill: #12161d } path { stroke: #a7b1c2 }
}"""


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
    words = {None: "null", True: "true", False: "false"}
    value = field.default
    if isinstance(value, tuple):
        return f"`[{', '.join(value)}]`"
    return f"`{words[value] if isinstance(value, bool | type(None)) else value}`"


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
    lines = [
        "# Commands",
        "",
        "The help of every command, written by `docs/build.py`.",
        "",
        "## Exit statuses",
        "",
        "| status | meaning |",
        "|---|---|",
        *(f"| {status} | {meaning} |" for status, meaning in MEANINGS.items()),
        "",
        "What is wrong is one line on standard error that begins with `samespace: error:`; with",
        "`SAMESPACE_TRACEBACK=1` in the environment the traceback comes with it. Files that a command names (`--out`,",
        "`--json FILE`, `--report`) are written whatever becomes of standard output. A reader that leaves, as in",
        "`samespace check … | head -1`, changes nothing: the work is finished, and the status is that of the verdict.",
        "Where standard output cannot be written, the status is 2 and never 1, which is a verdict. A character that",
        "the console lacks is replaced.",
        "",
    ]

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


def drawing() -> str:
    """docs/architecture.svg: the rooms in the layers that import-linter checks, highest first."""
    contracts = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = contracts["contracts"][0]["layers"]
    there = {path.stem for path in (HERE.parent / "src" / "samespace").iterdir()}
    rows = [[name for name in re.findall(r"\w+", layer) if name in there] for layer in layers]
    row_height, width, left = 46, 820, 40
    height = row_height * len(rows) + 16
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="Rooms of '
        'samespace in layers; a room imports only from lower layers">',
        f"<style>{STYLE}</style>",
        f'<rect class="page" width="{width}" height="{height}" rx="8"/>',
        f'<path d="M20 16 V{height - 16} m-5 -9 l5 9 l5 -9"/>',
    ]
    for number, row in enumerate(rows):
        box = (width - left - 10) // len(row)
        for place, name in enumerate(row):
            x, y = left + place * box, 8 + number * row_height
            lines += [
                f'<rect x="{x}" y="{y}" width="{box - 8}" height="{row_height - 6}" rx="5"/>',
                f'<text x="{x + 10}" y="{y + 17}">{name}</text>',
                f'<text class="what" x="{x + 10}" y="{y + 33}">{escape(ROOMS[name])}</text>',
            ]
    return "\n".join([*lines, "</svg>"]) + "\n"


def main() -> int:
    """Write the pages, or say which are out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = []
    for name, text in {"recipes.md": recipes(), "cli.md": commands(), "architecture.svg": drawing()}.items():
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
