"""Everything that can be asked of a gallery's ledger, as JSON-ready values; what the first release answered is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from samespace.gallery import Gallery
from samespace.gallery.ledger.ledger import Ledger
from samespace.space import Space
from samespace.vectors import VectorSet

OLD = Space(weights="00", preprocessing="none", dim=4, normalized=True, name="old")
NEW = Space(weights="01", preprocessing="none", dim=6, normalized=True, name="new")
NOW = 2_000_000_000.0
"""When the claims are looked at: some have run out by then, some have not."""


def unit(count: int, dim: int, seed: int) -> np.ndarray:
    """Vectors of unit length, float32."""
    values = np.random.default_rng(seed).standard_normal((count, dim))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def queries() -> VectorSet:
    """Three queries in the new space."""
    return VectorSet.from_arrays(unit(3, NEW.dim, 9), ids=["a", "b", "c"], space=NEW)


def everything(location: str | Path) -> dict[str, Any]:
    """What a reader, a search, the status and then a worker see; the worker's claims change the ledger."""
    with Gallery.open(location) as gallery:
        found = {**_read(gallery.ledger), **_asked(gallery)}
        found["claims"] = _claims(gallery.ledger)
        return found


def _read(ledger: Ledger) -> dict[str, Any]:
    with ledger.read() as reader:
        numbers, ids, deleted = reader.items_since(-1)
        state = reader.state()
        owners, hits = reader.traffic()
        return {
            "items": [numbers.tolist(), ids, deleted.tolist()],
            "contents": [[item.content, item.label] for item in reader.items(numbers).values()],
            "metadata": sorted(reader.metadata(numbers).items()),
            "vectors": {
                generation: [
                    [number, item, value.tobytes().hex(), content]
                    for rows in reader.batches(generation)
                    for number, item, value, content in zip(
                        rows.numbers.tolist(), rows.items.tolist(), rows.values, rows.contents, strict=True
                    )
                ]
                for generation in (1, 2)
            },
            # the first release did not know of precision
            "state": repr(
                (state.query, state.spaces, state.links, state.calibrations, state.upgrades, state.settings)
            ).replace(", precision='fp32'", ""),
            "served": sorted(reader.served([1, 2]).items()),
            "unserved": [reader.unserved(spaces).tolist() for spaces in ([1], [2], [1, 2])],
            "work": repr(reader.work(2, NOW)),
            "listed": reader.listed(2).tolist(),
            "order": reader.open_work(2).tolist(),
            "owners": reader.owners(2),
            "failures": reader.failures(2, 99),
            "dropped": reader.dropped(2).tolist(),
            "workers": repr(reader.workers(0.0)),
            "traffic": [owners.tolist(), hits.tolist()],
            "audit": [line for line in reader.audit(99) if line["action"] != "migrate"],
            "gallery": reader.meta("gallery"),
        }


def _asked(gallery: Gallery) -> dict[str, Any]:
    status = gallery.status().to_dict()
    answer = gallery.search(queries(), k=12)
    filtered = gallery.search(queries(), k=5, where={"shop": "berlin", "label": ["l1", "l2"]}, exact=True)
    return {
        "status": {name: status[name] for name in ("items", "phase", "backfilled", "only_new", "dropped")},
        "spaces": [[one["vectors"], one["served"], one["role"]] for one in status["spaces"]],
        "hits": [[[hit.item, hit.score, hit.raw, hit.space] for hit in hits] for hits in answer.hits],
        "filtered": [[[hit.item, hit.score] for hit in hits] for hits in filtered.hits],
    }


def _claims(ledger: Ledger) -> list[list[str]]:
    """What a new worker claims, three at a time, until nothing is free."""
    claimed = []
    while True:
        with ledger.claiming() as queue:
            got = queue.claim(2, "later", 3, now=NOW, lease=60.0)
        if not got:
            return claimed
        claimed.append([claim.id for claim in got])
