"""Services that end with the test, and a gallery for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from samespace.gallery import Gallery

if TYPE_CHECKING:
    from .running import Running, Service


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    """Starts services, and stops them after the test."""
    from .running import Running

    running: list[Running] = []

    def started(service: Service, **options: Any) -> Running:
        running.append(Running(service, **options))
        return running[-1]

    yield started
    for one in running:
        one.transport.end()


@pytest.fixture
def shop(tmp_path: Path) -> Gallery:
    """A gallery of forty vectors."""
    from .running import OLD, made

    gallery = Gallery.create(tmp_path / "shop", OLD)
    gallery.add(made(40))
    return gallery
