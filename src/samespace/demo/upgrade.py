"""`GalleryUpgrade`: the results of the gallery upgrade at the end of the demo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

Permission = Literal["certified", "accepted", "refused"]


@dataclass(frozen=True)
class Stage:
    """Search quality by metric when a share of the items has new vectors, merged by calibrated and by raw scores."""

    share: float
    calibrated: Mapping[str, float]
    raw: Mapping[str, float]


@dataclass(frozen=True)
class GalleryUpgrade:
    """Results of the gallery upgrade at the end of the demo.

    Attributes:
        folder: of the gallery; it stays.
        page: the curve as a page; None where there is no curve.
        permission: `certified`; `accepted` without a certificate, which the gallery records; or `refused` all the same,
            because the new vectors have nothing to do with the old ones: then nothing more is done.
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
    permission: Permission
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
