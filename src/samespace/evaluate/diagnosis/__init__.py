"""Diagnosis: why a check says no, the most likely cause first, each with its figures and the next command."""

from __future__ import annotations

from samespace.evaluate.diagnosis.commands import Files
from samespace.evaluate.diagnosis.diagnose import diagnose
from samespace.evaluate.diagnosis.early import paragon_behind
from samespace.evaluate.diagnosis.evidence import Evidence, gather

__all__ = ["Evidence", "Files", "diagnose", "gather", "paragon_behind"]
