"""What a study is: the models a paper trains, whom it compares with whom, and the tables it prints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from samespace.bridge import Direction
from samespace.errors import InputError, suggest

Test = Literal["old", "cross", "new", "paragon"]
Quantity = Literal["value", "compatible", "update_gain", "absolute_gain"]
Published = float | bool | None


@dataclass(frozen=True)
class Share:
    """Which of the training images a model is trained on; shares by one thing are nested, as one draw gives them.

    It is `by` images, or all images of a share of the classes; `rest` takes the images outside the share instead.
    """

    by: Literal["all", "images", "classes"] = "all"
    fraction: float = 1.0
    rest: bool = False

    def __str__(self) -> str:
        if self.by == "all":
            return "100 %"
        share = 1 - self.fraction if self.rest else self.fraction
        return f"{'other ' if self.rest else ''}{share:.0%} of {self.by}".replace("%", " %")


@dataclass(frozen=True)
class Model:
    """One model of a study.

    Attributes:
        name: what the study calls it, unique.
        data: what it is trained on.
        method: its compatibility method, a name in `samespace.train.compatibility.METHODS`.
        old: name of the old model.
        variants: changes to the recipe, by the names that settings give them, such as `deeper`.
        generation: 0 for models that are replaced, 1 for their successors and paragons, and so on. Models of one
            generation start from the same weights where their networks agree; those of two must not, since equal
            starts are half way to compatible.
        compatibility: keys of its recipe's compatibility section.
        earlier: names of models before the old one, to which it is tied as well, the latest first.
    """

    name: str
    data: Share
    method: str = "none"
    old: str | None = None
    variants: tuple[str, ...] = ()
    generation: int = 1
    compatibility: Mapping[str, Any] = field(default_factory=dict)
    earlier: tuple[str, ...] = ()

    @property
    def tied_to(self) -> tuple[str, ...]:
        """Every model that it is trained against."""
        return ((self.old,) if self.old else ()) + self.earlier


@dataclass(frozen=True)
class Pair:
    """A new model, the old model whose gallery it is to search, and the paragon that bounds the gain.

    Attributes:
        new: name of the new model.
        old: name of the old model.
        paragon: name of the paragon.
        bridge: `gallery` where new queries search the old gallery mapped to the new space, `query` where they are
            mapped to the old space themselves, by a map learnt on the new model's training images.
        fuse: share of the new query in fused ones; on a mapped gallery the old query is mapped likewise.
    """

    new: str
    old: str
    paragon: str
    bridge: Direction | None = None
    fuse: float | None = None

    @property
    def key(self) -> str:
        """A name for files."""
        how = [self.bridge and f"{self.bridge}-mapped", None if self.fuse is None else f"fused-{self.fuse:.3g}"]
        return "--".join([self.new, self.old, self.paragon, *filter(None, how)])

    @property
    def bridge_key(self) -> str | None:
        """A name for files of its map, which other pairs may share; None where there is none."""
        return None if self.bridge is None else f"{self.new}--{self.old}--{self.bridge}"

    @property
    def as_trained(self) -> bool:
        """Whether both models' vectors are compared as they are."""
        return self.bridge is None and self.fuse is None


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        group: the heading above several columns.
        header: the column's own heading.
        metric: the paper's metric, which settings may map to another operating point.
        quantity: what the cell shows.
        test: which test, where the column decides; None where the row does.
    """

    group: str
    header: str
    metric: str
    quantity: Quantity = "value"
    test: Literal["cross", "new"] | None = None


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        labels: its leading cells.
        pair: the comparison.
        test: which test of the pair; a row of the old model or of the paragon has no cross test.
        published: the paper's figures in percent (marks as true or false), in the columns' order.
        short: what a figure calls the row; the labels where empty.
    """

    labels: tuple[str, ...]
    pair: Pair
    test: Test
    published: tuple[Published, ...] = ()
    short: str = ""


@dataclass(frozen=True)
class Table:
    """One table of a paper, its `name` the number there, such as `1b`; `headers` are those of the rows' labels."""

    name: str
    title: str
    headers: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.labels) != len(self.headers) or len(row.published) not in (0, len(self.columns)):
                raise InputError(f"table {self.name}: row {row.labels} does not fit its columns")


@dataclass(frozen=True)
class Study:
    """A paper's comparisons, declared.

    Attributes:
        name: `bct` or `unibct`.
        title: heading of the page.
        published_on: where the paper's figures come from, for the label beside them.
        models: all models, old ones before their successors.
        tables: in the paper's order.
        figure: the pair whose backfill curve is drawn.
        compatibility: recipe keys of the compatibility section that hold for every compatible model of the study.
        notes: what differs from the paper by choice.
    """

    name: str
    title: str
    published_on: str
    models: tuple[Model, ...]
    tables: tuple[Table, ...]
    figure: Pair | None = None
    compatibility: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def model(self, name: str) -> Model:
        """The model of a name."""
        return next(model for model in self.models if model.name == name)

    def only(self, names: Iterable[str]) -> Study:
        """The study cut down to some of its tables.

        Raises:
            InputError: there is no such table.
        """
        wanted = tuple(names)
        if not wanted:
            return self
        known = [*(table.name for table in self.tables), *(["figure"] if self.figure else [])]
        for name in wanted:
            if name not in known:
                raise InputError(f"{self.name} has no table '{name}'; {suggest(name, known)}")
        tables = tuple(table for table in self.tables if table.name in wanted)
        return replace(self, tables=tables, figure=self.figure if "figure" in wanted else None)

    def only_rows(self, words: Iterable[str]) -> Study:
        """The study cut down to rows whose leading cells contain one of these, beside their old models and paragons.

        Raises:
            InputError: no row contains one of them.
        """
        wanted = tuple(words)
        if not wanted:
            return self
        shown = [" ".join(row.labels) for table in self.tables for row in table.rows if row.test == "cross"]
        for word in wanted:
            if not any(word in one for one in shown):
                raise InputError(f"no row of these tables contains '{word}'; {suggest(word, dict.fromkeys(shown))}")
        tables = (replace(table, rows=_rows(table, wanted)) for table in self.tables)
        return replace(self, tables=tuple(table for table in tables if table.rows), figure=None)

    def pairs(self) -> list[Pair]:
        """All comparisons that its tables and its figure need, each once."""
        rows = [row.pair for table in self.tables for row in table.rows]
        return list(dict.fromkeys([*rows, *([self.figure] if self.figure else [])]))

    def needed(self) -> list[Model]:
        """The models that its comparisons need, old ones before their successors."""
        names = {name for pair in self.pairs() for name in (pair.new, pair.old, pair.paragon)}
        for model in reversed(self.models):
            if model.name in names:
                names.update(model.tied_to)
        return [model for model in self.models if model.name in names]

    def metrics(self) -> list[str]:
        """The paper's metrics that its tables show, each once."""
        return list(dict.fromkeys(column.metric for table in self.tables for column in table.columns))


def _rows(table: Table, words: Sequence[str]) -> tuple[Row, ...]:
    """The rows that contain one of the words, and those of the old models and paragons that they are compared with."""
    kept = [row for row in table.rows if row.test == "cross" and any(word in " ".join(row.labels) for word in words)]
    pairs = {(row.pair.old, row.pair.paragon): row.pair for row in reversed(kept)}
    rows = []
    for row in table.rows:
        beside = pairs.get((row.pair.old, row.pair.paragon))
        if row in kept:
            rows.append(row)
        elif row.test != "cross" and beside is not None:
            rows.append(replace(row, pair=beside))
    return tuple(rows)


def proven(compatible: int, seeds: int, difference: Sequence[float]) -> bool:
    """Whether a gain is proven: with several seeds that of the mean, with one by its certificate.

    Args:
        compatible: how many seeds' certificates prove it.
        seeds: how many there are.
        difference: the interval of the mean of cross − old.
    """
    # a certificate's verdict needs more than one identity
    return compatible == 1 if seeds == 1 else difference[0] > 0


def cell_test(row: Row, column: Column) -> Test | None:
    """Which test a cell shows; None where it stays empty, as an old model's cross test or an old model's gain."""
    if column.test is None:
        test: Test | None = row.test
    elif row.test in ("old", "paragon"):
        test = row.test if column.test == "new" else None
    else:
        test = column.test
    if column.quantity in ("compatible", "update_gain") and test != "cross":
        return None
    if column.quantity == "absolute_gain" and test not in ("cross", "paragon"):
        return None
    return test
