"""What the validation classes decide, never the certified ones: whether to go on, and which method is certified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from samespace.evaluate import check
from samespace.files import read_json, write_json
from samespace.project.split import FEW
from samespace.vectors import VectorSet

Pair = tuple[VectorSet, VectorSet]
_RESAMPLES = 1000


@dataclass(frozen=True)
class Lead:
    """A model's metric on the validation classes beside the old model's, and the interval of the difference."""

    metric: str
    old: float
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        points = f"{100 * self.low:+.1f} … {100 * self.high:+.1f}"
        return f"{self.metric} {100 * self.value:.1f} % against {100 * self.old:.1f} % ({points} points)"


@dataclass(frozen=True)
class Outlook:
    """Whether the paragon is ahead of the old model on the validation classes.

    Attributes:
        ahead: whether it is worth to go on.
        leads: each metric.
        identities: validation classes, which the intervals rest on.
    """

    ahead: bool
    leads: tuple[Lead, ...]
    identities: int

    @property
    def sentence(self) -> str:
        """The figures, for people."""
        return "; ".join(map(str, self.leads))


def outlook(old: Pair, paragon: Pair, metrics: Sequence[str], identities: int) -> Outlook:
    """Compare the paragon with the old model, each searching its own gallery.

    It is ahead where an interval lies above zero. Fewer than twenty classes make intervals too wide to stop for: there
    it counts as ahead where any value is higher.
    """
    # the old model in the place of the new one: only the paragon's lead is read
    found = check(
        queries=old[0],
        gallery=old[1],
        baseline=old[0],
        paragon=paragon,
        metrics=list(metrics),
        replicates=_RESAMPLES,
        examples=0,
    )
    leads = []
    for name, result in found.metrics.items():
        low, high = result.paragon_lead or (0.0, 0.0)
        leads.append(Lead(name, result.old, result.paragon or 0.0, low, high))
    enough = identities >= FEW
    ahead = any(lead.low > 0 if enough else lead.value > lead.old for lead in leads)
    return Outlook(ahead, tuple(leads), identities)


def gains(training: Path) -> dict[str, float]:
    """How far a finished training was above the old model on its validation classes, new queries on old vectors."""
    values = read_json(training / "training.json", "a finished training")["validation"]["last"]
    ends = {name.removesuffix("/cross"): value for name, value in values.items() if name.endswith("/cross")}
    return {name: value - values[f"{name}/old"] for name, value in ends.items()}


def best(methods: Mapping[str, Mapping[str, float]]) -> str:
    """The training with the largest mean gain; the first of equal ones. One that could not be measured comes last."""
    return max(methods, key=lambda name: np.mean(list(methods[name].values()) or [-np.inf]))


def save_outlook(value: Outlook, path: Path) -> None:
    """Write it as JSON."""
    leads = [vars(lead) for lead in value.leads]
    write_json(path, {"ahead": value.ahead, "identities": value.identities, "leads": leads})


def load_outlook(path: Path) -> Outlook:
    """Read what `save_outlook` wrote."""
    value: dict[str, Any] = read_json(path, "the outlook of a build")
    return Outlook(bool(value["ahead"]), tuple(Lead(**lead) for lead in value["leads"]), int(value["identities"]))
