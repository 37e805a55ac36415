"""The certificate: the signed-off result of a check of one space against another."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from samespace.errors import InputError
from samespace.evaluate.cause import Cause
from samespace.files import read_json, write_json
from samespace.metrics.calibration import Calibration
from samespace.metrics.compatibility import StrictShares
from samespace.metrics.flips import Flips
from samespace.metrics.spread import Spread
from samespace.scoring.metric_aliases import suggest_metric
from samespace.scoring.stored import StoredForm
from samespace.space import Precision, Score, Space
from samespace.typed import plain, read

FORMAT = "samespace.certificate/1"

Interval = tuple[float, float]
Values = tuple[float, ...]
Kind = Literal["fixed", "broken", "both-wrong", "both-right"]

# what a benchmark does not measure is an empty object in the file
_EMPTY_IN_FILES = ("strict", "curves")
_AS_USUAL = {"score": "cosine", "stored_as": "float32", "truncate": None}
_ABSENT_IN_FILES = ("genuine", "fusion", "baseline_space", "diagnosis")


@dataclass(frozen=True, kw_only=True)
class MetricResult:
    """One metric under every test; values in [0, 1], None where a test was not run.

    Attributes:
        old: old queries on the old gallery.
        cross: new queries on the old gallery.
        new: new queries on the new gallery.
        paragon: both sides by the new model trained without compatibility.
        control: the cross test after a random rotation of the new queries.
        difference: interval of cross − old.
        absolute_gain: cross − old.
        update_gain: BCT Eq. 9; None where the criterion fails or the paragon's lead is inside the noise.
        update_gain_interval: interval of the update gain.
        criterion: BCT Eq. 2, cross > old.
        compatible: whether the interval of cross − old lies above zero.
        intervals: interval of each test's value.
        paragon_lead: interval of paragon − old.
        swap: old queries on the new gallery, or the old first of each pair with the new second, where measured.
    """

    old: float
    cross: float
    new: float | None = None
    paragon: float | None = None
    control: float
    difference: Interval
    absolute_gain: float
    update_gain: float | None = None
    update_gain_interval: Interval | None = None
    criterion: bool
    compatible: bool
    intervals: dict[str, Interval | None]
    paragon_lead: Interval | None = None
    swap: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return plain(self)


@dataclass(frozen=True, kw_only=True)
class CheckedSpace:
    """A space as a certificate names it; `id` and what it is made of are None where the vectors declare no space."""

    id: str | None
    weights: str | None = None
    preprocessing: str | None = None
    dim: int
    normalized: bool | None = None
    name: str = ""
    precision: Precision = "fp32"


@dataclass(frozen=True)
class BackfillPoint:
    """The value of each metric where a share of the gallery's classes is re-embedded."""

    share: float
    values: dict[str, float]


@dataclass(frozen=True)
class BackfillCurve:
    """Quality while a gallery is re-embedded class by class, scores merged as they are (BCT, appendix B)."""

    metrics: tuple[str, ...]
    points: tuple[BackfillPoint, ...]


@dataclass(frozen=True, kw_only=True)
class SweepPoint:
    """A stage of a backfill item by item.

    Attributes:
        share: of the gallery's items that is re-embedded.
        values: by metric.
        negative_flips: share of mated queries that the old system answered rightly at rank 1 and this stage does not.
        since_start: by metric, the interval of this stage − the first.
        to_end: by metric, the interval of the last stage − this one.
    """

    share: float
    values: dict[str, float]
    negative_flips: float
    since_start: dict[str, Interval]
    to_end: dict[str, Interval]


@dataclass(frozen=True)
class SweepCurve:
    """The stages of one order and merge.

    Attributes:
        points: from none to all re-embedded.
        area: by metric, the normalised area under the curve, 0.5 for a straight line; None where the end is not above
            the start.
        holds: by metric, whether no stage lies provably below the start.
    """

    points: tuple[SweepPoint, ...]
    area: dict[str, float | None]
    holds: dict[str, bool]


@dataclass(frozen=True)
class SweepResult:
    """Quality over shares of re-embedded gallery items: curves by order, then by merge (`calibrated`, `raw`)."""

    scale: str
    metrics: tuple[str, ...]
    orders: dict[str, dict[str, SweepCurve]]


@dataclass(frozen=True)
class Roc:
    """True accept rates at rising false accept rates."""

    far: Values
    tar: Values


@dataclass(frozen=True)
class Densities:
    """Densities of the scores of genuine and of impostor pairs, one a bin."""

    genuine: Values
    impostor: Values


@dataclass(frozen=True)
class Histograms:
    """Score histograms of three tests over the same bins; None where a test was not run."""

    edges: Values
    old: Densities | None = None
    cross: Densities | None = None
    new: Densities | None = None


@dataclass(frozen=True)
class Curves:
    """Data of plots, by test: ROC, and CMC from rank 1 on; None where a test was not run or has no such pairs."""

    roc: dict[str, Roc | None]
    cmc: dict[str, Values | None]
    histograms: Histograms


@dataclass(frozen=True)
class Item:
    """An item of the check set."""

    id: str
    label: str | int


@dataclass(frozen=True)
class Hit(Item):
    """An item that a query finds; `mate` where it is of the query's identity."""

    score: float
    mate: bool


@dataclass(frozen=True)
class Example:
    """A query with the best items under each test; `kind` says what the update does to its best match."""

    query: Item
    kind: Kind
    old: tuple[Hit, ...]
    cross: tuple[Hit, ...]
    new: tuple[Hit, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class FusionPoint:
    """One share of the new query, measured on the classes that the share is chosen on.

    Attributes:
        alpha: the share.
        values: by metric.
        differences: by metric, the paired bootstrap interval of the difference to the old query alone.
    """

    alpha: float
    values: dict[str, float]
    differences: dict[str, Interval]


@dataclass(frozen=True, kw_only=True)
class Fusion:
    """How the queries of the cross test were fused: normalised (1 − alpha) old + alpha new.

    Attributes:
        alpha: the share of the new query; 0 is the old query alone.
        chosen: `given` by the user, or chosen on a `support` set, or on one of the two `halves` of the check's classes.
        space: of the new queries before fusion.
        classes: that the share was chosen on; none of them is judged.
        grid: the shares tried.
    """

    alpha: float
    chosen: Literal["given", "support", "halves"]
    space: CheckedSpace
    classes: tuple[str | int, ...] = ()
    grid: tuple[FusionPoint, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """Whether, how far and on what data vectors of a new space may search a gallery of an old one.

    Attributes:
        version: of the library.
        created: when, UTC.
        seed: of every random choice.
        replicates: how many bootstrap resamples.
        confidence: of the intervals.
        compatible: whether every requested metric is compatible.
        old_space: the space of the gallery.
        new_space: the space of the queries; where they are fused, the space of fused queries.
        paragon_space: the space of the paragon, if there was one.
        baseline_space: the space of what the baseline searched, where that was another gallery than the one judged,
            such as the old vectors unmapped; the file then has the key.
        data: how many queries, items, identities and pairs there were.
        options: how vectors were compared.
        score: what the search ranks by; the file has the key where it is not the cosine.
        stored_as: what the store keeps of every gallery's vectors; the file has the key where it is not float32.
        truncate: how many leading values of every vector were compared, where they were truncated; the spaces are then
            those of truncated vectors. The file then has the key.
        fusion: how the queries of the cross test were fused, where they were; the file then has the key.
        metrics: results by metric name; `certificate["rank@1"]` reads one.
        strict: the strict criterion (BCT Eq. 1) as shares of pairs; None for a benchmark.
        flips: flips at rank 1 against the old model: of the cross test, and of the new model where it was tested.
        backfill: the partial-backfill curve, where there was a new gallery.
        sweep: quality over shares of re-embedded gallery items, by order and merge; None without a new gallery.
        calibrations: how raw scores become log-odds and false-match rates, by pair: `old` for old queries on the old
            gallery, `cross` for new queries on the old gallery, `new` for new queries on a new gallery. A pair that
            cannot be calibrated is absent.
        genuine: mean and standard deviation of the scores of genuine pairs, by test: old, cross, and where they were
            run new and paragon. Absent from older files, and where a benchmark did not score its pairs.
        curves: ROC, CMC and histograms for plots; None for a benchmark.
        examples: queries with what each test finds.
        diagnosis: why the verdict is no, the most likely cause first; empty where it is yes, and in older files.
        notes: what could not be computed and why, and warnings, a sentence each.
    """

    version: str = ""
    created: str
    seed: int
    replicates: int
    confidence: float
    compatible: bool
    old_space: CheckedSpace
    new_space: CheckedSpace
    paragon_space: CheckedSpace | None = None
    baseline_space: CheckedSpace | None = None
    data: dict[str, int]
    options: dict[str, bool | str]
    score: Score = "cosine"
    stored_as: StoredForm = "float32"
    truncate: int | None = None
    fusion: Fusion | None = None
    metrics: dict[str, MetricResult]
    strict: StrictShares | None
    flips: dict[str, Flips | None]
    backfill: BackfillCurve | None = None
    sweep: SweepResult | None = None
    calibrations: dict[str, Calibration] = field(default_factory=dict)
    genuine: dict[str, Spread] = field(default_factory=dict)
    curves: Curves | None
    examples: tuple[Example, ...]
    diagnosis: tuple[Cause, ...] = ()
    notes: tuple[str, ...]

    def __getitem__(self, name: str) -> MetricResult:
        """The result of a metric.

        Raises:
            InputError: the check did not measure it.
        """
        if name not in self.metrics:
            raise InputError(f"this certificate has no metric '{name}'; {suggest_metric(name, self.metrics)}")
        return self.metrics[name]

    @property
    def comparison_options(self) -> tuple[str, ...]:
        """The options of `samespace check` that say how vectors were compared, where that is not as usual."""
        return tuple(
            f"--{key.replace('_', '-')} {getattr(self, key)}"
            for key, usual in _AS_USUAL.items()
            if getattr(self, key) != usual
        )

    def links(self, old: Space, new: Space) -> bool:
        """Whether this certificate allows queries of space `new` on a gallery of space `old`.

        They are allowed as they were judged: by its `score`, on vectors kept as `stored_as`.
        """
        return self.compatible and self.old_space.id == old.id and self.new_space.id == new.id

    def to_dict(self) -> dict[str, Any]:
        """The whole certificate as JSON-ready values."""
        value = plain(self)
        value = {"format": FORMAT, "samespace": value.pop("version"), **value}
        for key in _ABSENT_IN_FILES:
            if not value[key]:
                del value[key]
        for key, usual in _AS_USUAL.items():
            if value[key] == usual:
                del value[key]
        for key in ("old_space", "new_space", "paragon_space", "baseline_space"):
            space = value.get(key)
            if space is not None and space["precision"] == "fp32":
                del space["precision"]
            if space is not None and space["id"] is None:
                value[key] = {"id": None, "name": space["name"], "dim": space["dim"]}
        return value | {key: {} for key in _EMPTY_IN_FILES if value[key] is None}

    def save(self, path: str | Path) -> None:
        """Write the certificate as JSON, whole or not at all."""
        write_json(Path(path), self.to_dict())

    @classmethod
    def load(cls, path: str | Path) -> Certificate:
        """Read a certificate.

        Raises:
            InputError: the file is missing, is no certificate, or contradicts itself.
        """
        return cls.from_dict(read_json(Path(path), "a certificate made by 'samespace check'"), str(path))

    @classmethod
    def from_dict(cls, value: dict[str, Any], where: str = "certificate") -> Certificate:
        """Rebuild a certificate from `to_dict`; `where` names the source in errors.

        Raises:
            InputError: a key is unknown or missing, a value is of the wrong kind, or one contradicts another.
        """
        if value.get("format") != FORMAT:
            raise InputError(f"{where}: expected a certificate of format '{FORMAT}', got {value.get('format')!r}")
        given = {{"samespace": "version"}.get(key, key): part for key, part in value.items() if key != "format"}
        given |= {key: None for key in _EMPTY_IN_FILES if given.get(key) == {}}
        certificate = read(cls, given, where)
        results = certificate.metrics.values()
        if not results or certificate.compatible != all(result.compatible for result in results):
            raise InputError(f"{where}: the verdict does not follow from the metrics; the file was altered")
        for key in ("old_space", "new_space"):
            if given[key]["id"] is not None:
                Space.from_dict(given[key], f"{where}: {key}")
        return certificate
