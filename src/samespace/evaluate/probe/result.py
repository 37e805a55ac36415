"""`Probe`: what a probe found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from samespace.evaluate.certificate import CheckedSpace
from samespace.evaluate.probe.near_copies import NearCopies
from samespace.evaluate.probe.ways import Advice, Measure
from samespace.metrics.spread import Spread
from samespace.typed import plain

FORMAT = "samespace.probe/1"


@dataclass(frozen=True, kw_only=True)
class Strength:
    """How well a model searches its own vectors of held-out classes.

    Attributes:
        space: of the vectors.
        metrics: by name, with the interval.
        genuine: scores of pairs of one class.
        impostor: scores of pairs of two classes; of evenly spaced queries where there are more than two million.
        near_duplicates: share of queries with a gallery item at a cosine of 0.99 or more.
    """

    space: CheckedSpace
    metrics: dict[str, Measure]
    genuine: Spread
    impostor: Spread
    near_duplicates: float


@dataclass(frozen=True, kw_only=True)
class ProbeData:
    """How much of what there was.

    Attributes:
        items: given, templates pooled.
        classes: of them.
        fewest: items of a class.
        median: items of a class.
        most: items of a class.
        held_out: classes that were searched for.
        unmated: of these, classes without gallery items, for the false alarms of TPIR.
        queries: one half of the held-out classes' items.
        gallery: the other half.
    """

    items: int
    classes: int
    fewest: int
    median: float
    most: int
    held_out: int
    unmated: int
    queries: int
    gallery: int


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What a probe found.

    Attributes:
        version: of the library.
        seed: of the split and the resamples.
        replicates: bootstrap resamples.
        confidence: of the intervals.
        data: how much of what there was.
        old: strength of the old model.
        new: strength of the new one, both sides by it; None without its vectors.
        lead: new − old by metric, paired; None likewise.
        mapped: by metric, (new queries on the old gallery, rotated to the new space by the items of the other classes)
            − old, paired; None where it was not measured.
        near_copies: what is found without mates that are nearly the same picture, by the new model's cosines, or the
            old one's where it is alone: with all mates first.
        ways: what fits, best first.
        notes: what was not measured and why, and warnings, a sentence each.
    """

    version: str
    seed: int
    replicates: int
    confidence: float
    data: ProbeData
    old: Strength
    new: Strength | None
    lead: dict[str, Measure] | None
    mapped: dict[str, Measure] | None
    near_copies: tuple[NearCopies, ...]
    ways: tuple[Advice, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        value = plain(self)
        return {"format": FORMAT, "samespace": value.pop("version"), **value}
