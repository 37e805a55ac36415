"""Learning the calibration of a pair of spaces from labelled vectors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from samespace.errors import InputError
from samespace.evaluate import Certificate
from samespace.gallery.ledger import Ledger
from samespace.gallery.resources import rank_of
from samespace.metrics.calibration import Calibration, calibrate
from samespace.space import Links, Space, require_comparable
from samespace.vectors import VectorSet

Scores = npt.NDArray[np.float32]

_QUERIES = 256


class _Linked:
    """Vouches for a pair that the gallery has linked already."""

    def links(self, old: Space, new: Space) -> bool:
        """Always."""
        return True


def calibrate_pair(
    ledger: Ledger, queries: VectorSet, gallery: VectorSet, *, certificate: Certificate | None = None, actor: str = ""
) -> Calibration:
    """Learn how scores of a pair of spaces relate to matches, and store it.

    Args:
        ledger: of the gallery.
        queries: labelled, of a space that the gallery knows.
        gallery: labelled, of the same or an earlier space; items that are in both by id are not paired.
        certificate: that links the two, where they differ and the gallery has no leave yet.
        actor: who asks, for the audit trail.

    Raises:
        SpaceError: a space that the gallery does not know, or a pair that nothing links.
        InputError: no labels, or too few pairs.
    """
    with ledger.read() as view:
        state = view.state()
    pair = rank_of(state, queries.space, queries.name), rank_of(state, gallery.space, gallery.name)
    link: Links | None = certificate
    if pair in state.links:
        link = _Linked()
    elif pair[0] != pair[1]:
        require_comparable(queries.space, gallery.space, certificate)
    genuine, impostor = pair_scores(queries, gallery, link)
    found = calibrate(genuine, impostor)
    with ledger.write() as change:
        change.put_calibration(*pair, found, f"{queries.name} on {gallery.name}")
        change.note(actor, "calibrate", query=pair[0], gallery=pair[1], genuine=len(genuine), impostor=len(impostor))
    return found


def pair_scores(queries: VectorSet, gallery: VectorSet, link: Links | None) -> tuple[Scores, Scores]:
    """Cosines of all pairs of one label, and of all pairs of unlike labels; an item is not paired with itself.

    Raises:
        InputError: no labels on a side.
    """
    if queries.labels is None or gallery.labels is None:
        raise InputError("calibration needs labels on both sides: which items show the same thing")
    genuine, impostor = [], []
    wanted = gallery.labels.astype(str)
    for start in range(0, len(queries), _QUERIES):
        rows = np.arange(start, min(start + _QUERIES, len(queries)))
        part = queries.subset(rows)
        scores = part.scores(gallery, certificate=link)
        same = queries.labels[rows].astype(str)[:, None] == wanted[None, :]
        other = np.ones_like(same)
        if queries.has_ids and gallery.has_ids:
            other = part.ids[:, None] != gallery.ids[None, :]
        genuine.append(scores[same & other])
        impostor.append(scores[~same])
    return np.concatenate(genuine), np.concatenate(impostor)
