"""The tables of BCT (Shen et al., CVPR 2020), as a study."""

from __future__ import annotations

from samespace.studies.study import Column, Model, Pair, Published, Row, Share, Study, Table, Test

_VERIFICATION, _SEARCH = "TAR@FAR=1e-4", "TPIR@FPIR=1e-2"
_TARS = ("TAR@FAR=1e-5", "TAR@FAR=1e-4", "TAR@FAR=1e-3", "TAR@FAR=1e-2")
_SEARCHES = ("TPIR@FPIR=1e-3", "TPIR@FPIR=1e-2", "TPIR@FPIR=1e-1", "rank@1", "rank@5")

# what a row prints (accuracy, compatible, update gain, absolute gain), 1:1 and 1:N
_Figures = tuple[Published, Published, Published, Published]
_Line = tuple[str, Pair, Test, _Figures, _Figures]
# (labels, pair, test, 1:1 at four rates, 1:N at three rates and two ranks)
_Detail = tuple[str, Pair, Test, tuple[float, ...], tuple[float, ...]]


def bct() -> Study:
    """BCT: baselines and variants (Tables 1, 2, 8), other changes (3, 7), the chain (4, 9), re-identification (5)."""
    return Study(
        name="bct",
        title="BCT: backward-compatible training",
        published_on="IJB-C, models trained on IMDB-Face (BCT, CVPR 2020); Table 5: Market-1501",
        models=_models(),
        tables=tuple(_tables()),
        figure=Pair("beta", "old", "paragon"),
        compatibility={"warmup_epochs": 0},
        notes=(
            "β ties the images of old classes to the old classifier; β-kd and β-sys also act on the new classes, by "
            "distillation and by synthesised rows.",
            "The update gain of (φ3, φ1) divides by the lead of φ*3, as Eq. 9 says; the paper's figure divides by that "
            "of φ*2.",
            "LwF is trained on all images and distils those of new classes; the paper's table says 50 %, its text "
            "speaks of the newly added images.",
            "Likewise the absolute gain of (φ*3, φ*3) is measured against φ2; the paper's is against φ*2.",
            "Table 5 is measured on the same models as Table 1, by ranking; the settings market1501 train on that set. "
            "The paper prints its pairs the other way round.",
        ),
    )


def _models() -> tuple[Model, ...]:
    quarter, half, most = (Share("classes", fraction) for fraction in (0.25, 0.5, 0.9))
    everything = Share()
    deeper, wider = ("deeper",), ("deeper", "wider")
    return (
        Model("old", half, generation=0),
        Model("paragon", everything),
        Model("l2", everything, "l2", "old"),
        Model("lwf", everything, "lwf", "old"),
        Model("beta", everything, "bct", "old"),
        Model("beta-kd", everything, "bct-kd", "old"),
        Model("beta-sys", everything, "bct-synth", "old"),
        Model("beta-deeper", everything, "bct", "old", deeper),
        Model("beta-deeper-wider", everything, "bct", "old", wider),
        Model("beta-relu", everything, "bct", "old", ("deeper", "relu")),
        Model("old-norm-softmax", everything, variants=("norm-softmax",), generation=0),
        Model("beta-norm-softmax", everything, "bct", "old-norm-softmax"),
        Model("old-softmax", everything, variants=("softmax",), generation=0),
        Model("beta-softmax", everything, "bct", "old-softmax"),
        Model("first", quarter, generation=0),
        Model("second", half, "bct", "first", generation=1),
        Model("third", everything, "bct", "second", generation=2),
        Model("beta-from-25", everything, "bct", "first"),
        Model("old-90", most, generation=0),
        Model("beta-from-90", everything, "bct", "old-90"),
    )


def _against_old(new: str) -> Pair:
    return Pair(new, "old", "paragon")


_OLD, _INDEPENDENT, _L2, _LWF = (_against_old(name) for name in ("beta", "paragon", "l2", "lwf"))
_KD, _SYS = _against_old("beta-kd"), _against_old("beta-sys")
_NORM, _SOFT = Pair("beta-norm-softmax", "old-norm-softmax", "paragon"), Pair("beta-softmax", "old-softmax", "paragon")
_SECOND, _THIRD = Pair("second", "first", "old"), Pair("third", "second", "paragon")
_SKIPPED = Pair("third", "first", "paragon")
_FROM25, _FROM90 = Pair("beta-from-25", "first", "paragon"), Pair("beta-from-90", "old-90", "paragon")

_NONE: tuple[None, None, None] = (None, None, None)
_NO: tuple[bool, None, None] = (False, None, None)

_TABLE1: tuple[_Line, ...] = (
    ("(φold, φold) lower bound", _OLD, "old", (77.86, *_NONE), (59.34, *_NONE)),
    ("(φ*new, φold) independent", _INDEPENDENT, "cross", (0.0, *_NO), (0.0, *_NO)),
    ("(φnew-ℓ2, φold)", _L2, "cross", (3.10, *_NO), (0.50, *_NO)),
    ("(φnew-LwF, φold)", _LWF, "cross", (77.26, *_NO), (59.27, *_NO)),
    ("(φnew-β, φold)", _OLD, "cross", (80.25, True, 26.26, 2.39), (67.23, True, 44.98, 7.89)),
    ("(φnew-β-kd, φold)", _KD, "cross", (80.34, True, 27.25, 2.48), (69.02, True, 55.11, 9.68)),
    ("(φnew-β-sys, φold)", _SYS, "cross", (80.59, True, 30.0, 2.73), (70.70, True, 64.77, 11.36)),
    ("(φ*new, φ*new) upper bound", _OLD, "paragon", (86.96, None, None, 9.1), (76.88, None, None, 17.54)),
)

_TABLE2: tuple[tuple[str, Pair, Test, float, float], ...] = (
    ("(φold, φold)", _OLD, "old", 77.86, 59.34),
    ("(φnew-β, φnew-β)", _OLD, "new", 85.36, 73.86),
    ("(φnew-β-kd, φnew-β-kd)", _KD, "new", 84.95, 73.56),
    ("(φnew-β-sys, φnew-β-sys)", _SYS, "new", 85.58, 74.40),
    ("(φ*new, φ*new)", _OLD, "paragon", 86.96, 76.88),
)

_DEEPER, _WIDER, _RELU = (_against_old(f"beta-{name}") for name in ("deeper", "deeper-wider", "relu"))
_TABLE3: tuple[_Line, ...] = (
    ("(φold, φold) lower bound", _OLD, "old", (77.86, *_NONE), (59.34, *_NONE)),
    ("(φnew-β deeper, φold)", _DEEPER, "cross", (80.54, True, 29.45, 2.68), (68.71, True, 53.42, 9.37)),
    ("(φnew-β deeper and wider, φold)", _WIDER, "cross", (80.92, True, 33.63, 3.06), (69.45, True, 57.63, 10.11)),
    ("(φnew-β ReLU, φold)", _RELU, "cross", (34.70, *_NO), (17.73, *_NO)),
    ("(φold-NS, φold-NS) lower bound", _NORM, "old", (80.10, *_NONE), (64.32, *_NONE)),
    ("(φnew-β cosine from NS, φold-NS)", _NORM, "cross", (81.81, True, 24.93, 1.71), (71.16, True, 54.46, 6.84)),
    ("(φold-S, φold-S) lower bound", _SOFT, "old", (73.27, *_NONE), (54.16, *_NONE)),
    ("(φnew-β cosine from S, φold-S)", _SOFT, "cross", (67.11, *_NO), (45.46, *_NO)),
    ("(φ*new, φ*new) upper bound", _OLD, "paragon", (86.96, None, None, 9.1), (76.88, None, None, 17.54)),
)

_TABLE4: tuple[_Line, ...] = (
    ("(φ1, φ1)", _SECOND, "old", (41.45, *_NONE), (22.57, *_NONE)),
    ("(φ2, φ1)", _SECOND, "cross", (56.34, True, 40.90, 14.89), (39.00, True, 44.68, 16.43)),
    ("(φ3, φ1) never trained together", _SKIPPED, "cross", (53.98, True, 34.41, 12.53), (36.10, True, 36.80, 13.53)),
    ("(φ2, φ2)", _THIRD, "old", (75.96, *_NONE), (56.07, *_NONE)),
    ("(φ3, φ2)", _THIRD, "cross", (80.40, True, 40.36, 4.44), (66.09, True, 48.15, 10.02)),
    ("(φ*2, φ*2)", _SECOND, "paragon", (77.86, None, None, 36.41), (59.34, None, None, 36.77)),
    ("(φ*3, φ*3)", _THIRD, "paragon", (86.96, None, None, 9.1), (76.88, None, None, 17.54)),
)

_TABLE5: tuple[tuple[str, Pair, Test, _Figures], ...] = (
    ("(φold, φold)", _OLD, "old", (42.9, *_NONE)),
    ("(φ*new, φold)", _INDEPENDENT, "cross", (26.7, *_NO)),
    ("(φnew-β, φold)", _OLD, "cross", (45.0, True, 12.0, 2.1)),
    ("(φnew-β, φnew-β)", _OLD, "new", (60.1, *_NONE)),
    ("(φ*new, φ*new)", _OLD, "paragon", (60.3, *_NONE)),
)

_TABLE7: tuple[_Detail, ...] = (
    ("(φold, φold)", _OLD, "old", (59.41, 77.86, 88.80, 95.35), (36.90, 59.34, 79.18, 87.25, 92.83)),
    ("(φnew-β deeper, φold)", _DEEPER, "cross", (66.44, 80.54, 89.87, 95.71), (57.22, 68.71, 82.58, 89.19, 94.10)),
    (
        "(φnew-β deeper and wider, φold)",
        _WIDER,
        "cross",
        (68.45, 80.92, 89.83, 95.84),
        (54.77, 69.45, 83.60, 89.12, 94.07),
    ),
    ("(φnew-β ReLU, φold)", _RELU, "cross", (17.02, 34.70, 59.82, 83.69), (6.98, 17.73, 33.13, 52.58, 73.32)),
    ("(φold-S, φold-S)", _SOFT, "old", (57.30, 73.27, 85.91, 94.45), (31.53, 54.16, 73.88, 85.42, 92.69)),
    ("(φnew-β from S, φold-S)", _SOFT, "cross", (48.08, 67.11, 84.01, 94.39), (31.44, 45.46, 69.19, 85.37, 92.80)),
    ("(φold-NS, φold-NS)", _NORM, "old", (65.56, 80.10, 89.80, 95.61), (40.16, 64.32, 81.36, 89.35, 94.39)),
    ("(φnew-β from NS, φold-NS)", _NORM, "cross", (69.72, 81.81, 90.39, 96.10), (54.34, 71.16, 83.40, 90.24, 94.74)),
    ("(φ1 25 %, φ1 25 %)", _FROM25, "old", (29.40, 51.77, 73.30, 88.97), (11.34, 26.84, 54.00, 71.67, 82.94)),
    ("(φnew-β, φ1 25 %)", _FROM25, "cross", (33.51, 52.21, 72.78, 88.84), (16.48, 34.24, 57.66, 76.89, 87.44)),
    ("(φ1 90 %, φ1 90 %)", _FROM90, "old", (74.49, 86.58, 93.24, 97.03), (57.81, 74.52, 87.28, 91.95, 95.72)),
    ("(φnew-β, φ1 90 %)", _FROM90, "cross", (74.61, 86.27, 93.19, 97.08), (61.41, 74.57, 87.50, 91.92, 95.51)),
)

_TABLE8: tuple[_Detail, ...] = (
    ("(φold, φold)", _OLD, "old", (59.41, 77.86, 88.80, 95.35), (36.90, 59.34, 79.18, 87.25, 92.83)),
    ("(φ*new, φold)", _INDEPENDENT, "cross", (0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0, 0.01)),
    ("(φnew-ℓ2, φold)", _L2, "cross", (0.5, 3.10, 10.32, 31.98), (0.14, 0.50, 2.93, 8.41, 20.25)),
    ("(φnew-LwF, φold)", _LWF, "cross", (57.09, 77.26, 88.65, 95.46), (35.89, 59.27, 79.00, 87.35, 93.12)),
    ("(φnew-β, φold)", _OLD, "cross", (66.06, 80.25, 89.79, 95.62), (52.58, 67.23, 82.34, 88.95, 93.95)),
    ("(φnew-β-kd, φold)", _KD, "cross", (67.82, 80.34, 89.60, 95.74), (56.20, 69.02, 82.50, 89.01, 93.96)),
    ("(φnew-β-sys, φold)", _SYS, "cross", (68.35, 80.59, 89.42, 95.23), (59.48, 70.70, 82.97, 90.09, 94.53)),
    ("(φ*new, φ*new)", _OLD, "paragon", (76.77, 86.96, 93.66, 97.18), (61.93, 76.88, 87.70, 92.11, 95.72)),
)

_TABLE9: tuple[_Detail, ...] = (
    ("(φ1, φ1)", _SECOND, "old", (29.24, 41.45, 73.40, 89.06), (11.30, 22.57, 54.39, 71.52, 82.87)),
    ("(φ2, φ1)", _SECOND, "cross", (36.13, 56.34, 75.14, 89.54), (19.21, 39.00, 59.85, 78.22, 87.81)),
    ("(φ3, φ1)", _SKIPPED, "cross", (32.14, 53.98, 71.95, 88.69), (14.85, 36.10, 56.35, 77.18, 87.48)),
    ("(φ2, φ2)", _THIRD, "old", (58.01, 75.96, 87.97, 95.18), (38.59, 56.07, 78.50, 86.97, 92.49)),
    ("(φ3, φ2)", _THIRD, "cross", (64.84, 80.40, 89.84, 95.84), (50.81, 66.09, 82.97, 89.26, 94.11)),
    ("(φ3, φ3)", _THIRD, "new", (73.61, 85.66, 92.88, 96.90), (59.22, 74.12, 86.70, 91.61, 95.53)),
)


def _tables() -> list[Table]:
    first, second = _pair_tables("1", "Baselines and BCT", _TABLE1)
    third, fourth = _pair_tables("3", "Other changes of the new model", _TABLE3)
    fifth, sixth = _pair_tables("4", "A chain of three models", _TABLE4)
    return [
        first,
        second,
        _self_table(),
        third,
        fourth,
        fifth,
        sixth,
        _reidentification_table(),
        _detail_table("7", "Other changes at further operating points", _TABLE7),
        _detail_table("8", "Baselines and BCT at further operating points", _TABLE8),
        _detail_table("9", "The chain at further operating points", _TABLE9),
    ]


def _gain_columns(accuracy: str, metric: str) -> tuple[Column, ...]:
    return (
        Column("", accuracy, metric),
        Column("", "compatible?", metric, "compatible"),
        Column("", "update gain", metric, "update_gain"),
        Column("", "absolute gain", metric, "absolute_gain"),
    )


def _pair_tables(number: str, title: str, lines: tuple[_Line, ...]) -> tuple[Table, Table]:
    """The two halves of a table: 1:1 verification (b) and 1:N search (c)."""
    one = tuple(Row((label,), pair, test, figures) for label, pair, test, figures, _ in lines)
    many = tuple(Row((label,), pair, test, figures) for label, pair, test, _, figures in lines)
    header = ("Comparison pair",)
    return (
        Table(f"{number}b", f"{title}: 1:1 verification", header, _gain_columns("accuracy", _VERIFICATION), one),
        Table(f"{number}c", f"{title}: 1:N search", header, _gain_columns("accuracy", _SEARCH), many),
    )


def _self_table() -> Table:
    columns = (Column("", "1:1 verification", _VERIFICATION), Column("", "1:N search", _SEARCH))
    rows = tuple(Row((label,), pair, test, (one, many)) for label, pair, test, one, many in _TABLE2)
    return Table("2", "Self tests: what compatibility costs the new model", ("Comparison pair",), columns, rows)


def _reidentification_table() -> Table:
    rows = tuple(Row((label,), pair, test, figures) for label, pair, test, figures in _TABLE5)
    return Table("5", "Re-identification", ("Comparison pair",), _gain_columns("mean AP", "mAP"), rows)


def _detail_table(number: str, title: str, lines: tuple[_Detail, ...]) -> Table:
    columns = tuple(
        Column("1:1 verification" if metric in _TARS else "1:N search", metric, metric)
        for metric in (*_TARS, *_SEARCHES)
    )
    rows = tuple(Row((label,), pair, test, (*one, *many)) for label, pair, test, one, many in lines)
    return Table(number, title, ("Comparison pair",), columns, rows)
