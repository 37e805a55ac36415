"""Judging: may vectors of a new space search a gallery of an old one? The answer is a certificate."""

from __future__ import annotations

from samespace.evaluate.certificate import Certificate, MetricResult
from samespace.evaluate.check import check

__all__ = ["Certificate", "MetricResult", "check"]
