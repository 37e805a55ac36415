"""Each rule of `ways`, on figures that meet it just so; and the recorded gains against the pages they come from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from samespace.cli.main import cli
from samespace.evaluate.probe.ways import RECORDED, Measure, ways
from samespace.train import parse_recipe

DOCS = Path(__file__).resolve().parents[3] / "docs"


def measures(value: float, low: float, high: float, **others: tuple[float, float, float]) -> dict[str, Measure]:
    made = {"rank@1": Measure(value, (low, high))}
    return made | {name: Measure(one, (start, end)) for name, (one, start, end) in others.items()}


AHEAD = measures(0.10, 0.07, 0.13)
LEVEL = measures(0.00, -0.02, 0.02)
BEHIND = measures(-0.10, -0.13, -0.07)
KEPT = measures(0.05, 0.01, 0.09)
LOST = measures(0.04, 0.01, 0.07)


@pytest.mark.parametrize(
    ("strength", "lead", "mapped", "way", "method"),
    [
        (0.60, None, None, "compatible training", "matched"),
        (0.59, None, None, "compatible training", "matched"),
        (0.99, None, None, "stay", None),
        (0.80, AHEAD, None, "compatible training", "matched"),
        (0.80, AHEAD, LOST, "compatible training", "matched"),
        (0.80, AHEAD, LEVEL, "compatible training", "matched"),
        (0.99, AHEAD, None, "compatible training", "matched"),
        (0.59, AHEAD, None, "re-embed", None),
        (0.59, AHEAD, LOST, "re-embed", None),
        (0.80, AHEAD, KEPT, "bridge", None),
        (0.30, AHEAD, KEPT, "bridge", None),
        (0.80, LEVEL, KEPT, "stay", None),
        (0.30, BEHIND, None, "stay", None),
    ],
)
def test_what_comes_first(strength, lead, mapped, way, method):
    found = ways("old.npz", strength, lead, mapped)
    assert (found[0].way, found[0].method) == (way, method)
    assert sorted(one.way for one in found) == ["bridge", "compatible training", "re-embed", "stay"]
    assert all(one.reason and one.command.startswith("samespace ") for one in found)


def test_one_metric_ahead_is_a_lead_and_the_map_must_keep_half_of_each():
    lead = measures(0.10, 0.07, 0.13, mAP=(0.2, 0.1, 0.3), TAR=(0.0, -0.1, 0.1))
    kept = measures(0.05, 0.01, 0.09, mAP=(0.1, 0.05, 0.15), TAR=(-0.3, -0.4, -0.2))
    assert ways("v", 0.8, lead, kept)[0].way == "bridge"
    assert ways("v", 0.8, lead, kept | {"mAP": Measure(0.09, (0.05, 0.15))})[0].way == "compatible training"
    assert ways("v", 0.8, measures(0.0, -0.1, 0.1, mAP=(0.2, 0.1, 0.3)), None)[0].way != "stay"


def test_a_map_that_proves_nothing_comes_last():
    assert [one.way for one in ways("v", 0.8, AHEAD, LEVEL)][-2:] == ["stay", "bridge"]
    assert [one.way for one in ways("v", 0.8, AHEAD, LOST)][-2:] == ["bridge", "stay"]


def test_measured_gains_are_the_intervals_and_the_recorded_share_is_of_the_measured_lead():
    found = {one.way: one for one in ways("v", 0.8, AHEAD, LOST)}
    assert found["re-embed"].gains[0].metrics == {"rank@1": (0.07, 0.13)}
    assert found["bridge"].gains[0].metrics == {"rank@1": (0.01, 0.07)}
    assert "+2.3 to +3.9 points of rank@1" in found["compatible training"].reason
    assert found["compatible training"].gains == RECORDED["matched, strong"]
    weak = ways("v", 0.4, None, None)[0]
    assert (weak.method, weak.gains) == ("matched", RECORDED["matched, weak"])
    assert "of the lead" not in ways("v", 0.8, LEVEL, None)[1].reason
    assert "behind in rank@1" in ways("v", 0.8, BEHIND, None)[0].reason


def column(page: str, row: str, place: int) -> list[float]:
    """The first number in a column of the rows of a table whose text holds `row`."""
    lines = [line.split("|") for line in page.splitlines() if line.startswith("|") and row in line]
    return [float(re.match(r" ?\*{0,2}[+−]?([\d.]+)", line[place])[1]) for line in lines]


@pytest.mark.parametrize(("metric", "self_test"), [("TAR@FAR=1e-4", 7), ("rank@1", 10), ("rank@5", 11)])
def test_the_recorded_gains_with_weak_old_models_are_those_of_the_page(metric, self_test):
    page = (DOCS / "results" / "unibct-omniglot.md").read_text(encoding="utf-8")
    table = page.split("## Table 2")[1].split("## Table 3")[0]
    # of each allocation: the self tests of the old model and of the paragon
    old = column(table, "| base | – | 30 %", self_test)
    best = column(table, "| – | base |", self_test) + column(table, "| – | deeper |", self_test)
    leads = [(new - before) / 100 for new, before in zip(best, old, strict=True)]
    assert RECORDED["re-embed, weak"][0].metrics[metric] == pytest.approx((min(leads), max(leads)), abs=6e-4)


@pytest.mark.parametrize("place", range(4))
def test_the_recorded_gains_with_strong_old_models_are_those_of_the_page(place):
    page = (DOCS / "results" / "beyond.md").read_text(encoding="utf-8")
    table, after = page.split("## New queries on the old gallery")[1].split("## The new model on its own gallery")
    metric = ("rank@1", "mAP", "TAR@FAR=1e-3", "TPIR@FPIR=1e-1")[place]
    old = column(table, "| *old model* |", 3 + 2 * place)
    rows = [line for line in table.splitlines() if re.match(r"\| \S+ \| matched( \(2 seeds\))? \|", line)]
    matched = [float(line.split("|")[3 + 2 * place]) for line in rows]
    best = column(after.split("\n## ")[0], "*paragon*", 3 + place)
    assert len(old) == len(matched) == len(best) == 5
    gains = [(new - before) / 100 for new, before in zip(matched, old, strict=True)]
    leads = [(new - before) / 100 for new, before in zip(best, old, strict=True)]
    recorded = RECORDED["matched, strong"][0]
    assert recorded.metrics[metric] == pytest.approx((min(gains), max(gains)), abs=1e-9)
    assert RECORDED["re-embed, strong"][0].metrics[metric] == pytest.approx((min(leads), max(leads)), abs=1e-9)
    if metric == "rank@1":
        shares = [float(line.split("|")[-2].split(",")[0]) / 100 for line in rows]
        assert recorded.share == pytest.approx((min(shares), max(shares)))


@pytest.mark.parametrize("metric", ["rank@1", "mAP", "TAR@FAR=1e-3", "TPIR@FPIR=1e-1"])
def test_the_recorded_gains_on_glyphs_are_those_of_the_page(metric):
    page = (DOCS / "results" / "demo.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in page.splitlines() if f"| {metric} | compatible" in line]
    gains = [float(row[6].strip().replace("−", "-")) / 100 for row in rows]
    recorded = RECORDED["matched, weak"][0]
    assert len(gains) == 3
    assert recorded.metrics[metric] == pytest.approx((min(gains), max(gains)), abs=6e-4)
    if metric == "rank@1":
        shares = [float(row[8]) / 100 for row in rows]
        assert recorded.share == pytest.approx((min(shares), max(shares)), abs=6e-3)


def test_the_commands_exist_and_the_training_options_are_keys_of_a_recipe():
    for strength in (0.3, 0.8):
        for advice in ways("v", strength, AHEAD, LOST):
            _, name, *arguments = advice.command.split()
            assert name in cli.commands
            if name == "train":
                options = [argument for argument in arguments if "=" in argument]
                section = parse_recipe({"data": {"source": "images"}}, options).compatibility
                assert (section.method, section.old_vectors) == (advice.method, "OLD_TRAIN_VECTORS")
