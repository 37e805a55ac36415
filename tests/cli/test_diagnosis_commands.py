"""Every command that a diagnosis suggests can be run: it parses, its recipe keys are legal, and check again helps."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from samespace.cli.main import cli, run
from samespace.evaluate import Certificate, check
from samespace.evaluate.diagnosis import Evidence, diagnose
from samespace.evaluate.diagnosis.evidence import Duplicates
from samespace.evaluate.diagnosis.mixed_up import MixedUp
from samespace.train.recipe_file import parse_recipe
from samespace.vectors import VectorSet

LABELS = np.repeat(np.arange(40), 3)
RECIPE = {"data": {"source": "images/"}, "model": {"embedding_dim": 16}}


def made(noise: float, kind: str, *, moved: float = 0.0) -> VectorSet:
    centres = np.random.default_rng(0).normal(size=(40, 16))
    generator = np.random.default_rng(sum(map(ord, f"{noise}{kind}")))
    centres = centres + moved * generator.normal(size=centres.shape)
    vectors = centres[LABELS] + noise * generator.normal(size=(len(LABELS), 16))
    return VectorSet.from_arrays(vectors, labels=LABELS, ids=[f"{kind}{row}" for row in range(len(LABELS))])


@pytest.fixture(scope="module")
def no() -> Certificate:
    return check(
        queries=made(0.6, "q", moved=1.6), gallery=made(1.4, "g"), baseline=made(1.4, "q"), replicates=100, examples=0
    )


def commands(certificate: Certificate) -> Iterator[str]:
    """The commands of every cause, each brought about by what was measured or by altered values."""
    base, one = Evidence(identities=40), certificate["rank@1"]
    twice = Duplicates(
        queries=9, share=0.1, metric="rank@1", old=0.2, cross=0.5, difference=(0.1, 0.4), named=(("a", "b"),)
    )
    mixed = MixedUp(by="items", queries=1.0, baseline=0.5)
    for evidence in (
        base,
        replace(base, same_vectors=True),
        replace(base, duplicates=twice),
        replace(base, mixed_up=mixed),
    ):
        yield from suggested(certificate, evidence)
    chance = {name: replace(value, cross=value.control) for name, value in certificate.metrics.items()}
    yield from suggested(replace(certificate, metrics=chance), base)
    all_chance = {name: replace(value, old=value.control) for name, value in chance.items()}
    yield from suggested(replace(certificate, metrics=all_chance), base)
    full = replace(one, old=1.0, cross=1.0, criterion=False, absolute_gain=0.0, difference=(0.0, 0.0))
    yield from suggested(replace(certificate, metrics={**certificate.metrics, "rank@1": full}), base)
    behind = replace(one, new=one.old / 2)
    yield from suggested(replace(certificate, metrics={"rank@1": behind}), replace(base, reverse=0.99))
    costs = replace(behind, paragon=1.0, paragon_lead=(0.1, 0.3))
    yield from suggested(replace(certificate, metrics={"rank@1": costs}), base)
    ahead = replace(one, new=1.0)
    yield from suggested(replace(certificate, metrics={"rank@1": ahead}, options={"prefix": True}), base)
    rises = replace(one, cross=one.old + 0.01, absolute_gain=0.01, difference=(-0.02, 0.04), criterion=True)
    yield from suggested(replace(certificate, metrics={"rank@1": rises}), base)
    held = replace(rises, difference=(0.005, 0.04), compatible=True)
    yield from suggested(replace(certificate, metrics={"rank@1": held, "TAR@FAR=1e-3": one}), base)


def suggested(certificate: Certificate, evidence: Evidence) -> Iterator[str]:
    for cause in diagnose(certificate, evidence):
        seen.add(cause.name)
        yield from cause.commands


seen: set[str] = set()


def test_every_suggested_command_parses_and_its_recipe_keys_are_legal(no):
    lines = set(commands(no))
    assert seen >= {
        "same-vectors", "interchanged", "not-one-model", "near-duplicates", "saturated", "unrelated", "not-ahead",
        "compatibility-costs", "low-false-accepts", "weak-compatibility", "too-few-identities",
    }  # fmt: skip
    for line in lines:
        program, *words = shlex.split(line)
        assert program == "samespace"
        command, context = cli, None
        while hasattr(command, "commands"):
            name = words.pop(0)
            command = command.commands[name]
        context = command.make_context(name, words)
        if name == "train":
            parse_recipe(RECIPE, context.params["overrides"])


def test_check_ends_with_the_cause_and_the_command_that_cures_it(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, vectors in {"new q": made(0.6, "q"), "old-g": made(1.4, "g"), "old-q": made(1.4, "q")}.items():
        vectors.save(name)
    given = ["check", "--queries", "old-q", "--gallery", "old-g", "--baseline", "new q", "--replicates", "100"]
    assert run([*given, "--json", "no.json", "--report", "report"]) == 1
    shown = capsys.readouterr().out
    assert "WHY NOT, AND WHAT NEXT\n1. The vectors given as new queries seem to be the old model's" in shown
    cause = json.loads(Path("no.json").read_text())["diagnosis"][0]
    assert cause["name"] == "interchanged"
    assert "Why not, and what next" in Path("report/report.html").read_text()
    (line,) = cause["commands"]
    assert line == "samespace check --queries 'new q' --gallery old-g --baseline old-q"
    assert line in shown.replace(" \\\n      ", "")
    assert run([*shlex.split(line)[1:], "--replicates", "100"]) == 0
    assert "WHY NOT" not in capsys.readouterr().out


def test_templates_and_sets_made_in_memory_have_no_file_names(no):
    assert any("NEW_Q" in line for cause in no.diagnosis for line in cause.commands)


def test_one_file_given_as_both_is_not_suggested_again(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, vectors in {"old-g": made(1.4, "g"), "old-q": made(1.4, "q")}.items():
        vectors.save(name)
    given = "check --queries old-q --gallery old-g --baseline old-q --new-gallery old-g --replicates 100 --json no.json"
    assert run(given.split()) == 1
    embedding, again = json.loads(Path("no.json").read_text())["diagnosis"][0]["commands"]
    assert embedding.endswith("--out NEW_Q")
    assert "--queries NEW_Q --gallery old-g --baseline old-q --new-gallery NEW_G" in again
