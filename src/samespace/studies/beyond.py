"""Beyond the papers: the default method against theirs, its terms alone, a chain, and what needs no training."""

from __future__ import annotations

from dataclasses import replace

from samespace.bridge import Direction
from samespace.studies.study import Column, Model, Pair, Row, Share, Study, Table
from samespace.studies.unibct import NEW_CLASSES, SCENARIOS, pair_in, references

_RANK, _MAP, _TAR, _TPIR = METRICS = ("rank@1", "mAP", "TAR@FAR=1e-3", "TPIR@FPIR=1e-1")
# name: (method, keys of the recipe's compatibility section, what a table calls it)
_METHODS: dict[str, tuple[str, dict[str, object], str]] = {
    "matched": ("matched", {}, "matched, old model live"),
    "views": ("matched", {"views": 4}, "the same, 4 fixed views"),
    "mean": ("unibct-mean", {}, "UniBCT, mean prototypes"),
}
_TERMS: dict[str, tuple[str, dict[str, object], str]] = {
    "mixed": ("matched", {"mixed": 0.25}, "matched, a quarter of the batch mixed too"),
    "stored": ("matched", {"views": "stored"}, "matched, vectors of the plain images"),
    "free": ("matched-free", {}, "matched-free, twice as wide"),
    "matching": ("matching", {"beta": 0.0, "weight": 10.0}, "matching alone, β 0, weight 10"),
    "contrast": ("memory-contrast", {}, "contrast against a memory alone"),
    "tail": ("tail", {"weight": 10.0}, "tail alone, weight 10"),
    "refined": ("unibct-refined", {}, "UniBCT, refined prototypes"),
}
_REGRESSION_WEIGHTS = (0.5, 2.0, 10.0, 30.0)
# what the models of table 1 give without another training: (map, share of the new query, what a table calls it)
_UNTRAINED: tuple[tuple[Direction | None, float | None, str], ...] = (
    (None, 0.5, "matched, live; query fused half and half with the old one"),
    ("gallery", None, "matched, live; gallery mapped to the new space"),
    ("gallery", 2 / 3, "matched, live; gallery mapped, query fused with the mapped old one (two to one)"),
)
_BLACK_BOX: tuple[tuple[Direction, str], ...] = (
    ("gallery", "black box: the paragon, gallery mapped to the new space"),
    ("query", "black box: the paragon, query mapped to the old space"),
)
_CHAIN = (0.2, 0.4, 0.6, 0.8, 1.0)
# kind: (method, what a table calls it, the first model of the chain that is its own)
_CHAINS: dict[str, tuple[str, str, int]] = {
    "chain": ("matched", "matched", 1),
    "every": ("matched", "matched, tied to every earlier model", 2),
    "bct": ("bct", "BCT", 1),
}


def beyond() -> Study:
    """Five allocations (1), parts of the method (2), regression (3), a chain (4), maps and fused queries (5)."""
    return Study(
        name="beyond",
        title="Beyond the papers: the default method",
        published_on="",
        models=tuple(_models()),
        tables=(_allocations(), _parts(), _regression(), _chain(), _untrained()),
        notes=(
            "The settings of matched were fixed on made-up glyphs and other image sets' trials, never on the check "
            "classes; every model of a table is trained with the same schedule.",
        ),
    )


def _models() -> list[Model]:
    models = references()
    for scenario, (old, _, data, variants) in SCENARIOS.items():
        models += [
            Model(f"{key}-{scenario}", data, method, old, variants, compatibility=keys)
            for key, (method, keys, _) in _METHODS.items()
        ]
    for key, (method, keys, _) in _TERMS.items():
        variants = ("wider",) if method == "matched-free" else ()
        models.append(Model(key, NEW_CLASSES, method, "old-classes", variants, compatibility=keys))
    for weight in _REGRESSION_WEIGHTS:
        plain, view = {"weight": weight}, {"weight": weight, "beta": 0.0}
        models.append(Model(f"plain-{weight:g}", NEW_CLASSES, "l2", "old-classes", compatibility=plain))
        models.append(Model(f"view-{weight:g}", NEW_CLASSES, "matching", "old-classes", compatibility=view))
    return [*models, *_chain_models()]


def _columns() -> tuple[Column, ...]:
    cross = [Column("cross test", name, name, test="cross") for name in METRICS]
    gains = [Column("update gain", name, name, "update_gain") for name in (_RANK, _MAP)]
    own = [Column("self test", name, name, test="new") for name in METRICS]
    return (*cross, *gains, *own)


def _reference_rows(*labels: str, pair: Pair) -> list[Row]:
    return [Row((*labels, "old model"), pair, "old"), Row((*labels, "paragon"), pair, "paragon")]


def _allocations() -> Table:
    rows = []
    for scenario in SCENARIOS:
        rows += _reference_rows(scenario, pair=pair_in("matched", scenario))
        for key, (_, _, words) in _METHODS.items():
            rows.append(Row((scenario, words), pair_in(key, scenario), "cross", short=f"{scenario}: {key}"))
    return Table(
        name="1",
        title="Five allocations: the default method and the papers' best",
        headers=("Allocation", "Model"),
        columns=_columns(),
        rows=tuple(rows),
        note="The paragon is the same successor without any compatibility term, its gallery re-embedded.",
    )


def _open_class(key: str) -> Pair:
    return Pair(key, "old-classes", "paragon-classes")


def _parts() -> Table:
    whole = pair_in("matched", "open-class")
    rows = _reference_rows(pair=whole)
    rows.append(Row((_METHODS["matched"][2],), whole, "cross", short="matched"))
    rows += [Row((words,), _open_class(key), "cross", short=key) for key, (_, _, words) in _TERMS.items()]
    return Table(
        name="2",
        title="Open-class: what each part of matched does",
        headers=("Model",),
        columns=_columns(),
        rows=tuple(rows),
    )


def _regression() -> Table:
    rows = [Row(("old model", "–"), _open_class("plain-2"), "old")]
    for kind, words in (("plain", "stored vector of the plain image"), ("view", "old vector of the same view")):
        for weight in _REGRESSION_WEIGHTS:
            key = f"{kind}-{weight:g}"
            rows.append(Row((words, f"{weight:g}"), _open_class(key), "cross", short=key))
    return Table(
        name="3",
        title="Open-class: regression to old vectors, by target and weight",
        headers=("Target", "Weight"),
        columns=_columns(),
        rows=tuple(rows),
        note="Regression is one minus the cosine (same view) or the squared distance of unit vectors (plain image).",
    )


def _chain_name(kind: str, share: float) -> str:
    return f"{kind}-{share:.0%}".rstrip("%")


def _chain_models() -> list[Model]:
    models = [Model(_chain_name("chain", _CHAIN[0]), Share("classes", _CHAIN[0]), generation=0)]
    for number, share in enumerate(_CHAIN[1:], start=1):
        data = Share("classes", share) if share < 1 else Share()
        models.append(Model(_chain_name("alone", share), data, generation=number))
        for kind, (method, _, first) in _CHAINS.items():
            if number < first:
                continue
            before, *earlier = (_link(kind, place) for place in reversed(range(number)))
            tied = tuple(earlier) if kind == "every" else ()
            models.append(Model(_chain_name(kind, share), data, method, before, generation=number, earlier=tied))
    return models


def _link(kind: str, place: int) -> str:
    """The model at a place of a chain; the first ones are shared with the chain of matched."""
    return _chain_name(kind if place >= _CHAINS[kind][2] else "chain", _CHAIN[place])


def _chain() -> Table:
    columns = [Column("cross test", name, name, test="cross") for name in METRICS]
    rows = []
    for number, share in enumerate(_CHAIN[1:], start=1):
        for kind, (_, words, first) in _CHAINS.items():
            for place, earlier in enumerate(_CHAIN[:number] if number >= first else ()):
                before = _link(kind, place)
                pair = Pair(_chain_name(kind, share), before, _chain_name("alone", share))
                labels = (words, f"{share:.0%}".replace("%", " %"), f"{earlier:.0%}".replace("%", " %"))
                rows.append(Row(labels, pair, "cross", short=f"{kind} {share:.0%} on {earlier:.0%}"))
    return Table(
        name="4",
        title="A chain of five models, each tied to the one before or to all: queries of each on every earlier gallery",
        headers=("Method", "Queries by the model of", "Gallery by the model of"),
        columns=tuple(columns),
        rows=tuple(rows),
        note="Shares are of the training classes; the mark says whether cross exceeds the old model's own test.",
    )


def _untrained() -> Table:
    rows = []
    for scenario in SCENARIOS:
        pair = pair_in("matched", scenario)
        rows += _reference_rows(scenario, pair=pair)
        rows.append(Row((scenario, _METHODS["matched"][2]), pair, "cross", short=f"{scenario}: matched"))
        for bridge, fuse, words in _UNTRAINED:
            short = " + ".join(filter(None, ("mapped" if bridge else "", "fused" if fuse else "")))
            changed = replace(pair, bridge=bridge, fuse=fuse)
            rows.append(Row((scenario, words), changed, "cross", short=f"{scenario}: {short}"))
        if scenario == "open-class":
            for direction, words in _BLACK_BOX:
                changed = replace(pair, new=pair.paragon, bridge=direction)
                rows.append(Row((scenario, words), changed, "cross", short=f"{scenario}: black box, {direction}"))
    return Table(
        name="5",
        title="Without another training: fused queries, mapped galleries, a model that nobody can retrain",
        headers=("Allocation", "Model"),
        columns=_columns(),
        rows=tuple(rows),
        note=(
            "The models are those of table 1. Maps are learnt on the vectors of the new model's training images by "
            "both models; classes held out of them choose the kind of map. The old model searches the unmapped gallery."
        ),
    )
