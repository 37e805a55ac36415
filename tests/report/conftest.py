"""Certificates of real checks on made-up vectors: one with every part, one that fails, one of a benchmark's kind."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from samespace.evaluate import Certificate, check
from samespace.evaluate.certificate import MetricResult
from samespace.space import Space
from samespace.vectors import VectorSet

METRICS = ["rank@1", "rank@5", "TAR@FAR=1e-2", "TPIR-merged@FPIR=1e-1", "mAP"]
IDENTITIES, STRANGERS, DIM = 40, 10, 16

Sides = tuple[VectorSet, VectorSet]


def made(name: str, noise: float, seed: int, turn: np.ndarray | None = None) -> Sides:
    """Queries and gallery by one model: what an identity looks like, and noise; `turn` is the model's own axes."""
    look = np.random.default_rng(0).normal(size=(IDENTITIES + STRANGERS, DIM))
    generator = np.random.default_rng(seed)
    space = Space(weights=f"{seed:064x}", preprocessing="resize 32", dim=DIM, normalized=True, name=name)

    def side(count: int, labels: np.ndarray, kind: str) -> VectorSet:
        vectors = look[labels] + noise * generator.normal(size=(count, DIM))
        return VectorSet.from_arrays(
            (vectors if turn is None else vectors @ turn).astype(np.float32),
            labels=np.array([f"Tagalog-{label:02d}" for label in labels]),
            ids=[f"{kind}{place:04d}" for place in range(count)],
            space=space,
            name=name,
        )

    return side(200, np.arange(200) % (IDENTITIES + STRANGERS), "q"), side(160, np.arange(160) % IDENTITIES, "g")


def checked(new: Sides, old: Sides, **more: Any) -> Certificate:
    certificate = check(
        queries=new[0], gallery=old[1], baseline=old[0], metrics=METRICS, replicates=200, examples=5, **more
    )
    return replace(certificate, created="2026-01-01T00:00:00Z")


@pytest.fixture(scope="session")
def old() -> Sides:
    return made("glyphs-v1", 1.3, 1)


@pytest.fixture(scope="session")
def paragon() -> Sides:
    return made("glyphs-v2 (no influence)", 0.6, 3, np.linalg.qr(np.random.default_rng(3).normal(size=(DIM, DIM)))[0])


@pytest.fixture(scope="session")
def compatible(old: Sides, paragon: Sides) -> Certificate:
    """Every part is there, every metric is compatible."""
    new = made("glyphs-v2 (UniBCT refined)", 0.7, 2)
    certificate = checked(new, old, new_gallery=new[1], paragon=paragon)
    assert certificate.compatible
    assert None not in [
        part for name, part in vars(certificate).items() if name not in ("fusion", "baseline_space", "truncate")
    ]
    return replace(certificate, notes=("TPIR-merged@FPIR=1e-1 rests on few unmated queries.",))


@pytest.fixture(scope="session")
def failing(old: Sides, paragon: Sides) -> Certificate:
    """An independently trained successor: the cross test is at chance; mAP alone is made to rise without proof."""
    certificate = checked(paragon, old)
    rises = numbers(certificate["mAP"], cross=certificate["mAP"].old + 0.007, half=0.013)
    kept = {name: certificate[name] for name in ("rank@1", "TAR@FAR=1e-2")}
    return replace(certificate, metrics={**kept, "mAP": rises}, notes=("Nothing is proven.",))


@pytest.fixture(scope="session")
def minimal(old: Sides) -> Certificate:
    """Vectors of unknown origin and no optional input; as for a benchmark, values alone."""
    bare = [replace(side, space=None, name="") for side in old]
    certificate = check(queries=bare[0], gallery=bare[1], baseline=bare[0], metrics=["rank@1", "mAP"], replicates=100)
    return replace(
        certificate, strict=None, flips={}, curves=None, examples=(), data={"queries": 3}, options={}, diagnosis=()
    )


def numbers(metric: MetricResult, *, cross: float, old: float | None = None, half: float) -> MetricResult:
    """A result with other values, its gain's interval as wide as twice `half`."""
    old = metric.old if old is None else old
    gain = cross - old
    return replace(
        metric, old=old, cross=cross, absolute_gain=gain, difference=(gain - half, gain + half), criterion=gain > 0,
        compatible=gain > half,
    )  # fmt: skip


def with_metrics(certificate: Certificate, **changes: MetricResult) -> Certificate:
    """The certificate with some results replaced; names are given by a dictionary."""
    return replace(certificate, metrics={**certificate.metrics, **changes})
