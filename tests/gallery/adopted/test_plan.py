"""The server answers by the application's own index, though the rows are joined to the ledger."""

from __future__ import annotations

import numpy as np

from samespace.gallery.index.adopted.postgres import AdoptedSource, _AdoptedVectors
from samespace.gallery.index.pgvector.source import following_index

from ..servers import Server
from .applications import PostgresApplication, World


def test_a_search_walks_the_tables_own_index(server: Server) -> None:
    application = PostgresApplication(server.address)
    world = World(application, 120)
    world.upgrade()
    world.backfill(60)
    source = world.gallery.source
    assert isinstance(source, AdoptedSource)
    with source.snapshot() as snapshot:
        asked, store = snapshot._asked, source.adopted  # type: ignore[attr-defined]
        size = store.size(asked.reader, asked.state)
        assert size.index is not None
        rows = _AdoptedVectors(asked, store.table, None, size.index)
        with following_index(asked.reader, 5, 0.5):
            sql, values = rows.near_sql(np.eye(1, 16, dtype=np.float32)[0], 5)
            plan = "\n".join(row[0] for row in asked.reader.session.all(f"EXPLAIN {sql}", values))
    world.gallery.close()
    application.close()
    assert 'Index Scan using "Shop' in plan, plan
