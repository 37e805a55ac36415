"""docs/architecture.md and CONTRIBUTING.md name rooms, files and functions that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "samespace"
PAGES = [ROOT / "docs" / "architecture.md", ROOT / "CONTRIBUTING.md"]
PLACE = re.compile(r"`((?:\w+/)*\w+\.py)(?::([\w.]+))?`")
PATHS = ("A training batch", "A query", "A certificate")


def names_in(body: list[ast.stmt]) -> dict[str, list[ast.stmt]]:
    """Functions, classes and constants of a module or class, each with what is defined inside."""
    names: dict[str, list[ast.stmt]] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names[node.name] = node.body
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names.update({target.id: [] for target in targets if isinstance(target, ast.Name)})
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_file_and_function_that_a_page_names_is_there(page):
    places = PLACE.findall(page.read_text(encoding="utf-8"))
    assert len(places) >= 10
    for file, name in places:
        path = next((path for path in (SOURCE / file, ROOT / file) if path.is_file()), None)
        assert path is not None, f"{page.name} names {file}"
        body = ast.parse(path.read_text(encoding="utf-8")).body
        for part in name.split(".") if name else ():
            inside = names_in(body)
            assert part in inside, f"{page.name} names {file}:{name}, which has {sorted(inside)}"
            body = inside[part]


def test_each_path_has_at_most_eight_steps_and_says_where_each_is():
    text = PAGES[0].read_text(encoding="utf-8")
    for title in PATHS:
        steps = re.split(r"^\d+\. ", text.split(f"## {title}\n")[1].split("\n## ")[0], flags=re.MULTILINE)[1:]
        assert 3 <= len(steps) <= 8, title
        assert all(PLACE.search(step) for step in steps), title


def test_contributing_names_every_room():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    packages = {f"{path.parent.name}/" for path in SOURCE.glob("*/__init__.py")}
    modules = {path.stem for path in SOURCE.glob("*.py") if not path.stem.startswith("__")}
    assert [room for room in sorted(packages | modules) if f"`{room}`" not in text] == []


def test_a_room_that_lists_its_files_lists_all_of_them():
    listing = 0
    for path in SOURCE.rglob("__init__.py"):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        if "\n- `" not in text or path.parent in (SOURCE, SOURCE / "cli"):
            continue
        files = {one.stem for one in path.parent.glob("*.py")} - {"__init__"}
        rooms = {f"{one.parent.name}/" for one in path.parent.glob("*/__init__.py")}
        named = set(re.findall(r"`([a-z_0-9]+/?)`", text))
        assert (files | rooms) - named == set(), path
        listing += 1
    assert listing > 15


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/index.md"])
def test_the_page_is_linked(page):
    assert "architecture.md)" in (ROOT / page).read_text(encoding="utf-8")
