"""Pairs of texts that packages ship: the first paragraph of a docstring as a query, the rest as its document."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import platform
import re
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from samespace.files import write_text
from samespace.progress import bar

PACKAGES = ("numpy", "scipy", "sklearn")
_DISTRIBUTION = {"sklearn": "scikit-learn"}
_NOT_PROSE = {"test", "tests", "testing", "site-packages", "idlelib", "_vendor", "extern"}
WORDS_OF_QUERY, WORDS_OF_DOCUMENT, KEPT_WORDS = (4, 30), 20, 150

Part = Literal["train", "validation", "check"]


@dataclass(frozen=True)
class Pair:
    """A query and the document that answers it; all pairs of a module are in one part."""

    part: Part
    module: str
    query: str
    document: str


def installed() -> dict[str, str]:
    """Version of each package there is, Python's own library first."""
    there = [name for name in PACKAGES if importlib.util.find_spec(name) is not None]
    return {"python": platform.python_version()} | {name: version(_DISTRIBUTION.get(name, name)) for name in there}


def read_pairs(cache: Path) -> list[Pair]:
    """All pairs, in the order of modules; kept in `cache` once they were found."""
    if not cache.exists():
        found = list(_pairs())
        write_text(cache, "".join(json.dumps(asdict(pair)) + "\n" for pair in found))
    return [Pair(**json.loads(line)) for line in cache.read_text(encoding="utf-8").splitlines()]


def part_of(module: str) -> Part:
    """15 % of the modules check, 7 % are for validation, decided by their names."""
    share = int(hashlib.sha256(module.encode()).hexdigest()[:8], 16) / 2**32
    return "check" if share < 0.15 else "validation" if share < 0.22 else "train"


def _pairs() -> Iterator[Pair]:
    files = sorted(_files())
    seen: set[str] = set()
    with bar("reading docstrings", len(files), "files") as advance:
        for module, path in files:
            for text in _docstrings(path):
                head, _, rest = text.partition("\n\n")
                query, document = " ".join(head.split()), " ".join(rest.split()[:KEPT_WORDS])
                low, high = WORDS_OF_QUERY
                if not low <= len(query.split()) <= high or len(document.split()) < WORDS_OF_DOCUMENT:
                    continue
                if not {query, document} & seen:
                    yield Pair(part_of(module), module, query, document.replace(query, ""))
                seen |= {query, document}
            advance(1)


def _files() -> Iterator[tuple[str, Path]]:
    roots = {"": Path(sysconfig.get_path("stdlib"))}
    for name in PACKAGES:
        found = importlib.util.find_spec(name)
        if found is not None and found.origin is not None:
            roots[name] = Path(found.origin).parent
    for name, root in roots.items():
        for path in root.rglob("*.py"):
            inside = path.relative_to(root)
            if not _NOT_PROSE & set(inside.parts):
                yield "/".join(part for part in (name, inside.as_posix()) if part), path


def _docstrings(path: Path) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            return
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
            yield re.sub(r"\n[ \t]+\n", "\n\n", ast.get_docstring(node) or "")
