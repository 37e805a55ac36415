"""Metrics: pure functions of scores and labels, each with its tie rule and threshold rule in its docstring.

The same metrics over blocks of scores and weighted identities are in `samespace.scoring`; the names by which a check
asks for them, in `samespace.scoring.metric_names`.
"""

from __future__ import annotations

from samespace.metrics.bootstrap import interval, paired_bootstrap, resamples
from samespace.metrics.calibration import Calibration, Scale, calibrate
from samespace.metrics.cohort import cohort_normalised
from samespace.metrics.compatibility import (
    StrictShares,
    absolute_gain,
    criterion,
    strict_criterion,
    update_gain,
)
from samespace.metrics.flips import Flips, flips
from samespace.metrics.identification import Matches, cmc, matches, rank_k, tpir_at_fpir
from samespace.metrics.retrieval import (
    average_precision,
    mean_average_precision,
    mean_average_precision_at_r,
    r_precision,
)
from samespace.metrics.spread import Spread, spread
from samespace.metrics.verification import Roc, allowed_count, roc, tar_at_far, threshold_at_far

__all__ = [
    "Calibration",
    "Flips",
    "Matches",
    "Roc",
    "Scale",
    "Spread",
    "StrictShares",
    "absolute_gain",
    "allowed_count",
    "average_precision",
    "calibrate",
    "cmc",
    "cohort_normalised",
    "criterion",
    "flips",
    "interval",
    "matches",
    "mean_average_precision",
    "mean_average_precision_at_r",
    "paired_bootstrap",
    "r_precision",
    "rank_k",
    "resamples",
    "roc",
    "spread",
    "strict_criterion",
    "tar_at_far",
    "threshold_at_far",
    "tpir_at_fpir",
    "update_gain",
]
