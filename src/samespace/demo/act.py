"""What the upgrade of a live gallery at the end of the demo showed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

Leave = Literal["certified", "accepted", "refused"]


@dataclass(frozen=True)
class Stage:
    """What searches found when a share of the gallery had new vectors.

    Attributes:
        share: of the items.
        calibrated: value by metric, lists of both spaces merged by calibrated scores.
        raw: the same, merged by cosine.
    """

    share: float
    calibrated: Mapping[str, float]
    raw: Mapping[str, float]


@dataclass(frozen=True)
class Act:
    """What the last act showed.

    Attributes:
        folder: of the gallery; it stays.
        page: the curve as a page; None where there is no curve.
        leave: `certified`; `accepted` without a certificate, which the gallery records; or `refused` even so, because
            the new vectors have nothing to do with the old ones: then the act ends there.
        order: of the backfill.
        before: value by metric before the upgrade, old queries on old vectors.
        stages: of the backfill.
        same_back: whether the rollback half way gave the answers from before the upgrade, to the bit.
        same_forth: whether rolling forward gave the answers from before the rollback, to the bit.
        healthy: whether the doctor found nothing wrong at the end.
        seconds: all of it took.
    """

    folder: Path
    page: Path | None
    leave: Leave
    order: str
    before: Mapping[str, float]
    stages: tuple[Stage, ...]
    same_back: bool
    same_forth: bool
    healthy: bool
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {**asdict(self), "folder": str(self.folder), "page": None if self.page is None else str(self.page)}
