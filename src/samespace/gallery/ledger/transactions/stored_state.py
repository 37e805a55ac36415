"""What a ledger knows besides its items, from the rows of its tables: spaces, links, calibrations, upgrades.

Values that no gallery wrote raise what `Transaction` turns into an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, get_args

from samespace.errors import GalleryError
from samespace.gallery.ledger.state import Link, StoredSpace, Upgrade, UpgradeState
from samespace.gallery.ledger.transactions.transaction import Transaction
from samespace.metrics.calibration import Calibration
from samespace.space import Score, Space


def stored_spaces(asked: Transaction) -> Mapping[int, StoredSpace]:
    """Spaces by generation."""
    rows = asked.session.all("SELECT rank, description, model, retired FROM space ORDER BY rank")
    where = f"{asked.engine.location}: a space of the gallery"
    spaces = {}
    for generation, text, model, retired in rows:
        description = json_object(text)
        score = description.get("score", "cosine")
        if score not in get_args(Score):
            raise GalleryError(f"{where} is searched by '{score}', which this version does not know")
        spaces[generation] = StoredSpace(generation, Space.from_dict(description, where), model, bool(retired), score)
    return spaces


def stored_links(asked: Transaction) -> Mapping[tuple[int, int], Link]:
    """What allows queries of one space on vectors of another, by both generations."""
    rows = asked.session.all("SELECT query, gallery, dims, certificate FROM link")
    links = {
        (row[0], row[1]): Link(int(row[0]), int(row[1]), int(row[2]), None if row[3] is None else json_object(row[3]))
        for row in rows
    }
    for link in links.values():
        _ = link.share  # read here, where what is no number is refused
    return links


def stored_calibrations(asked: Transaction) -> Mapping[tuple[int, int], Calibration]:
    """The newest calibration of each pair of spaces, by both generations."""
    rows = asked.session.all("SELECT query, gallery, value FROM calibration ORDER BY no")
    where = f"{asked.engine.location}: a calibration of the gallery"
    newest = {(row[0], row[1]): row[2] for row in rows}
    return {pair: Calibration.from_dict(json.loads(text), where) for pair, text in newest.items()}


def stored_fused_calibrations(asked: Transaction) -> Mapping[tuple[int, int, float], Calibration]:
    """Calibrations of fused queries, by both generations and the share of the new query."""
    where = f"{asked.engine.location}: a calibration of fused queries"
    calibrations = {}
    for key, text in asked.session.all("SELECT key, value FROM meta WHERE key LIKE ? ORDER BY key", ["fusion %"]):
        _, query, gallery, alpha = key.split(" ")
        calibrations[int(query), int(gallery), float(alpha)] = Calibration.from_dict(json.loads(text), where)
    return calibrations


def stored_upgrades(asked: Transaction) -> tuple[Upgrade, ...]:
    """All upgrades, in the order in which they were planned."""
    rows = asked.session.all(
        "SELECT no, old, new, state, paused, ordering, plan, started, ended FROM upgrade ORDER BY no"
    )
    return tuple(
        Upgrade(row[0], row[1], row[2], _one_of(row[3], UpgradeState), bool(row[4]), str(row[5]), json_object(row[6]),
                *(None if at is None else float(at) for at in row[7:9]))
        for row in rows
    )  # fmt: skip


def _one_of(value: Any, legal: Any) -> Any:
    """A value of a `Literal`. Raises ValueError: it is none."""
    if value not in get_args(legal):
        raise ValueError(f"{value!r:.40} is none of {', '.join(get_args(legal))}")
    return value


def json_object(text: Any) -> dict[str, Any]:
    """A JSON object. Raises TypeError or ValueError: it is none."""
    value = json.loads(text or "{}")
    if not isinstance(value, dict):
        raise TypeError(f"no JSON object: {value!r:.40}")
    return value
