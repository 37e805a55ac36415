"""Why a check says no: one cause, the figures that show it, and what to do next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from samespace.typed import plain

CauseName = Literal[
    "same-vectors",
    "fusion-kept-old",
    "interchanged",
    "not-one-model",
    "near-duplicates",
    "saturated",
    "unrelated",
    "not-ahead",
    "compatibility-costs",
    "low-false-accepts",
    "weak-compatibility",
    "too-few-identities",
    "unknown",
]


@dataclass(frozen=True, kw_only=True)
class Cause:
    """A reason why a check says no.

    Attributes:
        name: of the cause; docs/judging.md tells how each is decided.
        metrics: of the certificate that it concerns.
        sentence: what was found, with its figures.
        figures: those figures by name: values and differences as shares, not percent, and counts.
        advice: what to do next, in words.
        commands: that do it, as they would be typed. Names in capitals, and recipe.yaml, runs/v1/model and images/,
            stand for files that the check does not know.
    """

    name: CauseName
    metrics: tuple[str, ...]
    sentence: str
    figures: dict[str, float]
    advice: str
    commands: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return plain(self)
