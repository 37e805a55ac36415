"""The path of `CONTRIBUTING.md`: a new metric of a check is a function and one line in `KINDS`."""

from __future__ import annotations

import numpy as np
import pytest

from samespace.evaluate import check
from samespace.scoring.metric_names import KINDS, Kind
from samespace.scoring.weighted import weighted_mean


def reciprocal_rank(scores, counts, argument):
    matches = scores.matches
    values = np.where(matches.mated, 1 / np.maximum(matches.rank, 1), np.nan)
    return weighted_mean(values, scores.mates.query_codes, counts)


def test_a_new_line_in_the_table_is_a_metric_of_a_check(world, monkeypatch):
    monkeypatch.setitem(KINDS, "MRR", Kind("MRR", reciprocal_rank))
    certificate = check(**world.sets("new_gallery"), metrics=["MRR", "rank@1"], replicates=200)
    result = certificate["MRR"]
    assert result.compatible
    assert certificate["rank@1"].cross < result.cross < 1
    assert certificate.backfill.points[0].values["MRR"] == pytest.approx(result.cross)
    low, high = result.intervals["cross"]
    assert low < result.cross < high
