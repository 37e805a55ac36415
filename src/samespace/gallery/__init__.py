"""The mixed-version gallery: search across model versions, upgrade without re-embedding, backfill, roll back."""

from __future__ import annotations

from samespace.gallery.backfill import Limits
from samespace.gallery.campaign import Backfilled
from samespace.gallery.doctor import Diagnosis, Finding
from samespace.gallery.gallery import Gallery
from samespace.gallery.planning import Plan
from samespace.gallery.seal import Sealed
from samespace.gallery.searching import Answer, Hit
from samespace.gallery.status import Status
from samespace.gallery.storing import Added
from samespace.gallery.upgrade import Switched

__all__ = [
    "Added",
    "Answer",
    "Backfilled",
    "Diagnosis",
    "Finding",
    "Gallery",
    "Hit",
    "Limits",
    "Plan",
    "Sealed",
    "Status",
    "Switched",
]
