"""Judging: may vectors of a new space search a gallery of an old one? The answer is a certificate."""

from __future__ import annotations

from samespace.evaluate.certificate import Certificate, MetricResult
from samespace.evaluate.check import check
from samespace.evaluate.probe import NearCopies, Probe, near_copies, probe

__all__ = ["Certificate", "MetricResult", "NearCopies", "Probe", "check", "near_copies", "probe"]
