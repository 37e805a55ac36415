"""Checks by relevance judgements (qrels) in the place of labels."""

from __future__ import annotations

from samespace.evaluate.relevance.check import check_judged
from samespace.evaluate.relevance.judgements import Judgements

__all__ = ["Judgements", "check_judged"]
