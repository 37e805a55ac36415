"""`samespace check` on sets that hold more than it needs."""

from __future__ import annotations

import json

import numpy as np
import pytest

from samespace.cli.main import run
from samespace.space import Space
from samespace.vectors import VectorSet

QUICK = ["--replicates", "100", "--metric", "rank@1", "--quiet", "--json", "-"]


def space(name: str) -> Space:
    return Space(weights=name, preprocessing="none", dim=8, normalized=False, name=name)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Vectors of a whole source by two models, those of its queries and gallery alone, and the allocation."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    labels = np.arange(120) % 20
    looks = random.standard_normal((20, 8))
    ids = np.array([f"c{label}/{row}.png" for row, label in enumerate(labels)])
    parts = {"queries": np.arange(60, 90), "gallery": np.arange(90, 120)}
    for name, noise in (("old", 1.0), ("new", 0.5)):
        values = (looks[labels] + noise * random.standard_normal((120, 8))).astype(np.float32)
        whole = VectorSet.from_arrays(values, labels=labels, ids=ids, space=space(name))
        whole.subset(random.permutation(120)).save(name)
        for part, rows in parts.items():
            whole.subset(rows).save(f"{name}-{part}")
    (tmp_path / "split.json").write_text(
        json.dumps(
            {
                "format": "samespace.allocation/1", "kind": "extended-class", "seed": 1, "fraction": 0.3,
                "source": {"name": "x", "fingerprint": "0", "images": 120, "classes": 20},
                "parts": {"old": [], "new": [], **{part: ids[rows].tolist() for part, rows in parts.items()}},
            }
        )
    )  # fmt: skip
    return tmp_path


def checked(capsys, *options: str) -> dict:
    assert run(["check", *options, *QUICK]) in (0, 1)
    return json.loads(capsys.readouterr().out)


def test_an_allocation_says_which_items_are_queries_and_gallery(here, capsys):
    parts = ["--queries", "new-queries", "--gallery", "old-gallery", "--baseline", "old-queries"]
    expected = checked(capsys, *parts, "--new-gallery", "new-gallery")
    wholes = ["--queries", "new", "--gallery", "old", "--baseline", "old", "--new-gallery", "new"]
    found = checked(capsys, *wholes, "--allocation", "split.json")
    assert found["metrics"] == expected["metrics"]
    assert found["data"] == expected["data"]
    assert "new: 30 items are queries of split.json; the other 90 are left out." in found["notes"]
    assert "old: 30 items are gallery of split.json; the other 90 are left out." in found["notes"]
    assert checked(capsys, *parts, "--allocation", "split.json")["metrics"] == checked(capsys, *parts)["metrics"]


def test_sets_beside_queries_and_gallery_may_hold_more(here, capsys):
    found = checked(capsys, "--queries", "new-queries", "--gallery", "old-gallery", "--baseline", "old")
    assert "Baseline (old) has 90 items that are not in queries; they are left out." in found["notes"]


def test_the_baseline_searches_the_gallery_that_is_named(here, capsys):
    mapped = VectorSet.load("old-gallery")
    VectorSet.from_arrays(mapped.vectors, labels=mapped.labels, ids=mapped.ids, space=space("mapped")).save("mapped")
    options = ["--queries", "new-queries", "--gallery", "mapped", "--baseline", "old-queries"]
    found = checked(capsys, *options, "--baseline-gallery", "old-gallery")
    assert found["baseline_space"]["name"] == "old"
    assert run(["check", *options, *QUICK]) == 2
    assert "--baseline-gallery" in capsys.readouterr().err


def test_items_that_an_allocation_lacks_are_refused(here, capsys):
    assert run(["check", "--queries", "new-gallery", "--gallery", "old", "--baseline", "old", "--allocation",
                "split.json", *QUICK]) == 2  # fmt: skip
    assert "new-gallery lacks 30 of 30 queries of split.json, such as" in capsys.readouterr().err
