"""The last part of the demo: a live gallery is upgraded, backfilled in steps, rolled back half way and finished."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from samespace.data import ImageSource
from samespace.demo.page import write_gallery_page
from samespace.demo.upgrade import GalleryUpgrade, Permission, Stage
from samespace.errors import SpaceError
from samespace.evaluate import Certificate
from samespace.gallery import Answer, Gallery, Limits
from samespace.gallery.ledger.sqlite.file import FILE
from samespace.project.work import check_pair
from samespace.vectors import VectorSet

REQUIRED = ("rank@1", "mAP")
SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
_TURN = 0.5
_DEPTH = 20

Vectors = Mapping[str, tuple[VectorSet, VectorSet]]
Say = Callable[[str], None]


def upgrade_gallery(
    out: Path,
    named: str,
    images: ImageSource,
    vectors: Vectors,
    *,
    replicates: int = 2000,
    seed: int = 0,
    say: Say = print,
) -> GalleryUpgrade:
    """Upgrade a live gallery of the held-out gallery images from the old model to the compatible one.

    `out` is the demo's folder, with the models `old` and `compatible`; `named` is its source, as a user writes it and
    the gallery remembers it, and `images` the same, open already. `vectors` are queries and gallery of the held-out
    characters, by the name of the model.
    """
    began = time.monotonic()
    certificate = _certificate(vectors, replicates, seed)
    certificate.save(out / "certificates" / "upgrade.json")
    folder = out / "gallery"
    if (folder / FILE).exists():
        shutil.rmtree(folder)
    with Gallery.create(folder, model=out / "old", images=named) as gallery:
        gallery.add(vectors["old"][1])
        plan = gallery.plan(str(out / "compatible"), [certificate], images=images)
        probe = _Probe(*vectors["old"]), _Probe(*vectors["compatible"])
        earlier = probe[0].search(gallery)
        before = probe[0].values(earlier)
        say(f"  {len(gallery):,} images by the old model; its searches: {_told(before)}")
        permission = _upgrade(gallery, certificate, images, say)
        stages: list[Stage] = []
        same_back = same_forth = True
        for share in SHARES if permission != "refused" else ():
            _backfill_to(gallery, share, images)
            now = probe[1].search(gallery)
            # one space alone is in the same order either way
            raw = probe[1].search(gallery, raw=True) if 0 < share < 1 else now
            stages.append(Stage(share, probe[1].values(now), probe[1].values(raw)))
            say(f"  {share:>4.0%} re-embedded: {_told(stages[-1].calibrated)}")
            if share == _TURN:
                same_back, same_forth = _there_and_back(gallery, probe, earlier, now, images, permission)
                say(f"  rolled back: {_sameness(same_back)} before the upgrade")
                say(f"  rolled forward: {_sameness(same_forth)} before the rollback")
        healthy = gallery.doctor().healthy
        say(f"  the doctor says: {'nothing is wrong' if healthy else 'something is wrong'}")
    page = out / "gallery.html" if stages else None
    upgrade = GalleryUpgrade(
        folder, page, permission, plan.order, before, tuple(stages), same_back, same_forth, healthy, 0.0
    )
    if page is not None:
        write_gallery_page(upgrade, page)
    return replace(upgrade, seconds=time.monotonic() - began)


def _certificate(vectors: Vectors, replicates: int, seed: int) -> Certificate:
    """The check on what this operator requires: a search that shows a ranking, with no threshold in it."""
    return check_pair(vectors["old"], vectors["compatible"], None, REQUIRED, replicates=replicates, seed=seed)


def _upgrade(gallery: Gallery, certificate: Certificate, images: ImageSource, say: Say) -> Permission:
    try:
        gallery.upgrade(certificates=[certificate], images=images)
    except SpaceError as error:
        say(f"  refused: {error}")
    else:
        say(f"  upgraded, as the certificate allows it for {' and '.join(REQUIRED)}; nothing was re-embedded")
        return "certified"
    try:
        gallery.upgrade(certificates=[certificate], images=images, accept_uncertified=True)
    except SpaceError as error:
        say(f"  refused again: {error}")
        return "refused"
    say("  upgraded against the certificate, to show the rest; the gallery records it")
    return "accepted"


def _backfill_to(gallery: Gallery, share: float, images: ImageSource) -> None:
    status = gallery.status()
    wanted = round(share * status.items) - round(status.backfilled * status.items)
    if wanted > 0:
        gallery.backfill(images=images, limits=Limits(items=wanted))


def _there_and_back(
    gallery: Gallery,
    probe: tuple[_Probe, _Probe],
    earlier: Answer,
    now: Answer,
    images: ImageSource,
    permission: Permission,
) -> tuple[bool, bool]:
    gallery.rollback()
    back = probe[0].search(gallery)
    gallery.upgrade(images=images, accept_uncertified=permission == "accepted")
    return back.hits == earlier.hits, probe[1].search(gallery).hits == now.hits


class _Probe:
    """Searches with the queries that have a mate in the gallery, and scores what they find."""

    def __init__(self, queries: VectorSet, gallery: VectorSet) -> None:
        assert queries.labels is not None
        assert gallery.labels is not None
        mated = np.flatnonzero(np.isin(queries.labels, gallery.labels))
        self.queries = queries.subset(mated)
        self.labels = queries.labels[mated].tolist()
        self.label_of = dict(zip(gallery.ids.tolist(), gallery.labels.tolist(), strict=True))
        names, counts = np.unique(gallery.labels, return_counts=True)
        self.mates = dict(zip(names.tolist(), counts.tolist(), strict=True))

    def search(self, gallery: Gallery, *, raw: bool = False) -> Answer:
        return gallery.search(self.queries, k=_DEPTH, merge="raw" if raw else "calibrated", exact=True, count=False)

    def values(self, answer: Answer) -> dict[str, float]:
        """rank@1, and mean average precision of the best twenty."""
        first, precision = [], []
        for label, hits in zip(self.labels, answer.hits, strict=True):
            right = np.array([self.label_of[hit.item] == label for hit in hits])
            first.append(right[0])
            precision.append(
                (np.cumsum(right) / np.arange(1, len(right) + 1))[right].sum() / min(self.mates[label], _DEPTH)
            )
        return {"rank@1": float(np.mean(first)), f"mAP@{_DEPTH}": float(np.mean(precision))}


def _told(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {100 * value:.1f} %" for name, value in values.items())


def _sameness(same: bool) -> str:
    return "the same answers, to the bit, as" if same else "OTHER ANSWERS than"
