"""`samespace check --qrels`: texts judged by relevance judgements, from the command."""

from __future__ import annotations

import json

import numpy as np
import pytest

from samespace.cli.main import run
from samespace.space import Space
from samespace.vectors import VectorSet

PARTS = ["--queries", "new_q", "--gallery", "old_g", "--baseline", "old_q"]
QUICK = [*PARTS, "--replicates", "100", "--quiet"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Queries by an old and a better new model, documents by the old one, and judgements in both forms."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    documents = random.standard_normal((60, 8))
    about = random.permutation(60)[:40]
    for name, noise in (("old", 1.5), ("new", 0.5)):
        space = Space(weights=name, preprocessing="none", dim=8, normalized=False, name=name)
        values = documents[about] + noise * random.standard_normal((40, 8))
        VectorSet.from_arrays(values, ids=[f"q{row}" for row in range(40)], space=space).save(f"{name}_q")
        if name == "old":
            VectorSet.from_arrays(documents, ids=[f"d{row}" for row in range(60)], space=space).save("old_g")
    lines = [(f"q{row}", f"d{document}") for row, document in enumerate(about)]
    (tmp_path / "trec.qrels").write_text("".join(f"{query} 0 {document} 1\n" for query, document in lines))
    beir = "".join(f"{query}\t{document}\t1\n" for query, document in lines)
    (tmp_path / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{beir}")
    return tmp_path


def test_both_forms_give_one_certificate(here, capsys):
    found = []
    for form in ("trec.qrels", "test.tsv"):
        assert run(["check", *QUICK, "--qrels", form, "--json", "-"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0]["metrics"] == found[1]["metrics"]
    assert list(found[0]["metrics"]) == ["nDCG@10", "MRR@10", "Recall@10"]
    assert found[0]["options"] == {"prefix": False, "qrels": "trec.qrels"}


def test_terminal_and_report_say_how_it_was_judged(here, capsys):
    assert run(["check", *QUICK, "--qrels", "test.tsv", "--metric", "nDCG@10", "--report", "report"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert told.startswith("COMPATIBLE")
    assert "nDCG@10 rises from" in told
    assert "40 queries, 60 gallery" in told
    assert "Judged by test.tsv: 40 judgements" in told
    page = (here / "report" / "report.html").read_text()
    assert "paired bootstrap replicates over queries" in page
    assert "--qrels QRELS" in page


def test_a_no_ends_with_commands_that_check_again_and_none_that_train_on_images(here, capsys):
    same = ["--queries", "old_q", "--gallery", "old_g", "--baseline", "old_q", "--replicates", "100", "--quiet"]
    assert run(["check", *same, "--qrels", "test.tsv", "--json", "-"]) == 1
    cause = json.loads(capsys.readouterr().out)["diagnosis"][0]
    assert cause["name"] == "same-vectors"
    assert len(cause["commands"]) == 1
    assert "--qrels test.tsv" in cause["commands"][0]
    assert "--queries NEW_Q --gallery old_g --baseline old_q" in cause["commands"][0]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--qrels", "nowhere"], "nowhere"),
        (["--qrels", "test.tsv", "--fuse", "0.5"], "--qrels goes without --fuse"),
        (["--qrels", "test.tsv", "--images", "x", "--report", "r"], "--qrels goes without --images"),
        (["--qrels", "test.tsv", "--metric", "ndcg@10"], "did you mean 'nDCG@10'"),
        (["--metric", "nDCG@10"], "have no labels"),
    ],
)
def test_wrong_use_is_one_line(here, capsys, options, says):
    assert run(["check", *QUICK, *options]) == 2
    assert says in capsys.readouterr().err
