"""What a search accepts and refuses, and how scores and thresholds come out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samespace.errors import GalleryError, InputError, SpaceError
from samespace.gallery.index.local.source import LocalSnapshot, LocalSource
from samespace.gallery.ledger.filters import Condition, conditions
from samespace.gallery.ledger.state import Link
from samespace.gallery.search.search import search

from .made import HONEST, Made, as_rows, half_way, made_calibration, made_space, made_vectors, prefix

QUERIES = made_vectors(4, 32, seed=9)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return half_way(tmp_path, count=120)


@pytest.fixture
def source(made: Made) -> LocalSource:
    return LocalSource(made.ledger, None)


def test_an_answer_says_what_met_what(made: Made, source: LocalSource) -> None:
    answer = search(source, QUERIES, made.spaces[2])
    assert (answer.space, answer.scale, answer.merge, answer.notes) == (made.spaces[2].id, "logistic", "calibrated", ())
    assert [(pair.space, pair.dims, pair.certified, pair.calibrated) for pair in answer.pairs] == [
        (made.spaces[1].id, 16, True, True),
        (made.spaces[2].id, 32, True, True),
    ]
    with made.ledger.write() as writer:
        writer.put_link(Link(2, 1, 16))
    later = search(source, QUERIES, made.spaces[2])
    assert later.revision > answer.revision
    assert [pair.certified for pair in later.pairs] == [False, True]
    assert "accepted without a certificate" in later.notes[0]
    assert later.hits == answer.hits


def test_raw_merge_sorts_by_cosine(made: Made, source: LocalSource) -> None:
    answer = search(source, QUERIES, made.spaces[2], merge="raw", k=50)
    assert as_rows(answer) == made.slow(QUERIES, 50, by="raw")
    assert as_rows(answer) != made.slow(QUERIES, 50)
    assert "do not mean the same" in answer.notes[0]


def test_scale_is_the_gallerys_unless_given(made: Made, source: LocalSource) -> None:
    levels = search(source, QUERIES, made.spaces[2], scale="fmr", k=200)
    for hit in levels.hits[0]:
        generation = 1 if hit.space == made.spaces[1].id else 2
        assert hit.score == made_calibration(*HONEST[2, generation]).level(hit.raw)
    scores = [hit.score for hit in levels.hits[0]]
    assert scores == sorted(scores, reverse=True)
    with made.ledger.write() as writer:
        writer.put_meta("settings", '{"scale": "fmr"}')
    assert search(source, QUERIES, made.spaces[2], k=200).hits == levels.hits
    assert search(source, QUERIES, made.spaces[2]).scale == "fmr"


def test_a_lowest_score_cuts_the_list(made: Made, source: LocalSource) -> None:
    everything = search(source, QUERIES, made.spaces[2], k=500)
    assert len(everything.hits[0]) == 120
    for threshold in (-4.0, 0.0, 3.0, 100.0):
        found = search(source, QUERIES, made.spaces[2], k=15, min_score=threshold)
        for hits, truth in zip(found.hits, everything.hits, strict=True):
            assert hits == tuple(hit for hit in truth if hit.score is not None and hit.score >= threshold)[:15]


def test_a_false_match_rate_is_judged_by_each_pair(made: Made, source: LocalSource) -> None:
    everything = search(source, QUERIES, made.spaces[2], k=500)
    cut = 0
    for rate in (0.5, 0.1, 1e-2):
        found = search(source, QUERIES, made.spaces[2], k=8, max_fmr=rate)
        for hits, truth in zip(found.hits, everything.hits, strict=True):
            passing = []
            for hit in truth:
                generation = 1 if hit.space == made.spaces[1].id else 2
                if made_calibration(*HONEST[2, generation]).level(hit.raw) >= -np.log10(rate):
                    passing.append(hit)
            # a plain cut of the first eight would lose those that pass behind others that do not
            cut += tuple(hit for hit in truth[:8] if hit in passing) != tuple(passing[:8])
            assert hits == tuple(passing[:8])
    assert cut


def test_one_space_without_calibration_has_no_scores(tmp_path: Path) -> None:
    made = Made(tmp_path, [made_space("a", 16), made_space("b", 32)], calibrated=False)
    vectors = made_vectors(30, 32, seed=1)
    ids = [f"item-{number}" for number in range(30)]
    made.add(ids, prefix(vectors, 16))
    source = LocalSource(made.ledger, None)
    alone = search(source, prefix(QUERIES, 16), made.spaces[1], k=5)
    assert all(hit.score is None for hits in alone.hits for hit in hits)
    raws = [hit.raw for hit in alone.hits[0]]
    assert raws == sorted(raws, reverse=True)
    with pytest.raises(GalleryError, match="a threshold is in calibrated units"):
        search(source, prefix(QUERIES, 16), made.spaces[1], min_score=0.0)
    with pytest.raises(GalleryError, match="a threshold is in calibrated units"):
        search(source, prefix(QUERIES, 16), made.spaces[1], max_fmr=0.1)
    made.switch(2)
    search(source, QUERIES, made.spaces[2])
    made.backfill(2, ids[:5], vectors[:5])
    with pytest.raises(GalleryError, match=r"2 spaces serve the gallery.*no calibration.*gallery\.calibrate"):
        search(source, QUERIES, made.spaces[2])
    assert len(search(source, QUERIES, made.spaces[2], merge="raw").hits[0]) == 10


def test_spaces_are_never_mixed_silently(made: Made, source: LocalSource, tmp_path: Path) -> None:
    stranger = made_space("z", 32)
    with pytest.raises(SpaceError, match="which it does not know"):
        search(source, QUERIES, stranger)
    with pytest.raises(SpaceError, match=f"queried by {made.spaces[2].id}.*newer model, or roll the gallery back"):
        search(source, prefix(QUERIES, 16), made.spaces[1])
    made.switch(1)
    with pytest.raises(SpaceError, match="upgrade the gallery first"):
        search(source, QUERIES, made.spaces[2])
    (tmp_path / "other").mkdir()
    unlinked = half_way(tmp_path / "other", count=20)
    with unlinked.ledger.write() as writer:
        writer.session.run("DELETE FROM link")
        writer.set_query(2)
    with pytest.raises(SpaceError, match=r"roll the gallery back, run 'samespace check'"):
        search(LocalSource(unlinked.ledger, None), QUERIES, unlinked.spaces[2])
    with unlinked.ledger.write() as writer:
        writer.put_link(Link(2, 1, 8))
    with pytest.raises(SpaceError, match="compares 8 dimensions"):
        search(LocalSource(unlinked.ledger, None), QUERIES, unlinked.spaces[2])


def _with(row: int, column: int, value: float) -> np.ndarray:
    queries = QUERIES.copy()
    queries[row, column] = value
    return queries


NO_HEAD = np.concatenate([np.zeros((1, 16)), np.full((1, 16), 0.25)], axis=1).astype(np.float32)


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        (QUERIES[:, :16], r"as \(queries, 32\), got shape \(4, 16\)"),
        (QUERIES[0], r"got shape \(32,\)"),
        (_with(2, 3, np.nan), "query 2 holds NaN or infinity"),
        (_with(1, 0, np.inf), "query 1 holds NaN or infinity"),
        (QUERIES * np.array([[1], [1], [1.01], [1]], dtype=np.float32), "query 2 has length 1.01"),
        (np.zeros_like(QUERIES), "query 0 is zero"),
        (NO_HEAD, "the first 16 dimensions of query 0 are zero"),
        (np.full((2, 32), "a"), "should be float32"),
    ],
)
def test_bad_queries(made: Made, source: LocalSource, queries: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        search(source, queries, made.spaces[2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k is how many"),
        ({"k": True}, "k is how many"),
        ({"k": 2.5}, "k is how many"),
        ({"merge": "raws"}, "did you mean 'raw'"),
        ({"scale": "logit"}, "unknown scale 'logit'"),
        ({"min_score": float("nan")}, "finite"),
        ({"max_fmr": 0}, "between 0 and 1"),
        ({"max_fmr": 1.0}, "between 0 and 1"),
        ({"where": "shop"}, "not understood"),
    ],
)
def test_bad_options(made: Made, source: LocalSource, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        search(source, QUERIES, made.spaces[2], **options)


def test_queries_of_a_space_without_unit_norm_are_divided_by_their_length(tmp_path: Path) -> None:
    made = Made(tmp_path, [made_space("a", 16, normalized=False)])
    made.add(["x", "y", "z"], 2 * made_vectors(3, 16, seed=1))
    source = LocalSource(made.ledger, None)
    one = search(source, QUERIES[:, :16], made.spaces[1])
    assert one.hits == search(source, 4 * QUERIES[:, :16], made.spaces[1]).hits
    with pytest.raises(InputError, match="is zero"):
        search(source, 0 * QUERIES[:, :16], made.spaces[1])


def test_an_empty_gallery_has_no_hits(tmp_path: Path) -> None:
    made = Made(tmp_path, [made_space("a", 16)])
    source = LocalSource(made.ledger, None)
    assert search(source, prefix(QUERIES, 16), made.spaces[1]).hits == ((), (), (), ())
    source.maintain()
    assert search(source, QUERIES[:0, :16], made.spaces[1]).hits == ()
    assert source.coverage() == {1: {"indexed": 0, "lag": 0, "kind": "exact"}}


class Meanwhile(LocalSource):
    """A source whose gallery changes just after a snapshot was taken."""

    def __init__(self, made: Made) -> None:
        super().__init__(made.ledger, None)
        self.made = made

    @contextmanager
    def snapshot(self, where: Sequence[Condition] = ()) -> Iterator[LocalSnapshot]:
        with super().snapshot(where) as snapshot:
            number = len(self.made.metadata)
            self.made.add([f"late-{number}"], made_vectors(1, 32, seed=number), generation=2, shop=["berlin"])
            yield snapshot


def test_filter_and_snapshot_are_of_one_revision(made: Made) -> None:
    source = Meanwhile(made)

    def items(where: dict[str, str] | None) -> list[str]:
        return [hit.item for hit in search(source, QUERIES[:1], made.spaces[2], k=200, where=where).hits[0]]

    first = items({"shop": "berlin"})
    assert len(first) == 60
    assert "late-120" not in first
    second = items({"shop": "berlin"})
    assert "late-120" in second
    assert "late-121" not in second
    assert "late-122" not in items(None)
    with source.snapshot(conditions("shop=berlin")) as snapshot:
        assert snapshot.generations() == [1, 2]
        assert snapshot.allowed is not None
        assert snapshot.ids(snapshot.allowed)[60:] == ["late-120", "late-121", "late-122"]
