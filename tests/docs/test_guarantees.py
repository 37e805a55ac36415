"""What `docs/guarantees.md` promises is shown by tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`([a-z_/]+\.py)::([A-Za-z0-9_:]+)`", PAGE)


def named_in(file: str) -> set[str]:
    """Names of a file's tests, those in classes as `Class::test`."""
    found = set[str]()
    for node in ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{one.name}" for one in node.body if isinstance(one, ast.FunctionDef)}
    return found


def test_each_test_that_is_named_exists() -> None:
    assert len(NAMED) > 50
    missing = [f"{file}::{name}" for file, name in NAMED if name not in named_in(file)]
    assert not missing


def test_each_row_of_promises_names_a_test_and_a_store() -> None:
    promises = PAGE.split("## Security")[0]
    rows = [line for line in promises.splitlines() if re.match(r"\|(?!---| promise)", line)]
    assert len(rows) > 35
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert "::test_" in cells[-1], row
        if len(cells) == 3:
            assert set(cells[1].split(", ")) <= {"SQLite", "PostgreSQL", "Qdrant", "adopted"}, row
