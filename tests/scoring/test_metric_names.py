from __future__ import annotations

from fractions import Fraction

import pytest

from samespace.errors import InputError
from samespace.scoring.metric_names import parse, parse_all


@pytest.mark.parametrize(
    ("name", "kind", "argument"),
    [
        ("rank@1", "rank", 1),
        ("rank@20", "rank", 20),
        ("mAP", "mAP", 0),
        ("MAP@R", "MAP@R", 0),
        ("R-precision", "R-precision", 0),
        ("TAR@FAR=1e-4", "TAR", Fraction(1, 10_000)),
        ("TAR@FAR=0.001", "TAR", Fraction(1, 1000)),
        ("TAR@FAR=0", "TAR", 0),
        ("TPIR@FPIR=1e-2", "TPIR", Fraction(1, 100)),
        ("TPIR-merged@FPIR=.3", "TPIR-merged", Fraction(3, 10)),
    ],
)
def test_a_name_says_what_is_measured(name, kind, argument):
    metric = parse(name)
    assert (metric.name, metric.kind, metric.argument) == (name, kind, argument)


@pytest.mark.parametrize(
    "name",
    [
        "rank1",
        "rank@0",
        "rank@-1",
        "map",
        "MAP",
        "MAP@5",
        "R-precision@3",
        "TAR",
        "TAR@FAR=",
        "TAR@FAR=1",
        "TAR@FAR=x",
        "tar@far=1e-4",
        "",
        "AP@5",
    ],
)
def test_other_names_are_refused_with_what_is_legal(name):
    with pytest.raises(InputError, match=r"legal: rank@1, mAP|below 1"):
        parse(name)


def test_a_near_miss_is_answered_with_the_right_name():
    with pytest.raises(InputError, match="did you mean 'TAR@FAR=1e-4'"):
        parse("TAR@FRR=1e-4")


def test_names_are_read_once_each_in_order():
    assert [metric.name for metric in parse_all(["mAP", "rank@1", "mAP"])] == ["mAP", "rank@1"]
    with pytest.raises(InputError, match="a list of names"):
        parse_all("mAP")
    with pytest.raises(InputError, match="no metric asked for"):
        parse_all([])


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("R@1", "rank@1"),
        ("r@10", "rank@10"),
        ("recall@5", "rank@5"),
        ("Recall_1", "rank@1"),
        ("rank1", "rank@1"),
        ("rank-20", "rank@20"),
        ("top-1", "rank@1"),
        ("top5_accuracy", "rank@5"),
        ("CMC@1", "rank@1"),
        ("hits@3", "rank@3"),
        ("P@1", "rank@1"),
        ("map", "mAP"),
        ("mean average precision", "mAP"),
        ("AP", "mAP"),
        ("TAR@1e-4", "TAR@FAR=1e-4"),
        ("tar@far=1e-3", "TAR@FAR=1e-3"),
        ("TPR@FPR=1e-5", "TAR@FAR=1e-5"),
        ("TAR@FAR=0.01%", "TAR@FAR=0.0001"),
        ("TAR", "TAR@FAR=1e-4"),
        ("tpir@fpir=0.05", "TPIR@FPIR=0.05"),
        ("DIR@FAR=1e-2", "TPIR@FPIR=1e-2"),
        ("tpir_merged@1e-2", "TPIR-merged@FPIR=1e-2"),
    ],
)
def test_a_name_of_another_library_is_answered_with_ours(name, right):
    with pytest.raises(InputError, match=f"did you mean '{right}'\\?"):
        parse(name)
    assert parse(right).name == right


def test_what_no_metric_is_called_is_answered_with_what_is_legal_alone():
    with pytest.raises(InputError, match="unknown metric 'loss'; legal: rank@1"):
        parse("loss")
