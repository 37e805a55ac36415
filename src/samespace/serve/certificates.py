"""The verdict of a certificate in words, from what a gallery keeps of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from samespace.evaluate.certificate import MetricResult
from samespace.report.wording import Judged, Verdict, verdict
from samespace.typed import read

_USUAL = 0.95  # of the intervals, which galleries of earlier versions do not say


def verdict_of(certificate: Mapping[str, Any]) -> Verdict:
    """The verdict of a certificate that a gallery keeps."""
    metrics = {
        name: read(MetricResult, value, f"the certificate in the gallery: metrics.{name}")
        for name, value in certificate["metrics"].items()
    }
    confidence = certificate.get("confidence", _USUAL)
    return verdict(Judged(certificate["compatible"], confidence, metrics, certificate.get("fusion")))
