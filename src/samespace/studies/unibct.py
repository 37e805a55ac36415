"""The tables of UniBCT (Zhang et al., IJCAI 2022), as a study."""

from __future__ import annotations

from samespace.studies.study import Column, Model, Pair, Published, Row, Share, Study, Table

_VERIFICATION, _TOP1, _TOP5 = "TAR@FAR=1e-4", "rank@1", "rank@5"
_METHODS: dict[str, tuple[str, str]] = {
    "regress": ("l2", "L_regress"),
    "contra": ("contrastive", "L_contra"),
    "mean": ("unibct-mean", "L*_uniBCT (mean)"),
    "refined": ("unibct-refined", "L_uniBCT (refined)"),
}
EVERYTHING = Share()
_OLD_IMAGES, _NEW_IMAGES = Share("images", 0.3), Share("images", 0.3, rest=True)
_OLD_CLASSES, NEW_CLASSES = Share("classes", 0.3), Share("classes", 0.3, rest=True)

# allocation: (old model, its paragon, training set of the new model, variants of the new model)
SCENARIOS: dict[str, tuple[str, str, Share, tuple[str, ...]]] = {
    "extended-data": ("old-images", "paragon-all", EVERYTHING, ()),
    "open-data": ("old-images", "paragon-images", _NEW_IMAGES, ()),
    "extended-class": ("old-classes", "paragon-all", EVERYTHING, ()),
    "open-class": ("old-classes", "paragon-classes", NEW_CLASSES, ()),
    "identical-data": ("old-images", "paragon-identical", _OLD_IMAGES, ("deeper",)),
}

# what the old models and the paragons print: 1:1, 1:N top-1 and top-5 (Table 2)
_PUBLISHED_OF: dict[str, tuple[float, float, float]] = {
    "old-images": (93.36, 69.90, 75.88),
    "old-classes": (92.95, 68.84, 74.72),
    "paragon-all": (96.35, 80.67, 85.14),
    "paragon-images": (94.28, 75.55, 80.24),
    "paragon-classes": (94.28, 75.55, 80.24),
    "paragon-identical": (94.97, 70.21, 76.34),
}
# 1:1 cross and self, 1:N cross top-1 and top-5, 1:N self top-1 and top-5 (Table 2)
_PUBLISHED: dict[str, dict[str, tuple[float, float, float, float, float, float]]] = {
    "extended-data": {
        "regress": (0.12, 94.78, 8.12, 10.43, 76.34, 80.88),
        "contra": (92.26, 94.58, 73.36, 81.35, 80.90, 85.99),
        "mean": (93.88, 94.62, 72.46, 81.25, 80.51, 84.78),
        "refined": (94.13, 94.85, 72.89, 81.77, 80.83, 85.95),
    },
    "open-data": {
        "regress": (0.02, 94.51, 7.36, 9.12, 73.21, 78.84),
        "contra": (92.23, 94.42, 70.34, 78.20, 76.69, 81.75),
        "mean": (93.75, 94.37, 70.35, 77.68, 76.54, 81.69),
        "refined": (94.18, 94.52, 71.42, 79.14, 76.88, 81.92),
    },
    "extended-class": {
        "regress": (0.08, 93.21, 7.55, 9.67, 74.15, 78.72),
        "contra": (92.70, 94.53, 71.83, 79.26, 78.43, 83.76),
        "mean": (93.54, 94.32, 71.67, 79.33, 78.51, 84.14),
        "refined": (93.75, 94.55, 72.02, 79.13, 78.84, 84.33),
    },
    "open-class": {
        "regress": (0.01, 92.78, 6.88, 8.12, 70.26, 75.95),
        "contra": (92.51, 94.24, 66.51, 75.82, 73.63, 79.96),
        "mean": (93.35, 93.96, 67.14, 76.38, 74.21, 80.28),
        "refined": (93.46, 94.10, 67.47, 77.01, 74.79, 81.22),
    },
    "identical-data": {
        "regress": (0.11, 93.78, 7.73, 9.35, 67.41, 73.43),
        "contra": (92.53, 95.58, 64.67, 74.69, 70.49, 77.13),
        "mean": (94.40, 95.42, 67.38, 73.25, 70.57, 78.34),
        "refined": (94.59, 95.63, 67.71, 73.81, 70.66, 78.76),
    },
}


def unibct() -> Study:
    """UniBCT: five allocations by six models (Table 2), prototypes (Table 3), methods (Table 4)."""
    return Study(
        name="unibct",
        title="UniBCT: universal backward-compatible training",
        published_on="IJB-C, models trained on MS1Mv3 (UniBCT, IJCAI 2022)",
        models=tuple(_models()),
        tables=(_table2(), _table3(), _table4()),
        notes=(
            "AML in Table 4 is the regression of Table 2, as the paper says.",
            "Refined prototypes follow Eq. 6-10, with rows normalised and the temperature; the paper's printed "
            "pseudo-code normalises columns, which gives the plain mean.",
        ),
    )


def references() -> list[Model]:
    """The old models of the five allocations and the paragons."""
    return [
        Model("old-images", _OLD_IMAGES, generation=0),
        Model("old-classes", _OLD_CLASSES, generation=0),
        Model("paragon-all", EVERYTHING),
        Model("paragon-images", _NEW_IMAGES),
        Model("paragon-classes", NEW_CLASSES),
        Model("paragon-identical", _OLD_IMAGES, variants=("deeper",)),
    ]


def _models() -> list[Model]:
    models = references()
    for scenario, (old, _, data, variants) in SCENARIOS.items():
        models += [Model(f"{key}-{scenario}", data, method, old, variants) for key, (method, _) in _METHODS.items()]
    models.append(Model("trimmed-extended-data", EVERYTHING, "unibct-trimmed", "old-images"))
    models.append(Model("bct-extended-data", EVERYTHING, "bct", "old-images"))
    return models


def pair_in(key: str, scenario: str) -> Pair:
    """The comparison of a new model, named `key` and the allocation, in an allocation."""
    old, paragon, _, _ = SCENARIOS[scenario]
    return Pair(f"{key}-{scenario}", old, paragon)


def _table2() -> Table:
    one, cross, own = "1:1 verification", "1:N identification, cross test", "1:N identification, self test"
    columns = (
        Column(one, "cross test", _VERIFICATION, test="cross"),
        Column(one, "self test", _VERIFICATION, test="new"),
        Column(cross, "top-1", _TOP1, test="cross"),
        Column(cross, "top-5", _TOP5, test="cross"),
        Column(own, "top-1", _TOP1, test="new"),
        Column(own, "top-5", _TOP5, test="new"),
    )
    rows = []
    for scenario, (old, paragon, data, variants) in SCENARIOS.items():
        new = "deeper" if variants else "base"
        reference = pair_in("refined", scenario)
        before = (scenario, "base", "–", str(_OLD_IMAGES if old == "old-images" else _OLD_CLASSES), "–")
        bound = (scenario, "–", new, str(data), "–")
        rows.append(Row(before, reference, "old", _self_test(_PUBLISHED_OF[old])))
        rows.append(Row(bound, reference, "paragon", _self_test(_PUBLISHED_OF[paragon])))
        for key, (_, loss) in _METHODS.items():
            labels = (scenario, "base", new, str(data), loss)
            rows.append(Row(labels, pair_in(key, scenario), "cross", _PUBLISHED[scenario][key], f"{scenario}: {key}"))
    return Table(
        name="2",
        title="Five allocations: cross test and self test",
        headers=("Scenario", "Old model", "New model", "Training set", "Loss"),
        columns=columns,
        rows=tuple(rows),
        note="Base and deeper are ResNet-18 and ResNet-50 in the paper.",
    )


def _self_test(figures: tuple[float, float, float]) -> tuple[Published, ...]:
    verification, top1, top5 = figures
    return None, verification, None, None, top1, top5


def _short_columns() -> tuple[Column, ...]:
    return (
        Column("1:1 verification", "TAR@FAR", _VERIFICATION),
        Column("1:1 verification", "compatible?", _VERIFICATION, "compatible"),
        Column("1:N identification", "top-1", _TOP1),
        Column("1:N identification", "top-5", _TOP5),
        Column("1:N identification", "compatible?", _TOP1, "compatible"),
    )


def _table3() -> Table:
    scenario = "extended-data"
    figures: dict[str, tuple[str, tuple[Published, ...]]] = {
        "mean": ("vanilla average", (93.88, True, 72.46, 81.25, True)),
        "trimmed": ("drop average", (94.03, True, 72.35, 80.97, True)),
        "refined": ("refined average", (94.13, True, 72.89, 81.77, True)),
    }
    rows = [Row(("old model", "–"), pair_in("refined", scenario), "old", (93.36, None, 69.90, 75.88, None))]
    rows += [Row(("ours", what), pair_in(key, scenario), "cross", value) for key, (what, value) in figures.items()]
    return Table(
        "3", "Prototypes of the old classes (extended-data)", ("Method", "Prototype"), _short_columns(), tuple(rows)
    )


def _table4() -> Table:
    scenario = "extended-data"
    figures: dict[str, tuple[str, str, tuple[Published, ...]]] = {
        "regress": ("AML", "L_regress", (0.12, False, 8.12, 10.43, False)),
        "bct": ("BCT", "L_BCT", (94.01, True, 72.64, 81.49, True)),
        "mean": ("UniBCT", "L*_uniBCT", (93.88, True, 72.46, 81.25, True)),
        "refined": ("UniBCT", "L_uniBCT", (94.13, True, 72.89, 81.77, True)),
    }
    rows = [Row(("old model", "–"), pair_in("refined", scenario), "old", (93.36, None, 69.90, 75.88, None))]
    for key, (method, loss, value) in figures.items():
        rows.append(Row((method, loss), pair_in(key, scenario), "cross", value))
    title = "Methods where the old classifier knows all classes (extended-data)"
    return Table("4", title, ("Method", "Loss"), _short_columns(), tuple(rows))
