"""Relevance judgements of any form, encoding and damage, and checks by them: as slow readers and metrics would."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from samespace.cli.main import run
from samespace.errors import InputError
from samespace.evaluate import check
from samespace.evaluate.relevance import Judgements
from samespace.vectors import VectorSet

EXAMPLES = int(os.environ.get("SAMESPACE_EXAMPLES", "1"))


def many(share: int = 1) -> settings:
    return settings(
        max_examples=max(25 * EXAMPLES // share, 5),
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
    )


LETTERS = st.characters(exclude_categories=("Cs", "Zs", "Zl", "Zp", "Cc"))
WORD = st.one_of(
    st.text(LETTERS, min_size=1, max_size=4), st.sampled_from(["1", "01", "1.0", "d-1", "#", '"', "é", "é"])
)
PHRASE = st.lists(WORD, min_size=1, max_size=3).map(" ".join)
GRADE = st.one_of(st.integers(-2, 4), st.integers(-(10**9) + 1, 10**9 - 1))
ENCODINGS, BREAKS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]), st.sampled_from(["\n", "\r\n", "\r"])
HEADER = "query-id\tcorpus-id\tscore"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("qrels")


def rows_of(found: Judgements) -> list[tuple[str, str, int]]:
    return list(zip(found.queries.tolist(), found.documents.tolist(), found.grades.tolist(), strict=True))


def judgements(names: st.SearchStrategy[str]) -> st.SearchStrategy[list[tuple[str, str, int]]]:
    return st.lists(st.tuples(names, names, GRADE), min_size=1, max_size=6, unique_by=lambda row: row[:2])


@many()
@given(
    judgements(WORD), st.sampled_from([" ", "\t", "  ", " \t"]), st.sampled_from(["0", "Q0", "x"]), ENCODINGS, BREAKS
)
def test_the_form_of_trec_is_what_was_written(place, rows, blank, iteration, encoding, end):
    assume(encoding != "utf-8" or not rows[0][0].startswith("\ufeff"))
    lines = [blank.join([query, iteration, document, str(grade)]) for query, document, grade in rows]
    (place / "qrels").write_bytes(end.join(lines).encode(encoding))
    assert rows_of(Judgements.read(place / "qrels")) == rows


@many()
@given(judgements(PHRASE), st.sampled_from([None, HEADER, "q\td\tgrade"]), st.integers(0, 2), ENCODINGS, BREAKS)
def test_the_form_of_beir_is_what_was_written(place, rows, header, blank_lines, encoding, end):
    assume(encoding != "utf-8" or header is not None or not rows[0][0].startswith("\ufeff"))
    lines = [""] * blank_lines + ([header] if header else []) + ["\t".join(map(str, row)) for row in rows]
    (place / "qrels.tsv").write_bytes(end.join([*lines, ""]).encode(encoding))
    assert rows_of(Judgements.read(place / "qrels.tsv")) == rows


PART = st.one_of(WORD, st.sampled_from(["0", "1", "-1", "0.5", "1e3", "nan", "+1", "99999999999", "", "Q0", "grade"]))


def slow_read(lines: list[str]) -> list[tuple[str, str, int]] | None:
    """Judgements of lines whose fields are all separated by one tab; None where they should be refused."""
    found: dict[tuple[str, str], int] = {}
    width = 0
    for place, line in enumerate(line for line in lines if line.strip()):
        fields = line.split("\t")
        width = width or len(fields)
        try:
            float(fields[-1])
            titles = False
        except ValueError:
            titles = place == 0 and len(fields) == 3
        if titles:
            continue
        pair = (fields[0], fields[-2]) if len(fields) > 1 else ("", "")
        whole = re.fullmatch("-?[0-9]{1,9}", fields[-1])
        if len(fields) != width or width not in (3, 4) or "" in fields or not whole or pair in found:
            return None
        found[pair] = int(fields[-1])
    return [(*pair, grade) for pair, grade in found.items()] or None


@many()
@given(st.lists(st.lists(PART, min_size=1, max_size=5), max_size=4))
def test_lines_of_any_fields_are_read_or_refused_whole(place, fields):
    lines = ["\t".join(line) for line in fields]
    # an empty field beside tabs is a line of fewer fields to a reader of white space
    assume(all("" not in line for line in fields) and not any(line.startswith("\ufeff") for line in lines))
    assume(all(part.isascii() or not part.isdigit() for line in fields for part in line))
    (place / "fields").write_text("\n".join(lines), encoding="utf-8")
    expected = slow_read(lines)
    if expected is None:
        with pytest.raises(InputError) as caught:
            Judgements.read(place / "fields")
        assert "\n" not in str(caught.value)
        assert "fields" in str(caught.value)
    else:
        assert rows_of(Judgements.read(place / "fields")) == expected


DAMAGE = st.one_of(
    st.binary(max_size=60),
    st.lists(
        st.sampled_from(
            [b"q", b"d", b"0", b"1", b"-", b"\t", b" ", b"\n", b"\r", b"\0", b"\xff", b"9" * 5000, b"0.5", b"nan",
             b"\xef\xbb\xbf", b"\xff\xfe", b'"', b"\x1c", b"\xc2\x85", b"\xe2\x80\xa8", b"\xd9\xa1"]
        ),
        max_size=16,
    ).map(b"".join),
)  # fmt: skip


@many()
@given(DAMAGE)
def test_anything_else_is_refused_in_one_line(place, content):
    path = place / "damaged.qrels"
    path.write_bytes(content)
    try:
        found = Judgements.read(path)
    except InputError as error:
        told = str(error)
        assert "\n" not in told
        assert path.name in told
        assert len(told) < 1000
    else:
        # every line is a judgement, but for blank ones and one of titles
        lines = [line for line in re.split("\r\n|\r|\n", path.read_bytes().decode("utf-8-sig")) if line.strip()]
        assert len(lines) - len(found) in (0, 1)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[dict[str, VectorSet], dict[str, dict[str, int]]]:
    """Few queries and documents whose scores are often equal, and judgements of some, of others, and of none."""
    documents = draw(st.lists(WORD, min_size=2, max_size=7, unique=True))
    queries = draw(st.lists(WORD.map(lambda name: f"?{name}"), min_size=2, max_size=4, unique=True))
    value = st.integers(-1, 2)
    vector = st.lists(value, min_size=3, max_size=3).filter(any)
    sets = {
        role: VectorSet.from_arrays(np.array([draw(vector) for _ in names], dtype=np.float32), ids=names, name=role)
        for role, names in (("gallery", documents), ("queries", queries), ("baseline", queries))
    }
    names = st.sampled_from([*documents, "absent"])
    judged = st.sampled_from([*queries, "unknown"])
    return sets, draw(
        st.dictionaries(judged, st.dictionaries(names, st.integers(-2, 3), min_size=1, max_size=5), min_size=1)
    )


def slow_ranking(queries: VectorSet, gallery: VectorSet, row: int) -> list[str]:
    """Documents by score as float32, the best first, those of equal score in descending order of ids."""
    query = queries.vectors[row].astype(np.float64)
    scored = []
    for name, vector in zip(gallery.ids.tolist(), gallery.vectors.astype(np.float64), strict=True):
        score = math.fsum(query * vector) / math.sqrt(math.fsum(query**2)) / math.sqrt(math.fsum(vector**2))
        scored.append((float(np.float32(round(score * 2**30) / 2**30)), name))
    return [name for _, name in sorted(scored, reverse=True)]


def slow_values(ranked: list[str], grades: dict[str, int], depth: int) -> dict[str, float]:
    gains = [max(grades.get(name, 0), 0) for name in ranked[:depth]]
    best = sorted((grade for grade in grades.values() if grade > 0), reverse=True)
    ideal = sum(grade / math.log2(place + 2) for place, grade in enumerate(best[:depth]))
    first = next((place for place, gain in enumerate(gains, start=1) if gain), None)
    return {
        f"nDCG@{depth}": sum(gain / math.log2(place + 2) for place, gain in enumerate(gains)) / ideal if best else 0.0,
        f"Recall@{depth}": sum(gain > 0 for gain in gains) / len(best) if best else 0.0,
        f"MRR@{depth}": 1 / first if first else 0.0,
    }


@many(2)
@given(worlds(), st.integers(1, 8))
def test_values_are_those_of_slow_definitions(world, depth):
    sets, grades = world
    queries, gallery = sets["queries"], sets["gallery"]
    judged = [name for name in queries.ids.tolist() if name in grades]
    found_one = any(grades[name].get(one, 0) > 0 for name in judged for one in gallery.ids.tolist())
    names = [f"{kind}@{depth}" for kind in ("nDCG", "Recall", "MRR")]
    given_all: dict[str, Any] = {**sets, "qrels": Judgements.of(grades), "metrics": names, "replicates": 10}
    if not judged or not found_one:
        with pytest.raises(InputError):
            check(**given_all)
        return
    certificate = check(**given_all)
    for test, side in (("old", sets["baseline"]), ("cross", queries)):
        slow = [
            slow_values(slow_ranking(side, gallery, row), grades[name], depth)
            for row, name in enumerate(queries.ids.tolist())
            if name in grades
        ]
        for name in names:
            expected = math.fsum(one[name] for one in slow) / len(slow)
            assert getattr(certificate[name], test) == pytest.approx(expected, abs=1e-9), (name, test)
    notes = " ".join(certificate.notes)
    assert certificate.data["queries"] == len(judged)
    assert ("have no judgement and are left out" in notes) == (len(judged) < len(queries))
    assert ("queries that were judged are not in" in notes) == ("unknown" in grades)
    absent = sum(grades[name].get("absent", 0) > 0 for name in judged)
    assert (f"{absent:,} relevant documents are not in" in notes) == (absent > 0)


def test_a_first_judgement_whose_grade_is_a_fraction_is_no_line_of_titles(tmp_path, capsys):
    (tmp_path / "q.tsv").write_text("q1\td1\t0.5\nq2\td2\t1\n")
    with pytest.raises(InputError, match=r"line 1: the grade is '0\.5'; expected a whole number"):
        Judgements.read(tmp_path / "q.tsv")
    for name, ids in {"q": ["q1", "q2"], "g": ["d1", "d2"]}.items():
        VectorSet.from_arrays(np.eye(2), ids=ids).save(tmp_path / name)
    files = [str(tmp_path / name) for name in ("q", "g", "q")]
    sides = [part for pair in zip(("--queries", "--gallery", "--baseline"), files, strict=True) for part in pair]
    assert run(["check", *sides, "--qrels", str(tmp_path / "q.tsv")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
