"""The documentation does what it says: its commands and its Python run, its recipes parse, its links lead somewhere."""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from samespace.cli.main import run
from samespace.train import parse_recipe

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs" / "howto").glob("*.md")), ROOT / "README.md"]
FENCE = re.compile(r"^```(\w*)$")
REMARK = re.compile(r"^<!-- (file|exit|needs): (.+?) -->$")


@dataclass
class Block:
    """A fenced block, with the remark in the line above it."""

    language: str
    text: str
    line: int
    remarks: dict[str, str]


def blocks(page: Path) -> list[Block]:
    found: list[Block] = []
    remarks: dict[str, str] = {}
    language, begun, body = "", 0, []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines() if page.exists() else [], start=1):
        if begun:
            if line == "```":
                found.append(Block(language, "\n".join(body) + "\n", begun, remarks))
                begun, body, remarks = 0, [], {}
            else:
                body.append(line)
        elif match := FENCE.match(line):
            language, begun = match[1], number
        elif match := REMARK.match(line):
            remarks[match[1]] = match[2]
        else:
            assert not remarks, f"{page.name}:{number}: a remark belongs right above a block"
            assert not line.startswith("```"), f"{page.name}:{number}: a fence this test cannot read"
    assert not begun, f"{page.name}:{begun}: the block does not end"
    return found


def run_commands(block: Block, where: str) -> None:
    expected = [int(word) for word in block.remarks.get("exit", "0").split(" or ")]
    commands = [line[2:] for line in block.text.replace("\\\n", " ").splitlines() if line.startswith("$ ")]
    assert commands, f"{where}: a console block without a command"
    for command in commands:
        program, *arguments = shlex.split(os.path.expandvars(command))
        assert program == "samespace", f"{where}: only samespace's own commands are run here, got '{command}'"
        assert run(arguments) in expected, f"{where}: {command}"


def run_python(block: Block, names: dict[str, Any], where: str) -> None:
    if ">>>" not in block.text:
        exec(compile(block.text, where, "exec"), names)
        return
    examples = doctest.DocTestParser().get_doctest(block.text, names, where, where, block.line)
    failed, _ = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS).run(
        examples, clear_globs=False
    )
    assert failed == 0, where
    names.update(examples.globs)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_does_what_it_says(page, tmp_path, monkeypatch, request):
    if page.stem in ("pgvector", "adopt"):
        monkeypatch.setenv("DATABASE_URL", request.getfixturevalue("postgres"))
    monkeypatch.setenv("SAMESPACE_INDEX", "")  # a page may set it
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks(page):
        where = f"{page.name}:{block.line}"
        if library := block.remarks.get("needs"):
            pytest.importorskip(library, reason=f"{where}: {library} is not installed")
        if file := block.remarks.get("file"):
            path = Path(file)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            run_python(block, names, where)
        elif block.language == "console" and page.parent.name in ("docs", "howto"):
            run_commands(block, where)


SHORT = ["timm", "sentence-transformers", "onnx", "npy", "parquet", "faiss", "pgvector", "qdrant"]


@pytest.mark.parametrize("name", SHORT)
def test_from_installing_to_a_certificate_are_eight_lines_of_python_and_three_commands(name):
    """After pip install; a file on the page, which stands for the user's own model, is not counted."""
    lines = {"python": 0, "console": 0}
    for block in blocks(ROOT / "docs" / "howto" / f"{name}.md"):
        if block.language in lines and "file" not in block.remarks:
            text = block.text.replace("\\\n", "")
            lines[block.language] += sum(bool(line.strip()) for line in text.splitlines())
    assert 0 < lines["python"] <= 8
    assert 0 < lines["console"] <= 3


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_recipes_on_a_page_have_legal_keys_and_values(page):
    for block in blocks(page):
        if block.language == "yaml":
            parse_recipe({"data": {"source": "images"}, **yaml.safe_load(block.text)})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_to_pages_and_headings_that_exist(page):
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, heading = target.partition("#")
        other = (page.parent / name) if name else page
        assert other.exists(), f"{page.name} links to {target}"
        if heading and other.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", other.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings]
            assert heading in slugs, f"{page.name} links to {target}; {other.name} has {slugs}"


def test_pages_written_from_the_code_are_up_to_date():
    result = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "build.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, f"{result.stdout}{result.stderr}run python docs/build.py"


def test_the_index_names_every_page():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    missing = [page.name for page in PAGES if page.parent.name == "docs" and f"]({page.name})" not in index]
    assert missing == ["index.md"]
