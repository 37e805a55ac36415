"""The certificate: the signed-off result of a check of one space against another."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from samespace.errors import InputError, suggest
from samespace.files import read_json, write_json
from samespace.metrics.calibration import Calibration
from samespace.space import Space

FORMAT = "samespace.certificate/1"

Interval = tuple[float, float]


@dataclass(frozen=True)
class MetricResult:
    """One metric under every test; values in [0, 1], None where a test was not run.

    Attributes:
        name: the metric, such as `rank@1`.
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

    name: str
    old: float
    cross: float
    new: float | None
    paragon: float | None
    control: float
    difference: Interval
    absolute_gain: float
    update_gain: float | None
    update_gain_interval: Interval | None
    criterion: bool
    compatible: bool
    intervals: dict[str, Interval | None]
    paragon_lead: Interval | None
    swap: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values, without the name."""
        values = asdict(self)
        del values["name"]
        for key in ("difference", "update_gain_interval", "paragon_lead"):
            values[key] = _listed(values[key])
        values["intervals"] = {test: _listed(bounds) for test, bounds in self.intervals.items()}
        return values

    @classmethod
    def from_dict(cls, name: str, value: Any, where: str) -> MetricResult:
        """Rebuild a result from `to_dict`.

        Raises:
            InputError: a field is missing or of the wrong kind.
        """
        here = f"{where}: metric '{name}'"
        _require(value, dict, here)
        intervals = {test: _bounds(bounds, here) for test, bounds in _get(value, "intervals", dict, here).items()}
        return cls(
            name=name,
            old=_number(value, "old", here),
            cross=_number(value, "cross", here),
            new=_optional(value, "new", here),
            paragon=_optional(value, "paragon", here),
            control=_number(value, "control", here),
            difference=_bounds(_get(value, "difference", list, here), here) or (0.0, 0.0),
            absolute_gain=_number(value, "absolute_gain", here),
            update_gain=_optional(value, "update_gain", here),
            update_gain_interval=_bounds(value.get("update_gain_interval"), here),
            criterion=_get(value, "criterion", bool, here),
            compatible=_get(value, "compatible", bool, here),
            intervals=intervals,
            paragon_lead=_bounds(value.get("paragon_lead"), here),
            swap=_optional(value, "swap", here),
        )


@dataclass(frozen=True)
class Certificate:
    """Whether, how far and on what data vectors of a new space may search a gallery of an old one.

    Attributes:
        compatible: whether every requested metric is compatible.
        metrics: results by metric name; `certificate["rank@1"]` reads one.
        old_space: the space of the gallery, JSON-ready; its id is None where it was undeclared.
        new_space: the space of the queries.
        paragon_space: the space of the paragon, if there was one.
        data: how many queries, items, identities and pairs there were.
        options: how vectors were compared.
        strict: the strict criterion (BCT Eq. 1) as shares of pairs.
        flips: negative and positive flips at rank 1 of the cross test and of the new model, against the old.
        backfill: the partial-backfill curve, where there was a new gallery.
        curves: ROC, CMC and histograms for plots.
        examples: queries with what each test finds.
        notes: what could not be computed and why, and warnings, a sentence each.
        seed: of every random choice.
        replicates: how many bootstrap resamples.
        confidence: of the intervals.
        created: when, UTC.
        version: of the library.
        calibrations: how raw scores become log-odds and false-match rates, by pair: `old` for old queries on the old
            gallery, `cross` for new queries on the old gallery, `new` for new queries on a new gallery; each as
            `metrics.Calibration.to_dict` gives it. A pair that cannot be calibrated is absent.
        sweep: quality over shares of re-embedded gallery items, by order and merge; None without a new gallery.
    """

    compatible: bool
    metrics: dict[str, MetricResult]
    old_space: dict[str, Any]
    new_space: dict[str, Any]
    paragon_space: dict[str, Any] | None
    data: dict[str, int]
    options: dict[str, Any]
    strict: dict[str, float | None]
    flips: dict[str, Any]
    backfill: dict[str, Any] | None
    curves: dict[str, Any]
    examples: list[dict[str, Any]]
    notes: list[str]
    seed: int
    replicates: int
    confidence: float
    created: str
    version: str = field(default="")
    calibrations: dict[str, Any] = field(default_factory=dict)
    sweep: dict[str, Any] | None = None

    def __getitem__(self, name: str) -> MetricResult:
        """The result of a metric.

        Raises:
            InputError: the check did not measure it.
        """
        if name not in self.metrics:
            raise InputError(f"this certificate has no metric '{name}'; {suggest(name, self.metrics)}")
        return self.metrics[name]

    def links(self, old: Space, new: Space) -> bool:
        """Whether this certificate allows queries of space `new` on a gallery of space `old`."""
        return self.compatible and self.old_space.get("id") == old.id and self.new_space.get("id") == new.id

    def to_dict(self) -> dict[str, Any]:
        """The whole certificate as JSON-ready values."""
        return {
            "format": FORMAT,
            "samespace": self.version,
            "created": self.created,
            "seed": self.seed,
            "replicates": self.replicates,
            "confidence": self.confidence,
            "compatible": self.compatible,
            "old_space": self.old_space,
            "new_space": self.new_space,
            "paragon_space": self.paragon_space,
            "data": self.data,
            "options": self.options,
            "metrics": {name: result.to_dict() for name, result in self.metrics.items()},
            "strict": self.strict,
            "flips": self.flips,
            "backfill": self.backfill,
            "sweep": self.sweep,
            "calibrations": self.calibrations,
            "curves": self.curves,
            "examples": self.examples,
            "notes": self.notes,
        }

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
            InputError: a field is missing, of the wrong kind, or contradicts another.
        """
        if value.get("format") != FORMAT:
            raise InputError(f"{where}: expected a certificate of format '{FORMAT}', got {value.get('format')!r}")
        metrics = {
            name: MetricResult.from_dict(name, result, where)
            for name, result in _get(value, "metrics", dict, where).items()
        }
        compatible = _get(value, "compatible", bool, where)
        if not metrics or compatible != all(result.compatible for result in metrics.values()):
            raise InputError(f"{where}: the verdict does not follow from the metrics; the file was altered")
        for key in ("old_space", "new_space"):
            space = _get(value, key, dict, where)
            if space.get("id") is not None:
                Space.from_dict(space, f"{where}: {key}")
        return cls(
            compatible=compatible,
            metrics=metrics,
            old_space=value["old_space"],
            new_space=value["new_space"],
            paragon_space=value.get("paragon_space"),
            data=_get(value, "data", dict, where),
            options=_get(value, "options", dict, where),
            strict=_get(value, "strict", dict, where),
            flips=_get(value, "flips", dict, where),
            backfill=value.get("backfill"),
            curves=_get(value, "curves", dict, where),
            examples=_get(value, "examples", list, where),
            notes=_get(value, "notes", list, where),
            seed=_get(value, "seed", int, where),
            replicates=_get(value, "replicates", int, where),
            confidence=_number(value, "confidence", where),
            created=_get(value, "created", str, where),
            version=_get(value, "samespace", str, where),
            calibrations=_calibrations(value.get("calibrations", {}), where),
            sweep=None if value.get("sweep") is None else _get(value, "sweep", dict, where),
        )


def _calibrations(value: Any, where: str) -> dict[str, Any]:
    """Calibrations as they stand in a file, each one checked; older files have none."""
    _require(value, dict, f"{where}: 'calibrations'")
    return {
        pair: Calibration.from_dict(calibration, f"{where}: calibration of the {pair} pair").to_dict()
        for pair, calibration in value.items()
    }


def _listed(bounds: Interval | None) -> list[float] | None:
    return None if bounds is None else list(bounds)


def _require(value: Any, kind: type, where: str) -> None:
    if not isinstance(value, kind):
        raise InputError(f"{where} should be a {kind.__name__}, got {value!r}")


def _get(value: dict[str, Any], key: str, kind: type, where: str) -> Any:
    _require(value.get(key), kind, f"{where}: '{key}'")
    return value[key]


def _number(value: dict[str, Any], key: str, where: str) -> float:
    number = value.get(key)
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise InputError(f"{where}: '{key}' should be a number, got {number!r}")
    return float(number)


def _optional(value: dict[str, Any], key: str, where: str) -> float | None:
    return None if value.get(key) is None else _number(value, key, where)


def _bounds(value: Any, where: str) -> Interval | None:
    if value is None:
        return None
    ends = {"low": value[0], "high": value[1]} if isinstance(value, list) and len(value) == 2 else {}
    return _number(ends, "low", f"{where}: an interval"), _number(ends, "high", f"{where}: an interval")
