"""A check that said no, as the rules of a diagnosis read it, and its figures in words."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from samespace.evaluate.certificate import Certificate, Interval, MetricResult
from samespace.evaluate.diagnosis.commands import Files, check_again
from samespace.evaluate.diagnosis.evidence import Evidence
from samespace.scoring.metric_names import parse

Results = dict[str, MetricResult]
Test = Literal["old", "cross", "new", "paragon"]

# chance varies with the draw: a value so little above it, as a share of it or of what is left to one, is chance, too
_OF_CHANCE, _OF_REST, _ABOVE_CHANCE = 0.5, 0.05, 0.001


@dataclass(frozen=True)
class Case:
    """A certificate that says no, what was measured beside it, and where its vectors came from."""

    certificate: Certificate
    evidence: Evidence
    files: Files

    @cached_property
    def failing(self) -> Results:
        """Metrics that do not hold."""
        return {name: one for name, one in self.certificate.metrics.items() if not one.compatible}

    @cached_property
    def not_above(self) -> Results:
        """Failing metrics whose cross value is not above the old one."""
        return {name: one for name, one in self.failing.items() if not one.criterion}

    @cached_property
    def unproven(self) -> Results:
        """Failing metrics whose cross value is above the old one, though their interval reaches zero."""
        return {name: one for name, one in self.failing.items() if one.criterion}

    @cached_property
    def telling(self) -> Results:
        """Metrics on which the old model is clearly above chance."""
        return {name: one for name, one in self.certificate.metrics.items() if not self.at_chance(name, "old")}

    def chance(self, metric: str) -> float:
        """What a metric would be without any relation between queries and gallery.

        The rotated control, or where it came out lower, what a random order of the gallery would give; for a benchmark
        and relevance judgements, whose pairs are their own, the control alone.
        """
        control = self.certificate.metrics[metric].control
        if self.benchmark or self.judged:
            return control
        parsed, data = parse(metric), self.certificate.data
        pairs = data.get("genuine_pairs", 0) + data.get("impostor_pairs", 0)
        mates = data.get("genuine_pairs", 0) / pairs if pairs else 0.0
        rate = float(parsed.argument)
        random = {"rank": rate * mates, "TAR": rate, "TPIR": 0.0, "TPIR-merged": 0.0}.get(parsed.kind, mates)
        return max(control, min(1.0, random))

    def at_chance(self, metric: str, test: Test) -> bool:
        """Whether a test is not clearly above chance; false where it was not run."""
        one = self.certificate.metrics[metric]
        value, interval = getattr(one, test), one.intervals.get(test)
        if value is None:
            return False
        chance = self.chance(metric)
        margin = min(_OF_CHANCE * chance, _OF_REST * (1 - chance)) + _ABOVE_CHANCE
        inside = interval is not None and chance >= interval[0]
        return bool(value - chance <= (2 * margin if inside else margin))

    @property
    def benchmark(self) -> bool:
        """Whether this is a published benchmark, which has its own command and one set of vectors for each model."""
        return "benchmark" in self.certificate.options

    @property
    def judged(self) -> bool:
        """Whether relevance judgements took the place of labels."""
        return "qrels" in self.certificate.options

    @property
    def drawn(self) -> str:
        """What the bootstrap draws."""
        return "queries" if self.judged else "identities"

    def again(
        self, files: Files | None = None, *, metrics: Sequence[str] = (), fuse: bool = True, more: str = ""
    ) -> tuple[str, ...]:
        """The command that checks again as before, with queries fused as before; none for a benchmark."""
        if self.benchmark:
            return ()
        results, fusion = self.certificate.metrics.values(), self.certificate.fusion
        if self.judged:
            more = f"--qrels {shlex.quote(str(self.certificate.options['qrels']))} {more}"
        more = f"{' '.join(self.certificate.comparison_options)} {more}"
        if self.certificate.options.get("prefix"):
            more = f"--prefix {more}"
        if fuse and fusion is not None:
            more = f"--fuse {'auto' if fusion.chosen == 'halves' else f'{fusion.alpha:g}'} {more}"
        line = check_again(
            files or self.files,
            baseline_gallery=self.certificate.baseline_space is not None,
            new_gallery=any(one.new is not None for one in results),
            paragon=files is None and any(one.paragon is not None for one in results),
            metrics=metrics,
            more=more.strip(),
        )
        return (line,)


def has_threshold(metric: str) -> bool:
    """Whether a metric accepts scores above a threshold that impostors set."""
    return metric.startswith(("TAR", "TPIR"))


def percent(value: float) -> str:
    """A share as percent.

    Example:
        >>> percent(0.8171)
        '81.7 %'
    """
    return f"{100 * value:.1f} %"


def points(value: float) -> str:
    """A difference in percentage points with its sign.

    Example:
        >>> points(-0.0104)
        '−1.0'
    """
    return f"{100 * value:+.1f}".replace("-", "−")


def bounds(interval: Interval) -> str:
    """An interval of a difference in percentage points."""
    return f"{points(interval[0])} … {points(interval[1])}"


def listed(names: Sequence[str]) -> str:
    """Names as prose."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def also(names: Sequence[str]) -> str:
    """A sentence that names further metrics of which the same is true; empty where there are none."""
    return f" The same is true of {listed(names)}." if names else ""
