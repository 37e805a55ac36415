"""A PostgreSQL server that is stopped, frozen, killed or out of disk while a gallery on it is searched, filled, sealed.

    python benchmarks/gallery_chaos.py [--rounds 48] [--quick]

A round is one fault during one activity, on a gallery of its own: `stop` (in good order), `freeze` (SIGSTOP), `kill`
(SIGKILL of all its processes) and `full` (its disk runs full; needs root for a small tmpfs). After a moment the fault
is mended. What must hold: every call comes back by its deadline, rightly or by an error of one line; a backfill under
way waits for the server, unless its disk is full, and says so; nothing acknowledged is lost; the same call again
carries on to the end; then the gallery is what it would have been. Exit status: 0 all held, 1 something did not.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kill_world import NEW, OLD, World
from samespace.errors import GalleryError, SamespaceError
from samespace.gallery import Gallery, Limits
from samespace.gallery.backfill import worker
from samespace.gallery.ledger.postgres import watch as postgres_watch
from samespace.gallery.ledger.state import Link
from samespace.gallery.upgrade import seal as seal_module
from samespace.progress import bar

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "gallery"))

if TYPE_CHECKING:
    from servers import Server

ITEMS, DISK = 300, "220m"
FAULTS = ("stop", "freeze", "kill", "full")
ACTIVITIES = ("search", "backfill", "seal")


def impatient() -> None:
    """Deadlines of a second or two, so that a round takes no longer."""
    postgres_watch.QUIET_SECONDS, postgres_watch.CONNECT_SECONDS = 0.5, 2
    postgres_watch._DEFAULTS["connect_timeout"] = 2
    worker._FIRST_PAUSE_SECONDS, worker._LONGEST_PAUSE_SECONDS = 0.1, 0.5


def deadline() -> float:
    """Seconds in which any call must come back from a server that is silent: two tries, and some spare."""
    return 2 * (2 * postgres_watch.QUIET_SECONDS + 2 * postgres_watch.CONNECT_SECONDS) + 10


class Broken:
    """A fault of a server, and how to mend it."""

    def __init__(self, server: Server, disk: Path | None) -> None:
        self.server, self.disk = server, disk

    @contextmanager
    def by(self, fault: str) -> Iterator[None]:
        """While the block runs the server has a fault; afterwards it answers again."""
        if fault == "freeze":
            with self.server.frozen():
                yield
            return
        if fault == "full":
            assert self.disk is not None
            with (self.disk / "ballast").open("wb", buffering=0) as file, suppress(OSError):
                while file.write(b"x" * 65536):
                    pass
        else:
            self.server.stop() if fault == "stop" else self.server.kill9()
        try:
            yield
        finally:
            if fault == "full":
                assert self.disk is not None
                (self.disk / "ballast").unlink()
                # a server without room for its log ends itself
                time.sleep(0.3)
            if fault != "full" or not self.server.answers():
                self.server.restart()


class Round:
    """One fault during one activity."""

    def __init__(self, world: World, place: str, draw: random.Random) -> None:
        self.world, self.place, self.draw = world, place, draw
        self.problems: list[str] = []
        self.refused = self.longest = 0.0
        self.acknowledged = 0
        self.under_way = threading.Event()

    def run(self, activity: str, fault: str, broken: Broken) -> None:
        """Prepare, let it happen, look."""
        self.prepare(activity)
        over = threading.Event()
        thread = threading.Thread(target=self._acting, args=(activity, over), daemon=True)
        thread.start()
        self.under_way.wait(deadline())
        time.sleep(self.draw.uniform(0.0, 0.3))
        with broken.by(fault):
            time.sleep(self.draw.uniform(0.3, 1.0) + 2 * postgres_watch.QUIET_SECONDS)
        over.set()
        thread.join(4 * deadline())
        if thread.is_alive():
            self.problems.append(f"{activity} did not come back")
            return
        self.look()

    def prepare(self, activity: str) -> None:
        """A gallery in an upgrade; for a seal with every new vector."""
        with Gallery.create(self.place, OLD) as gallery:
            gallery.add(self.world.old)
            gallery.plan(NEW, order="random")
            with gallery.ledger.write() as writer:
                writer.put_link(Link(2, 1, OLD.dim, {"created": "made up"}))
                for pair in ((1, 1), (2, 1), (2, 2)):
                    writer.put_calibration(*pair, self.world.calibration, "made up")
            gallery.upgrade()
            if activity == "seal":
                gallery.backfill(vectors=self.world.new)
            self.right = gallery.search(self.world.queries, k=7, count=False).hits

    def _acting(self, activity: str, over: threading.Event) -> None:
        """Do it until it has come to its end after the fault; errors of one line are met by doing it again."""
        actions: dict[str, Callable[[Gallery], object]] = {
            "search": self._search,
            "backfill": self._backfill,
            "seal": self._seal,
        }
        done, give_up = False, time.monotonic() + 3 * deadline()
        while not (done and (over.is_set() or activity != "search")):
            began = time.monotonic()
            try:
                with Gallery.open(self.place) as gallery:
                    actions[activity](gallery)
                done = True
            except SamespaceError as error:
                self.refused += 1
                done = done and activity == "search"
                if "\n" in str(error):
                    self.problems.append(f"an error of several lines: {error}")
                if "sealed already" in str(error):
                    # its last commit was acknowledged to nobody
                    return
                time.sleep(0.05)
            except BaseException as error:
                self.problems.append(f"{activity} ended by {type(error).__name__}: {error}")
                return
            taken = time.monotonic() - began
            # a backfill waits for the server as long as it takes, and says so
            if activity != "backfill":
                self.longest = max(self.longest, taken)
                if taken > deadline():
                    self.problems.append(f"{activity} took {taken:.0f} s, its deadline is {deadline():.0f} s")
            if time.monotonic() > give_up:
                self.problems.append(f"{activity} never came to its end")
                return

    def _search(self, gallery: Gallery) -> None:
        if gallery.search(self.world.queries, k=7, count=False).hits != self.right:
            self.problems.append("a search answered otherwise than before the fault")
        self.under_way.set()

    def _seal(self, gallery: Gallery) -> None:
        def advance(done: int, note: str = "") -> None:
            self.under_way.set()
            time.sleep(0.02)

        gallery.seal(advance=advance)

    def _backfill(self, gallery: Gallery) -> None:
        def advance(done: int, note: str = "") -> None:
            self.acknowledged += done
            self.under_way.set()

        before = self.acknowledged
        try:
            gallery.backfill(vectors=self.world.new, limits=Limits(batch_size=20, rate=400), advance=advance)
        except SamespaceError as error:
            if self.acknowledged > before and "disk" not in str(error):
                self.problems.append(f"a backfill that was under way ended instead of waiting: {error}")
            raise

    def look(self) -> None:
        """Nothing is lost, and the work comes to its end."""
        with Gallery.open(self.place) as gallery:
            (held,) = [kept.vectors for kept in gallery.status().spaces if kept.space == NEW]
            if held < self.acknowledged:
                self.problems.append(f"{self.acknowledged - held} vectors were acknowledged and are gone")
            if any(kept.vectors for kept in gallery.status().spaces if kept.space == OLD):
                gallery.backfill(vectors=self.world.new)
                gallery.seal()
            diagnosis = gallery.doctor()
            if not diagnosis.healthy:
                self.problems.append(f"the doctor: {[one.what for one in diagnosis.findings if one.level == 'error']}")
            with gallery.ledger.read() as reader:
                rows = {item: value for one in reader.batches(2)
                        for item, value in zip(one.items.tolist(), one.values, strict=True)}  # fmt: skip
                names = {number: item.id for number, item in reader.items(sorted(rows)).items()}
            stored = {names[item]: value.tobytes() for item, value in rows.items()}
            given = zip(self.world.new.ids.tolist(), self.world.new.vectors, strict=True)
            if stored != {name: value.tobytes() for name, value in given}:
                self.problems.append("the new vectors are not those that were given")


def small_disk() -> Path | None:
    """A mounted tmpfs for the server; None where that is not allowed."""
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    folder.chmod(0o755)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)], capture_output=True)
    return None if mounted.returncode else folder


def main() -> None:
    """Run the rounds and print a table."""
    from servers import start

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="deadlines of a second or two instead of ten")
    given = parser.parse_args()
    if given.quick:
        impatient()
    world, draw, began = World.of(ITEMS, given.seed), random.Random(given.seed), time.monotonic()
    disk = small_disk()
    server = start(None if disk is None else disk / "data")
    pairs = [(fault, activity) for fault in FAULTS for activity in ACTIVITIES if fault != "full" or disk is not None]
    draw.shuffle(pairs)
    found: dict[tuple[str, str], Counter[str]] = {}
    problems: list[str] = []
    try:
        with bar("chaos", given.rounds, "rounds") as advance:
            for number in range(given.rounds):
                fault, activity = pairs[number % len(pairs)]
                one = Round(world, f"{server.address}&schema=chaos_{number}", draw)
                try:
                    one.run(activity, fault, Broken(server, disk))
                except GalleryError as error:
                    one.problems.append(f"afterwards: {error}")
                counts = found.setdefault((fault, activity), Counter())
                counts.update(rounds=1, refused=int(one.refused), problems=len(one.problems))
                counts["longest"] = max(counts["longest"], round(one.longest))
                problems += [f"round {number}, {fault} during {activity}: {what}" for what in one.problems]
                print(*problems[len(problems) - len(one.problems) :], sep="\n", end="", file=sys.stderr, flush=True)
                advance(1, f"{len(problems)} problems")
    finally:
        server.close()
        if disk is not None:
            subprocess.run(["umount", "-l", str(disk)], check=False)
            shutil.rmtree(disk, ignore_errors=True)
    print_table(found, problems, time.monotonic() - began)
    sys.exit(1 if problems else 0)


def print_table(found: dict[tuple[str, str], Counter[str]], problems: list[str], seconds: float) -> None:
    """Print what happened, a line for each fault and activity."""
    print(f"deadline {deadline():.0f} s, {ITEMS} items\n\n| fault | during | rounds | calls refused in one line | "
          "longest call, s | problems |\n|---|---|---:|---:|---:|---:|")  # fmt: skip
    for (fault, activity), counts in sorted(found.items()):
        numbers: list[Any] = [counts[name] for name in ("rounds", "refused", "longest", "problems")]
        print(f"| {fault} | {activity} | {' | '.join(map(str, numbers))} |")
    print(f"\n{sum(one['rounds'] for one in found.values())} rounds, {len(problems)} problems, {seconds:.0f} s")


if __name__ == "__main__":
    # deletions come in small steps, so that the fault meets some of them
    seal_module._BATCH = 25
    main()
