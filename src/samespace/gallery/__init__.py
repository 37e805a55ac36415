"""The mixed-version gallery: search across model versions, upgrade without re-embedding, backfill, roll back.

- `gallery`: the class `Gallery`; each method is one call of what follows. `creation`: what a new gallery begins with;
- `ledger/`: what a gallery holds. `index/`: its vectors, to be searched. `serving`: which space serves an item;
- `ingest/`, `items`, `metadata`: items in and out. `search/`: queries, scores, merged lists;
- `upgrade/`: the steps to another model. `backfill/`, `filling`: new vectors for stored items. `quality`: old side
  against new side. `models`, `trusted`: the models that a gallery remembers, and whether they are the right ones;
- `adoption/`: an application's own table or collection, taken over and handed back;
- `status`, `doctor`, `canary_curve`, `wording`: how a gallery stands.
"""

from __future__ import annotations

from samespace.gallery.backfill.limits import Limits
from samespace.gallery.backfill.run import Backfilled
from samespace.gallery.canary_curve import CanaryCurve
from samespace.gallery.doctor import Diagnosis, Finding
from samespace.gallery.gallery import Gallery
from samespace.gallery.ingest.store import Added
from samespace.gallery.items import StoredItem
from samespace.gallery.quality import Quality
from samespace.gallery.search.search import Answer, Hit
from samespace.gallery.status import Status
from samespace.gallery.upgrade.behind import BehindSwitch
from samespace.gallery.upgrade.plan import Plan
from samespace.gallery.upgrade.seal import Sealed
from samespace.gallery.upgrade.upgrade import Switched

__all__ = [
    "Added",
    "Answer",
    "Backfilled",
    "BehindSwitch",
    "CanaryCurve",
    "Diagnosis",
    "Finding",
    "Gallery",
    "Hit",
    "Limits",
    "Plan",
    "Quality",
    "Sealed",
    "Status",
    "StoredItem",
    "Switched",
]
