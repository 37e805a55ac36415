from __future__ import annotations

import numpy as np
import pytest

from samespace.errors import InputError
from samespace.metrics import spread


def test_mean_and_deviation_are_summed_in_double_precision():
    scores = np.random.default_rng(0).uniform(0.4, 0.6, size=100_000).astype(np.float32)
    one = spread(scores)
    mean = sum(map(float, scores)) / len(scores)
    assert one.mean == pytest.approx(mean, abs=1e-12)
    assert one.std == pytest.approx((sum((float(s) - mean) ** 2 for s in scores) / len(scores)) ** 0.5, abs=1e-12)


def test_no_score_is_refused():
    with pytest.raises(InputError, match="at least one score"):
        spread([])
