"""The verdict of a certificate in words, from what a gallery keeps of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samespace.evaluate.certificate import MetricResult
from samespace.report.wording import Judged, Verdict, verdict
from samespace.typed import read

_USUAL = 0.95  # of the intervals, which galleries of earlier versions do not say


def verdict_of(certificate: Mapping[str, Any]) -> Verdict | None:
    """The verdict of a certificate that a gallery keeps, as it follows from its metrics; None where it has none."""
    metrics = {
        name: read(MetricResult, value, f"the certificate in the gallery: metrics.{name}")
        for name, value in certificate["metrics"].items()
    }
    if not metrics:
        return None
    compatible = all(one.compatible for one in metrics.values())
    return verdict(Judged(compatible, certificate.get("confidence", _USUAL), metrics, certificate.get("fusion")))
