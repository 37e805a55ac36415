"""Tails that are counted give what tails that are kept give, to the last bit."""

from __future__ import annotations

import os
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samespace.evaluate import check
from samespace.scoring import scores as scores_module
from samespace.scoring.scores import collect_scores
from samespace.scoring.thresholds import TailTooShort
from samespace.scoring.tiles import band, counted_tail, score_counts
from samespace.scoring.tiles.counted_tail import CountedTail
from samespace.scoring.tiles.score_counts import ScoreCounts
from samespace.scoring.weighted import tar_at_far

EXAMPLES = int(os.environ.get("SAMESPACE_EXAMPLES", "1"))


@settings(max_examples=25 * EXAMPLES, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 50), st.sampled_from([0.02, 1.0, 1e20]))
def test_counts_are_those_of_sorted_scores(seed, size, scale):
    generator = np.random.default_rng(seed)
    scores = (generator.integers(-4, 5, 60) * generator.random(60) * scale).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score_counts, "_BUFFERED", seed % 40)
        counts = ScoreCounts(size, -np.inf)
        for part in np.array_split(scores, 7):
            counts.take(part, part, part)
    ordered = np.sort(scores)[::-1]
    assert len(counts) == min(size, 60)
    assert [counts.largest(place) for place in range(60)] == ordered.tolist()
    for score in ordered[:size].tolist():
        assert counts.reaching(score) == min(size, np.count_nonzero(scores >= score))
        assert counts.below(score) == max(scores[scores < score].tolist(), default=-np.inf)
    with pytest.raises(IndexError):
        counts.largest(60)


@pytest.mark.usefixtures("by_tiles")
@pytest.mark.parametrize("score", ["cosine", "ip", "l2"])
@settings(max_examples=5 * EXAMPLES, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["grid", "spread", "copies", "near"]),
    st.integers(2, 12),
    st.sampled_from(["float32", "binary"]),
    st.sampled_from([30, 200, 10_000]),
    st.sampled_from(["0", "1e-2", "0.1", "0.3"]),
)
def test_thresholds_are_those_of_a_tail_that_is_kept(made, score, seed, kind, classes, stored_as, at_once, rate):
    aligned = made(seed, kind=kind, classes=classes, score=score, stored_as=stored_as)
    size = 20 + seed % 2000
    counts = np.random.default_rng(seed).integers(0, 4, size=(9, aligned.mates.identities))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counted_tail, "_BAND", at_once)
        patch.setattr(band, "_TILE_QUERIES", 9)
        patch.setattr(band, "_TILE_ITEMS", 11)
        patch.setattr(band, "_WEIGHED_ROWS", 2)
        patch.setattr(band, "_EXACT", 1 << 24 if seed % 2 else 1)
        kept, counted = (collect_scores(aligned.pairs, aligned.mates, size, counted=some) for some in (False, True))
        for name, one in kept.items():
            tail = counted[name].tail
            assert isinstance(tail, CountedTail)
            assert (len(tail), tail.complete) == (len(one.tail), one.tail.complete)
            for place in {0, len(tail) // 3, len(tail) - 1} if len(tail) else ():
                assert tail.largest(place) == one.tail.largest(place)
                assert tail.reaching(tail.largest(place)) == one.tail.reaching(tail.largest(place))
            for weights in (np.ones_like(counts), counts):
                found = []
                for some in (kept, counted):
                    try:
                        found.append(tar_at_far(some[name], weights, Fraction(rate)).tolist())
                    except TailTooShort:
                        found.append("too short")
                # of a value that many scores have, a tail that is kept may hold too few
                assert found[0] == "too short" or np.array_equal(found[0], found[1], equal_nan=True)


@pytest.mark.parametrize("at_once", [2000, 1 << 20])
def test_all_of_a_certificate_is_the_same_with_counted_tails(world, monkeypatch, at_once):
    monkeypatch.setattr(scores_module, "_LARGE", 0)
    monkeypatch.setattr(scores_module, "_FEWEST_OTHERS", 0)
    monkeypatch.setattr(counted_tail, "_BAND", at_once)
    options = {"metrics": ["rank@1", "TAR@FAR=1e-2", "TAR@FAR=0.1"], "replicates": 20}
    kept = check(**world.sets(), **options).to_dict()
    monkeypatch.setattr(sys.modules["samespace.evaluate.check"], "counts_tails", lambda sizes, mates: True)
    counted = check(**world.sets(), **options).to_dict()
    assert {**kept, "created": ""} == {**counted, "created": ""}
