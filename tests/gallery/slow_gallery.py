"""A gallery as plain dictionaries: serving, filters, thresholds and ties, one item at a time in float64."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from samespace.metrics.calibration import Calibration

Row = tuple[str, float, float, int]
"""Id, score, raw score, generation."""


@dataclass
class SlowItem:
    """What a gallery should know of an item: its vectors by generation."""

    label: str | None
    metadata: dict[str, Any]
    vectors: dict[int, np.ndarray] = field(default_factory=dict)


@dataclass
class SlowGallery:
    """What a gallery should answer.

    Attributes:
        dims: of each generation.
        score: what searches go by.
        calibrations: by (query generation, gallery generation).
        items: by id.
        query: the generation that queries use.
        sealed: the generation up to which there is no way back.
    """

    dims: dict[int, int]
    score: str
    calibrations: dict[tuple[int, int], Calibration]
    items: dict[str, SlowItem] = field(default_factory=dict)
    query: int = 1
    sealed: int = 1

    def add(self, name: str, label: str | None, metadata: dict[str, Any], vectors: dict[int, np.ndarray]) -> None:
        """A new item, or another content of one that is there: what is not given anew stays, its vectors do not."""
        old = self.items.get(name)
        if old is not None:
            label, metadata = (old.label if label is None else label), metadata or old.metadata
        self.items[name] = SlowItem(label, dict(metadata), dict(vectors))

    def lacking(self) -> list[str]:
        """Items without a vector of the query space."""
        return sorted(name for name, item in self.items.items() if self.query not in item.vectors)

    def seal(self) -> int:
        """Delete what the query space replaces; how many vectors."""
        gone = 0
        for item in self.items.values():
            if self.query in item.vectors:
                older = [generation for generation in item.vectors if generation < self.query]
                gone += len(older)
                for generation in older:
                    del item.vectors[generation]
        self.sealed = self.query
        return gone

    def search(
        self,
        query: np.ndarray,
        *,
        where: dict[str, Any] | None = None,
        min_score: float | None = None,
        max_fmr: float | None = None,
        merge: str = "calibrated",
        scale: str = "logistic",
    ) -> list[Row]:
        """Everything that a search may find, best first, ties by id."""
        wide = {generation: self._asked(query, generation) for generation in range(1, self.query + 1)}
        rows: list[Row] = []
        for name, item in self.items.items():
            serving = max((one for one in item.vectors if one <= self.query), default=None)
            if serving is None or not all(meets(item, key, value) for key, value in (where or {}).items()):
                continue
            raw = self._raw(wide[serving], item.vectors[serving].astype(np.float64))
            calibration = self.calibrations[self.query, serving]
            level = level_of(calibration, raw)
            score = raw * calibration.slope + calibration.intercept if scale == "logistic" else level
            if (min_score is None or score >= min_score) and (max_fmr is None or level >= -math.log10(max_fmr)):
                rows.append((name, score, raw, serving))
        rows.sort(key=lambda row: (-row[2] if merge == "raw" else -row[1], row[0]))
        return rows

    def _asked(self, query: np.ndarray, generation: int) -> np.ndarray:
        part = query[: self.dims[generation]].astype(np.float64)
        if self.score == "cosine":
            part = part / np.sqrt((part * part).sum())
        return part.astype(np.float32).astype(np.float64)

    def _raw(self, query: np.ndarray, row: np.ndarray) -> float:
        return 0.0 - float(((row - query) ** 2).sum()) if self.score == "l2" else float((row * query).sum())


def level_of(calibration: Calibration, raw: float) -> float:
    """−log10 of the false-match rate: linear between the knots and beyond them."""
    scores, levels = calibration.scores, calibration.levels
    place = 0
    while place < len(scores) - 2 and raw >= scores[place + 1]:
        place += 1
    rise = (levels[place + 1] - levels[place]) / (scores[place + 1] - scores[place])
    line = levels[place] + (raw - scores[place]) * rise
    return line if raw >= scores[-1] else min(line, levels[place + 1])


def meets(item: SlowItem, key: str, wanted: Any) -> bool:
    """Whether an item meets a condition: numbers compare with numbers, texts with texts, truths with truths."""
    held = item.label if key == "label" else item.metadata.get(key)
    if held is None:
        return False
    operator, value = wanted if isinstance(wanted, tuple) else ("=", wanted)
    options: Iterable[Any] = value if isinstance(value, list) else [value]
    return any(_kind(held) == _kind(option) and _holds(held, operator, option) for option in options)


def _kind(value: Any) -> str:
    return "truth" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"


def _holds(held: Any, operator: str, option: Any) -> bool:
    return {
        "=": held == option, "!=": held != option,
        "<": held < option, "<=": held <= option, ">": held > option, ">=": held >= option,
    }[operator]  # fmt: skip
