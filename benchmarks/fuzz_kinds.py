"""What `gallery_fuzz.py` tries: ledger files, index files, settings, ids, metadata and filters of a small gallery.

A try that ends by a `SamespaceError` of one line, or rightly, holds; anything else is a fault.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from fuzz_bytes import Draw, altered, damaged
from samespace.errors import SamespaceError
from samespace.gallery import Gallery
from samespace.gallery.backfill.limits import Limits
from samespace.gallery.index.local.source import LocalSource
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.state import Link
from samespace.gallery.metadata import read_metadata
from samespace.metrics.calibration import Band, Calibration
from samespace.space import Space
from samespace.vectors import VectorSet

OLD = Space(weights="old", preprocessing="none", dim=8, normalized=True, name="v1")
NEW = Space(weights="new", preprocessing="none", dim=12, normalized=True, name="v2")
COUNT, GRAPH_FROM = 60, 20
LEDGER = "gallery.db"


class Fault(Exception):
    """What was answered or said is not what it should be."""


def made_vectors(space: Space, count: int, seed: int) -> np.ndarray:
    """Unit vectors of a space."""
    values = np.random.default_rng(seed).standard_normal((count, 12))[:, : space.dim]
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def opened(place: Path) -> Gallery:
    """The gallery, with an approximate index for as few items as it has."""
    ledger = Ledger.open(place)
    return Gallery(ledger, LocalSource(ledger, place / "index", graph_from=GRAPH_FROM))


def make(place: Path) -> None:
    """A gallery in mid-backfill with index files."""
    ids = [f"item-{number:02d}" for number in range(COUNT)]
    metadata = {name: {"shop": ("berlin", "paris")[row % 2], "year": row} for row, name in enumerate(ids)}
    labels = [f"class-{row % 5}" for row in range(COUNT)]
    old = VectorSet.from_arrays(made_vectors(OLD, COUNT, 1), ids=ids, labels=labels, space=OLD)
    new = VectorSet.from_arrays(made_vectors(NEW, COUNT, 1), ids=ids, space=NEW)
    Gallery.create(place, OLD).close()
    known = Calibration(12.0, -5.0, (-1.0, 1.0), (0.0, 5.0), 1000, 100_000, Band((11, 13), (-6, -4), 1e-4))
    with opened(place) as gallery:
        gallery.add(old, metadata=metadata)
        gallery.plan(NEW, order="random")
        with gallery.ledger.write() as writer:
            writer.put_link(Link(2, 1, OLD.dim, {"certificate": "made up"}))
            for pair in ((1, 1), (2, 1), (2, 2)):
                writer.put_calibration(*pair, known, "made up")
        gallery.upgrade()
        gallery.backfill(vectors=new.subset(np.arange(0, COUNT, 2)))
        gallery.maintain()


class Kind:
    """One kind of input; `place` is a gallery of its own, `files` the bytes that it begins with."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.files = {file.relative_to(place): file.read_bytes() for file in place.rglob("*") if file.is_file()}
        self.asked = VectorSet.from_arrays(made_vectors(NEW, 2, 5), space=NEW)
        self.right = self._all()

    def _all(self) -> list[dict[str, tuple[float | None, float]]]:
        with opened(self.place) as gallery:
            hits = gallery.search(self.asked, k=COUNT, exact=True, count=False).hits
        return [{hit.item: (hit.score, hit.raw) for hit in one} for one in hits]

    def restore(self, changed: dict[Path, bytes] | None = None) -> None:
        """The files as they were, but for some."""
        shutil.rmtree(self.place, ignore_errors=True)
        for name, content in {**self.files, **(changed or {})}.items():
            (self.place / name).parent.mkdir(parents=True, exist_ok=True)
            (self.place / name).write_bytes(content)

    def prepare(self) -> None:
        """Before the first try of a process."""

    def attempt(self, draw: Draw) -> None:
        """One try. Raises whatever it should not."""
        raise NotImplementedError

    def use(self, draw: Draw) -> None:
        """Open the gallery and do one of the things that a gallery does."""
        with opened(self.place) as gallery:
            draw.one(self._uses())(gallery)

    def _uses(self) -> list[Callable[[Gallery], object]]:
        fresh = VectorSet.from_arrays(made_vectors(NEW, 2, 9), ids=["fresh-1", "fresh-2"], space=NEW)
        rest = VectorSet.from_arrays(
            made_vectors(NEW, COUNT, 1), ids=[f"item-{row:02d}" for row in range(COUNT)], space=NEW
        )
        search = [
            lambda gallery: gallery.search(self.asked, k=5),
            lambda gallery: gallery.search(self.asked, k=5, exact=True),
            lambda gallery: gallery.search(self.asked, k=5, where={"shop": "berlin", "year": (">", 4)}, max_fmr=0.01),
        ]
        once: list[Callable[[Gallery], object]] = [
            lambda gallery: gallery.status(),
            lambda gallery: gallery.doctor(),
            lambda gallery: gallery.add(fresh),
            lambda gallery: gallery.remove(["item-03", "item-04"]),
            lambda gallery: _filled(gallery, rest),
            lambda gallery: gallery.rollback(),
            lambda gallery: gallery.seal(partial=True),
            lambda gallery: gallery.get("item-07"),
        ]
        return 2 * search + once


def _filled(gallery: Gallery, vectors: VectorSet) -> None:
    """Backfill; one that would wait without end may do so only for a pause or for the claims of others."""
    done = gallery.backfill(vectors=vectors, limits=Limits(seconds=1.0))
    if "seconds of this run" not in done.ended:
        return
    with gallery.ledger.read() as reader:
        owners = [owner for space in reader.state().spaces for owner in reader.owners(space)]
        if not owners and not any(upgrade.paused for upgrade in reader.state().upgrades):
            raise Fault(f"a backfill waits for nothing: {done}")


class LedgerFiles(Kind):
    """The database's bytes, or values in its tables."""

    def attempt(self, draw: Draw) -> None:
        """Damage, open, use."""
        name = Path(LEDGER)
        if draw.chance(0.5):
            self.restore({name: damaged(draw, self.files[name])})
        else:
            self.restore()
            with closing(sqlite3.connect(self.place / LEDGER)) as database:
                database.execute("PRAGMA synchronous = OFF")
                for _ in range(1 + draw.below(3)):
                    self._alter(draw, database)
                database.commit()
        self.use(draw)

    def _alter(self, draw: Draw, database: sqlite3.Connection) -> None:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        table = draw.one([name for name in tables if not name.startswith("sqlite_")] or ["item"])
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        column, value = draw.one(columns or ["x"]), draw.scalar()
        if isinstance(value, int) and abs(value) >= 2**63:
            value = str(value)
        if isinstance(value, str) and draw.chance(0.3):
            value = value.encode("utf-8", "replace")
        some = draw.one(("", f" WHERE rowid = {1 + draw.below(9)}", " WHERE random() % 2"))
        change = draw.below(20)
        statement = f"UPDATE {table} SET {column} = ?{some}"
        values: list[Any] = [value]
        if change < 3:
            statement, values = f"DELETE FROM {table}{some}", []
        elif change == 3:
            statement, values = f"DROP TABLE {table}", []
        elif change == 4:
            statement, values = f"CREATE TRIGGER odd AFTER INSERT ON {table} BEGIN DELETE FROM item; END", []
        elif change == 5:
            statement, values = f"ALTER TABLE {table} RENAME COLUMN {column} TO odd", []
        elif change == 6:
            statement, values = f"INSERT INTO {table} SELECT * FROM {table} LIMIT 3", []
        elif change < 10:
            statement = f"UPDATE {table} SET {column} = {column} {draw.one('+-*/|')} 1{some}"
            values = []
        try:
            database.execute(statement, values)
        except (sqlite3.Error, UnicodeEncodeError, OverflowError):
            # the database itself refuses it
            return


class IndexFiles(Kind):
    """Bytes of the index files, or JSON in them: answers stay right."""

    def attempt(self, draw: Draw) -> None:
        """Damage, open, search, maintain."""
        names = [name for name in self.files if name.parts[0] == "index"]
        changed = {}
        for name in {draw.one(names) for _ in range(1 + draw.below(2))}:
            content = self.files[name]
            if name.suffix == ".json" and draw.chance(0.7):
                changed[name] = altered(draw, content.decode()).encode("utf-8", "replace")
            else:
                changed[name] = damaged(draw, content)
        self.restore(changed)
        if draw.chance(0.1):
            # not there at all
            (self.place / draw.one(names)).unlink()
        with opened(self.place) as gallery:
            exact, k = draw.chance(0.5), draw.one((1, 3, COUNT))
            self._compare(gallery.search(self.asked, k=k, exact=exact, count=False), k)
            if draw.chance(0.2):
                gallery.doctor()
            if draw.chance(0.2):
                gallery.maintain()
                self._compare(gallery.search(self.asked, k=k, exact=exact, count=False), k)

    def _compare(self, answer: Any, k: int) -> None:
        for hits, right in zip(answer.hits, self.right, strict=True):
            found = {hit.item: (hit.score, hit.raw) for hit in hits}
            if len(found) != min(k, COUNT) or any(right.get(name) != value for name, value in found.items()):
                raise Fault(f"a search for {k} answered {len(found)} hits, or with other scores")


class Settings(Kind):
    """JSON within the ledger: settings, descriptions of spaces, plans, certificates, calibrations, audit."""

    _HELD = (
        ("meta", "value"), ("meta", "value"), ("space", "description"), ("upgrade", "plan"), ("link", "certificate"),
        ("calibration", "value"), ("item", "metadata"), ("audit", "detail"),
    )  # fmt: skip

    def attempt(self, draw: Draw) -> None:
        """Alter one, open, use."""
        self.restore()
        table, column = draw.one(self._HELD)
        with closing(sqlite3.connect(self.place / LEDGER)) as database:
            database.execute("PRAGMA synchronous = OFF")
            rows = database.execute(f"SELECT rowid, {column} FROM {table} WHERE {column} IS NOT NULL").fetchall()
            if rows:
                row, text = draw.one(rows)
                changed = altered(draw, str(text)).encode("utf-8", "replace").decode("utf-8", "replace")
                database.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", [changed, row])
                database.commit()
        self.use(draw)


class _OnOneGallery(Kind):
    """Tries on a gallery that stays open, made anew now and then."""

    _TRIES = 400

    def prepare(self) -> None:
        """Open it."""
        self._left = 0
        self._gallery: Gallery | None = None

    def open(self) -> Gallery:
        """The gallery."""
        if self._gallery is None or not self._left:
            if self._gallery is not None:
                self._gallery.close()
            self.restore()
            self._gallery, self._left = opened(self.place), self._TRIES
        self._left -= 1
        return self._gallery


class Ids(_OnOneGallery):
    """Ids and labels: stored as they are, or refused."""

    def attempt(self, draw: Draw) -> None:
        """Add some, look each up."""
        gallery, count = self.open(), 1 + draw.below(3)
        odd = draw.scalar if draw.chance(0.3) else draw.text
        ids = [odd() if draw.chance(0.6) else f"more-{self._left}-{row}" for row in range(count)]
        labels = [odd() for _ in ids] if draw.chance(0.5) else None
        values = made_vectors(NEW, count, self._left)
        given = VectorSet.from_arrays(values, ids=ids, labels=labels, space=NEW)
        gallery.add(given, update=draw.chance(0.3))
        for place, name in enumerate(given.ids.tolist()):
            kept = gallery.get(name)
            if kept is None or (given.labels is not None and kept.label != str(given.labels[place])):
                raise Fault(f"{name!r}, {labels!r} became {kept!r}")


class Metadata(_OnOneGallery):
    """Metadata of items, given or in a file: kept as it is, or refused."""

    def attempt(self, draw: Draw) -> None:
        """Add an item with it, look it up; or read a file."""
        gallery = self.open()
        if draw.chance(0.3):
            self._read(draw)
            return
        name = f"more-{self._left}"
        given = {draw.text() if draw.chance(0.5) else "shop": draw.value() for _ in range(1 + draw.below(3))}
        vectors = VectorSet.from_arrays(made_vectors(NEW, 1, self._left), ids=[name], space=NEW)
        gallery.add(vectors, metadata={name: given})
        kept = gallery.get(name)
        if kept is None or dict(kept.metadata) != given:
            raise Fault(f"metadata {given!r} came back as {kept and dict(kept.metadata)!r}")

    def _read(self, draw: Draw) -> None:
        file = self.place / draw.one(("some.jsonl", "some.csv", "some.tsv"))
        rows = [{"id": f"item-{row}", "shop": draw.scalar(), draw.text(): draw.value()} for row in range(3)]
        lines = "\n".join(
            json.dumps(row) if file.suffix == ".jsonl" else ",".join(map(str, row.values())) for row in rows
        )
        header = b"" if file.suffix == ".jsonl" else b"id,shop,year\n"
        content = header + lines.encode("utf-8", "surrogatepass")
        file.write_bytes(damaged(draw, content) if draw.chance(0.5) else content)
        read_metadata(file)


class Filters(_OnOneGallery):
    """Filters and options of searches."""

    def attempt(self, draw: Draw) -> None:
        """Search."""
        options: dict[str, Any] = {}
        if draw.chance(0.3):
            name = draw.one(("k", "min_score", "max_fmr"))
            options[name] = draw.one(
                (draw.below(100), draw.scalar() if name == "k" else float(draw.below(9)) / 7, 2**70)
            )
        answer = self.open().search(self.asked, where=self._where(draw), count=False, **options)
        for hits, right in zip(answer.hits, self.right, strict=True):
            if any(right.get(hit.item) != (hit.score, hit.raw) for hit in hits):
                raise Fault("a filter changed a score")

    def _where(self, draw: Draw) -> Any:
        operators = ("=", "!=", "<", "<=", ">", ">=", "in", "|", "~", "")
        keys = ("shop", "year", "label", "id")

        def key() -> str:
            return str(draw.one(keys)) if draw.chance(0.6) else str(draw.text())

        if draw.chance(0.4):
            return [f"{key()}{draw.one(operators)}{draw.scalar()}" for _ in range(1 + draw.below(3))]
        if draw.chance(0.1):
            return draw.text()
        values = (
            draw.value,
            lambda: (draw.one(operators), draw.value()),
            lambda: {draw.text(), 3},
            lambda: list(range(draw.one((2, 500, 10_001)))),
            lambda: np.float32(draw.below(9)),
            lambda: b"bytes",
        )
        return {key(): draw.one(values)() for _ in range(1 + draw.below(2))}


KINDS: dict[str, type[Kind]] = {
    "ledger": LedgerFiles,
    "index": IndexFiles,
    "settings": Settings,
    "ids": Ids,
    "metadata": Metadata,
    "filters": Filters,
}


def holds(kind: Kind, draw: Draw) -> None:
    """One try; a refusal in one line is right.

    Raises:
        Exception: whatever else came of it.
    """
    try:
        kind.attempt(draw)
    except SamespaceError as error:
        text = str(error)
        if "\n" in text or not 0 < len(text) < 3000:
            raise Fault(f"a message of {len(text)} characters in several lines: {text[:300]!r}") from error
