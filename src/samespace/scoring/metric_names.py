"""Metric names, the same string in a command, a recipe and a report; what each one measures; which ones data supports.

`KINDS` is the table of all metrics of a check: a new one is one line there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from samespace.errors import InputError
from samespace.metrics._arrays import Floats, Ints
from samespace.metrics.verification import allowed_count
from samespace.scoring import weighted
from samespace.scoring.judged import is_judged
from samespace.scoring.mates import Mates
from samespace.scoring.metric_aliases import suggest_metric
from samespace.scoring.scores import Scores

_NAME = re.compile(r"([A-Za-z-]+)(?:@(?:([A-Z]+)=)?([^=]+))?")
_RATE = re.compile(r"\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?")
_DEPTH = re.compile(r"\d{1,9}")

_FAR_CHOICES = ("1e-4", "1e-3", "1e-2")
_FALSE_ACCEPTS = 10
_UNMATED_QUERIES = 100


@dataclass(frozen=True)
class Kind:
    """How a kind of metric is written and computed.

    Attributes:
        example: a full name, whose `@…=` says what argument it takes.
        value: gives (r,) values from the scores of a pair of models, (r, identities) weights and the argument.
        negatives: for a metric with a threshold, how many pairs or queries set it.
        negatives_are: what those are.
        reads_tail: whether they are all impostor pairs, of which only the highest scores are kept.
    """

    example: str
    value: Callable[[Scores, Ints, Fraction], Floats]
    negatives: Callable[[Mates], int] | None = None
    negatives_are: str = ""
    reads_tail: bool = False


KINDS = {
    "rank": Kind("rank@1", lambda s, w, k: weighted.rank_k(s.matches, s.mates.query_codes, w, int(k))),
    "mAP": Kind("mAP", lambda s, w, _: weighted.weighted_mean(s.precision.average, s.mates.query_codes, w)),
    "MAP@R": Kind("MAP@R", lambda s, w, _: weighted.weighted_mean(s.precision.average_at_r, s.mates.query_codes, w)),
    "R-precision": Kind(
        "R-precision", lambda s, w, _: weighted.weighted_mean(s.precision.share_at_r, s.mates.query_codes, w)
    ),
    "TAR": Kind("TAR@FAR=1e-4", weighted.tar_at_far, lambda mates: mates.impostors, "impostor pairs", True),
    "TPIR": Kind(
        "TPIR@FPIR=1e-2",
        lambda s, w, rate: weighted.tpir_at_fpir(s.matches, s.mates.query_codes, w, rate, "open-set"),
        lambda mates: int((mates.counts == 0).sum()),
        "queries without a mate",
    ),
    "TPIR-merged": Kind(
        "TPIR-merged@FPIR=1e-2",
        lambda s, w, rate: weighted.tpir_at_fpir(s.matches, s.mates.query_codes, w, rate, "merged"),
        lambda mates: len(mates.query_codes),
        "queries",
    ),
}
EXAMPLES = tuple(kind.example for kind in KINDS.values())


@dataclass(frozen=True)
class Metric:
    """A metric as its name says it.

    Attributes:
        name: the name as given.
        kind: what is measured, a key of `KINDS`.
        argument: depth of `rank@k`, or the bound on false accepts or false alarms, exactly as written; 0 otherwise.
    """

    name: str
    kind: str
    argument: Fraction = Fraction(0)

    @property
    def has_threshold(self) -> bool:
        """Whether queries share a threshold; otherwise the metric is read off each query alone."""
        return KINDS[self.kind].negatives is not None

    @property
    def reads_tail(self) -> bool:
        """Whether the threshold is placed among all impostor pairs, of which only the highest are kept."""
        return KINDS[self.kind].reads_tail

    def values(self, scores: Scores, counts: Ints) -> Floats:
        """The metric under each row of weights of identities (r, identities).

        Returns:
            (r,) float64; NaN where no weight falls on what the metric averages over.

        Raises:
            TailTooShort: `scores` keeps too few impostor scores.
        """
        return KINDS[self.kind].value(scores, counts, self.argument)

    def value(self, scores: Scores) -> float:
        """The value of the metric; raises as `values`."""
        return float(self.values(scores, np.ones((1, scores.mates.identities), dtype=np.int64))[0])


def parse(name: str) -> Metric:
    """Read a metric name.

    Raises:
        InputError: no such metric, a rank below 1, or a rate outside [0, 1).

    Example:
        >>> parse("TAR@FAR=1e-4").argument
        Fraction(1, 10000)
    """
    if name in KINDS and KINDS[name].example == name:
        return Metric(name, name)
    parts = _NAME.fullmatch(name)
    if parts is not None and parts[1] in KINDS:
        kind, by, text = parts.groups()
        wanted = _NAME.fullmatch(KINDS[kind].example)
        if wanted is not None and wanted[2] == by and text is not None and wanted[3] is not None:
            if by is None and _DEPTH.fullmatch(text) and int(text) >= 1:
                return Metric(name, kind, Fraction(text))
            if by is not None and _RATE.fullmatch(text):
                if Fraction(text) >= 1:
                    raise InputError(f"the rate of '{name}' should be at least 0 and below 1")
                return Metric(name, kind, Fraction(text))
    if is_judged(name):
        raise InputError(
            f"{name} needs relevance judgements: give qrels (--qrels FILE); by labels it is one of "
            f"{', '.join(EXAMPLES)}"
        )
    raise InputError(f"unknown metric '{name}'; {suggest_metric(name, EXAMPLES, allows=_legal)} (any k, any rate)")


def _legal(name: str) -> bool:
    try:
        return bool(parse(name))
    except InputError:
        return False


def parse_all(names: Sequence[str]) -> list[Metric]:
    """Read several names, each once, in order. Raises InputError: as `parse`, a bare string, or no name at all."""
    if isinstance(names, str):
        raise InputError(f"metrics should be a list of names, got the one string '{names}'")
    if not names:
        raise InputError(f"no metric asked for; legal: {', '.join(EXAMPLES)} (any k, any rate)")
    return [parse(name) for name in dict.fromkeys(names)]


def choose_metrics(names: Sequence[str] | None, mates: Mates) -> tuple[list[Metric], list[str]]:
    """The metrics of a check, those asked for or those the data supports, and notes about operating points.

    By default rank@1 and mAP; TAR at the first FAR of 1e-4, 1e-3, 1e-2 that allows ten false accepts; TPIR at an FPIR
    of 1e-2 where a hundred queries have no mate.

    Raises:
        InputError: an unknown name, or a metric that this data leaves undefined.
    """
    if names is None:
        return _default(mates)
    metrics = parse_all(names)
    return metrics, [note for metric in metrics if (note := _support(metric, mates))]


def _default(mates: Mates) -> tuple[list[Metric], list[str]]:
    metrics, notes = [parse("rank@1"), parse("mAP")], []
    points = [parse(f"TAR@FAR={far}") for far in _FAR_CHOICES]
    usable = [point for point in points if allowed_count(point.argument, mates.impostors) >= _FALSE_ACCEPTS]
    if usable:
        metrics.append(usable[0])
        notes.append(
            f"{usable[0].name} was chosen as the lowest of FAR {', '.join(_FAR_CHOICES)} that {mates.impostors} "
            f"impostor pairs support with at least {_FALSE_ACCEPTS} false accepts."
        )
    else:
        notes.append(f"No TAR was measured: {mates.impostors} impostor pairs are too few for FAR {_FAR_CHOICES[-1]}.")
    unmated = int((mates.counts == 0).sum())
    if unmated >= _UNMATED_QUERIES:
        metrics.append(parse("TPIR@FPIR=1e-2"))
    else:
        notes.append(
            f"No open-set TPIR was measured: {unmated} queries are without a mate, {_UNMATED_QUERIES} are needed "
            "for FPIR 1e-2."
        )
    return metrics, notes


def _support(metric: Metric, mates: Mates) -> str | None:
    """A note where the data places the threshold poorly."""
    kind = KINDS[metric.kind]
    if kind.negatives is None:
        return None
    count = kind.negatives(mates)
    if count == 0:
        remedy = "; TPIR-merged needs none" if metric.kind == "TPIR" else ""
        raise InputError(f"{metric.name} cannot be measured: this data has no {kind.negatives_are}{remedy}")
    if allowed_count(metric.argument, count) < 1:
        return (
            f"{metric.name}: {count} {kind.negatives_are} allow less than one false accept, so the threshold is the "
            "highest of their scores; take the value with care."
        )
    return None
