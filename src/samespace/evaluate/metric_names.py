"""Metric names: the same string in a command, a recipe and a report."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from samespace.errors import InputError, suggest

Kind = Literal["rank", "mAP", "TAR", "TPIR", "TPIR-merged"]

EXAMPLES = ("rank@1", "mAP", "TAR@FAR=1e-4", "TPIR@FPIR=1e-2", "TPIR-merged@FPIR=1e-2")

_RATE = r"(\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?)"
_RANK = re.compile(r"rank@(\d{1,9})")
_TAR = re.compile(rf"TAR@FAR={_RATE}")
_TPIR = re.compile(rf"(TPIR|TPIR-merged)@FPIR={_RATE}")


@dataclass(frozen=True)
class Metric:
    """A metric as its name says it.

    Attributes:
        name: the name as given.
        kind: what is measured.
        k: depth of `rank@k`; 0 otherwise.
        rate: the bound on false accepts or false alarms, exactly as written; 0 otherwise.
    """

    name: str
    kind: Kind
    k: int = 0
    rate: Fraction = Fraction(0)

    @property
    def best_first(self) -> bool:
        """Whether the metric is read off each query alone, with no threshold shared between queries."""
        return self.kind in ("rank", "mAP")


def parse(name: str) -> Metric:
    """Read a metric name.

    Raises:
        InputError: no such metric, a rank below 1, or a rate outside [0, 1).

    Example:
        >>> parse("TAR@FAR=1e-4").rate
        Fraction(1, 10000)
    """
    if name == "mAP":
        return Metric(name, "mAP")
    if (found := _RANK.fullmatch(name)) and int(found[1]) >= 1:
        return Metric(name, "rank", k=int(found[1]))
    if found := _TAR.fullmatch(name):
        return Metric(name, "TAR", rate=_rate(name, found[1]))
    if found := _TPIR.fullmatch(name):
        return Metric(name, "TPIR" if found[1] == "TPIR" else "TPIR-merged", rate=_rate(name, found[2]))
    raise InputError(f"unknown metric '{name}'; {suggest(name, EXAMPLES)} (any k, any rate)")


def parse_all(names: Sequence[str]) -> list[Metric]:
    """Read several names, each once, in order.

    Raises:
        InputError: as `parse`, a bare string, or no name at all.
    """
    if isinstance(names, str):
        raise InputError(f"metrics should be a list of names, got the one string '{names}'")
    if not names:
        raise InputError(f"no metric asked for; legal: {', '.join(EXAMPLES)} (any k, any rate)")
    return [parse(name) for name in dict.fromkeys(names)]


def _rate(name: str, text: str) -> Fraction:
    rate = Fraction(text)
    if rate >= 1:
        raise InputError(f"the rate of '{name}' should be at least 0 and below 1")
    return rate
