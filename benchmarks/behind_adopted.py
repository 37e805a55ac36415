"""The story of `behind`, of a table that an application writes by plain SQL and a gallery serves in place.

The application inserts, updates and deletes rows; the gallery looks at the table again and fills the new side. The
story ends before the seal, which would hand the column over.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from behind import NEW, OLD, Story
from samespace.gallery import Gallery, Limits
from samespace.gallery.adoption.adopt import adopt_table
from samespace.gallery.adoption.inspect import Columns


class AdoptedStory(Story):
    """One application's table, adopted."""

    seals = False

    @property
    def table(self) -> str:
        """Its name."""
        return f"shop_{self.place.rpartition('_')[2]}"

    @contextmanager
    def _application(self) -> Iterator[Any]:
        with psycopg.connect(self.place.partition("&schema")[0], autocommit=True) as connection:
            yield connection

    def _put(self, ids: list[str], state: int = 0) -> None:
        """Insert or update rows as the application does."""
        sql = f"INSERT INTO {self.table} VALUES (%s, %s, %s) ON CONFLICT (id) DO UPDATE SET vec = excluded.vec"
        vectors = self.world.vectors[OLD, state]
        with self._application() as connection, connection.cursor() as cursor:
            cursor.executemany(sql, [(name, str(vectors[name].tolist()), self.world.labels[name]) for name in ids])

    def _create(self) -> None:
        with self._application() as connection:
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            connection.execute(f"CREATE TABLE {self.table} (id text PRIMARY KEY, vec vector({OLD.dim}), label text)")
        self._put(self.world.first)
        adopt_table(self.place, self.table, Columns("id", "vec", "label", ()), space=OLD)

    def _fill_some(self) -> None:
        """What the application is about to change waits until it has done so."""
        world = self.world
        ids = [name for name in world.first if name not in world.changing]
        with Gallery.open(self.place) as gallery:
            limits = Limits(batch_size=20, items=len(ids) // 2)
            gallery.backfill(vectors=world.set_of(NEW, ids), limits=limits)

    def _fill_all(self) -> None:
        with Gallery.open(self.place) as gallery:
            gallery.sync()
        for state in (0, 1):
            self._fill(None, state)

    def _add(self, gallery: Gallery, ids: list[str], pause: float = 0.0) -> None:
        for row, name in enumerate(ids):
            self._put([name])
            if row % 3 == 0:
                gallery.sync()
                gallery.backfill(vectors=self.world.set_of(NEW, [name]))
            time.sleep(pause)
        gallery.sync()

    def _change(self, gallery: Gallery, name: str) -> None:
        self._put([name], 1)

    def _remove(self, gallery: Gallery, name: str) -> None:
        with self._application() as connection:
            connection.execute(f"DELETE FROM {self.table} WHERE id = %s", [name])
