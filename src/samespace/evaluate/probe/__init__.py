"""Probe: how strong is the old model, and which way of upgrading fits?"""

from __future__ import annotations

from samespace.evaluate.probe.near_copies import NearCopies, near_copies
from samespace.evaluate.probe.result import Probe, ProbeData, Strength
from samespace.evaluate.probe.run import METRICS, NEAR_DUPLICATE, probe
from samespace.evaluate.probe.ways import RECORDED, Advice, Gain, Measure, ways

__all__ = [
    "METRICS",
    "NEAR_DUPLICATE",
    "RECORDED",
    "Advice",
    "Gain",
    "Measure",
    "NearCopies",
    "Probe",
    "ProbeData",
    "Strength",
    "near_copies",
    "probe",
    "ways",
]
