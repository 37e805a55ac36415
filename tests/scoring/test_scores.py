from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samespace.evaluate.inputs import AlignedSets, align
from samespace.metrics import (
    matches,
    mean_average_precision,
    rank_k,
    strict_criterion,
    tar_at_far,
    tpir_at_fpir,
)
from samespace.scoring import blocks as blocks_module
from samespace.scoring import scores as scores_module
from samespace.scoring import sides
from samespace.scoring.metric_names import parse
from samespace.scoring.scores import Scores, collect_scores
from samespace.scoring.strict_criterion import StrictCounter
from samespace.scoring.thresholds import TailTooShort
from samespace.vectors import VectorSet


def scan(aligned: AlignedSets, names: list[str], tail_size: int, **options: object) -> dict[str, Scores]:
    return collect_scores({name: aligned.pairs[name] for name in names}, aligned.mates, tail_size, **options)


def dense(queries: VectorSet, gallery: VectorSet) -> np.ndarray:
    """Cosines by their definition, in float64, rounded so that what is equal by definition ties."""
    left, right = queries.vectors.astype(np.float64), gallery.vectors.astype(np.float64)
    left, right = (v / np.sqrt((v**2).sum(axis=1, keepdims=True)) for v in (left, right))
    return (np.round(left @ right.T * 2.0**30) / 2.0**30).astype(np.float32)


def random_sets(seed: int, *, grid: bool = True, text: bool = False) -> tuple[VectorSet, VectorSet]:
    """Small vectors of few values, so that ties and negative scores abound; some items are in both sets."""
    generator = np.random.default_rng(seed)
    queries, gallery = int(generator.integers(2, 14)), int(generator.integers(2, 20))
    dim = int(generator.integers(2, 5))

    def draw(count: int) -> np.ndarray:
        values = generator.integers(-1, 2, (count, dim)) if grid else generator.normal(size=(count, dim))
        values = values.astype(np.float32)
        values[(values == 0).all(axis=1), 0] = 1.0
        return values

    pool = generator.permutation(2 * max(queries, gallery))
    classes = int(generator.integers(1, 6))
    item_class = generator.integers(0, classes, 2 * max(queries, gallery)) + 2**24
    query_items, gallery_items = pool[:queries], generator.permutation(pool)[:gallery]
    names = item_class.astype(str) if text else item_class
    return tuple(  # type: ignore[return-value]
        VectorSet.from_arrays(draw(len(items)), labels=names[items], ids=items)
        for items in (query_items, gallery_items)
    )


def mateless(queries: VectorSet, gallery: VectorSet) -> bool:
    pairs = (queries.labels[:, None] == gallery.labels[None]) & (queries.ids[:, None] != gallery.ids[None])
    return not pairs.any()


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.booleans(), st.integers(1, 5))
def test_the_blocked_scan_finds_what_the_whole_matrix_says(seed, grid, text, block_size):
    queries, gallery = random_sets(seed, grid=grid, text=text)
    if mateless(queries, gallery):
        return
    aligned = align(queries=queries, gallery=gallery, baseline=queries)
    measured = scan(aligned, ["cross"], 10**6, block_size=block_size)["cross"]
    own = queries.ids[:, None] == gallery.ids[None]
    scores = dense(queries, gallery)
    labels = queries.labels, gallery.labels
    mates = (queries.labels[:, None] == gallery.labels[None]) & ~own
    strangers = queries.labels[:, None] != gallery.labels[None]

    expected = matches(scores, *labels, exclude=own)
    np.testing.assert_array_equal(measured.matches.rank, expected.rank)
    np.testing.assert_allclose(measured.matches.mate, expected.mate, atol=1e-6)
    np.testing.assert_allclose(measured.matches.other, expected.other, atol=1e-6)
    np.testing.assert_allclose(np.sort(measured.genuine), np.sort(scores[mates]), atol=1e-6)
    np.testing.assert_allclose(measured.tail.scores, np.sort(scores[strangers])[::-1], atol=1e-6)
    assert measured.tail.complete
    assert measured.mates.impostors == strangers.sum()

    for name, value in {
        "rank@1": rank_k(scores, *labels, exclude=own),
        "rank@3": rank_k(scores, *labels, 3, exclude=own),
        "mAP": mean_average_precision(scores, *labels, exclude=own),
        "TPIR-merged@FPIR=0.25": tpir_at_fpir(scores, *labels, 0.25, protocol="merged", exclude=own),
    }.items():
        assert parse(name).value(measured) == pytest.approx(value, abs=1e-12), name
    if strangers.any():
        expected_tar = tar_at_far(scores[mates], scores[strangers], 0.1)
        assert parse("TAR@FAR=0.1").value(measured) == pytest.approx(expected_tar)
    if (expected.rank == 0).any():
        expected_tpir = tpir_at_fpir(scores, *labels, 0.25, exclude=own)
        assert parse("TPIR@FPIR=0.25").value(measured) == pytest.approx(expected_tpir)


def test_genuine_scores_carry_the_identity_of_their_pair(world):
    aligned = align(**world.sets())
    measured = scan(aligned, ["cross"], 10, block_size=7)["cross"]
    scores = dense(world.queries, world.gallery)
    for code in np.unique(measured.genuine_identity):
        rows = np.flatnonzero(aligned.mates.query_codes == code)
        columns = aligned.gallery_order[aligned.mates.gallery_codes == code]
        np.testing.assert_allclose(
            np.sort(measured.genuine[measured.genuine_identity == code]),
            np.sort(scores[np.ix_(rows, columns)].ravel()),
            atol=1e-6,
        )


@pytest.mark.parametrize("block_size", [1, 7, 64, 1000])
def test_the_tail_holds_the_largest_impostor_scores_with_their_identities(world, block_size):
    aligned = align(**world.sets())
    tail = scan(aligned, ["old"], 50, block_size=block_size)["old"].tail
    scores = dense(world.baseline, world.gallery)
    strangers = world.baseline.labels[:, None] != world.gallery.labels[None]
    place = np.argsort(np.where(strangers, -scores, np.inf), axis=None)[:50]
    row, column = np.divmod(place, len(world.gallery))
    np.testing.assert_allclose(tail.scores, scores.ravel()[place], atol=1e-6)
    codes = aligned.mates.gallery_codes[np.argsort(aligned.gallery_order)]
    np.testing.assert_array_equal(tail.query, aligned.mates.query_codes[row])
    np.testing.assert_array_equal(tail.gallery, codes[column])
    assert not tail.complete


def test_a_tail_too_short_for_the_rate_says_so(world):
    aligned = align(**world.sets())
    measured = scan(aligned, ["old"], 5)["old"]
    with pytest.raises(TailTooShort):
        parse("TAR@FAR=1e-2").value(measured)


def test_block_size_and_rereading_large_sets_change_nothing(world, monkeypatch):
    aligned = align(**world.sets("new_gallery"))
    whole = scan(aligned, ["cross", "new"], 100, sampled=True)
    monkeypatch.setattr(sides, "_CACHE_BYTES", 0)
    monkeypatch.setattr(sides, "_READ_ROWS", 11)
    again = align(**world.sets("new_gallery"))
    for block_size in (1, 13, 200):
        cut = scan(again, ["cross", "new"], 100, block_size=block_size, sampled=True)
        for name in ("cross", "new"):
            np.testing.assert_array_equal(cut[name].matches.rank, whole[name].matches.rank)
            np.testing.assert_allclose(cut[name].precision.average, whole[name].precision.average, rtol=1e-12)
            np.testing.assert_allclose(cut[name].genuine, whole[name].genuine, atol=1e-6)
            np.testing.assert_allclose(cut[name].tail.scores, whole[name].tail.scores, atol=1e-6)
            np.testing.assert_allclose(np.sort(cut[name].sample), np.sort(whole[name].sample), atol=1e-6)


def test_a_collapsed_model_finds_nothing_whatever_the_blocks(world):
    one = np.random.default_rng(0).normal(size=16).astype(np.float32)
    queries, gallery = (
        VectorSet.from_arrays(np.tile(one, (len(s), 1)), labels=s.labels, ids=s.ids)
        for s in (world.queries, world.gallery)
    )
    aligned = align(queries=queries, gallery=gallery, baseline=queries)
    for block_size in (1, 3, 90):
        measured = scan(aligned, ["cross"], 1000, block_size=block_size)["cross"]
        assert parse("rank@1").value(measured) == 0.0
        assert parse("TAR@FAR=1e-2").value(measured) == 0.0


def test_large_data_is_sampled_for_plots_by_whole_queries(world, monkeypatch):
    monkeypatch.setattr(scores_module, "_SAMPLE_PAIRS", 2500)
    aligned = align(**world.sets())
    stride = -(-len(world.queries) * len(world.gallery) // 2500)
    table = dense(world.queries, world.gallery)[::stride]
    strangers = (world.queries.labels[:, None] != world.gallery.labels[None])[::stride]
    for block_size in (1, 4, 90):
        measured = scan(aligned, ["cross"], 10, block_size=block_size, sampled=True)["cross"]
        np.testing.assert_allclose(np.sort(measured.sample), np.sort(table[strangers]), atol=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_strict_shares_are_counted_over_all_pairs_but_those_of_one_item(seed):
    queries, gallery = random_sets(seed)
    assert not mateless(queries, gallery)
    baseline, _ = random_sets(seed)
    rolled = np.roll(baseline.vectors, 1, axis=0)
    baseline = VectorSet.from_arrays(rolled, labels=queries.labels, ids=queries.ids)
    aligned = align(queries=queries, gallery=gallery, baseline=baseline)
    counter = StrictCounter()
    scan(aligned, ["old", "cross"], 1, block_size=3, strict=counter)
    expected = strict_criterion(
        dense(queries, gallery),
        dense(baseline, gallery),
        queries.labels[:, None] == gallery.labels[None],
        exclude=queries.ids[:, None] == gallery.ids[None],
    )
    assert counter.shares(aligned.mates) == expected


def test_a_large_gallery_is_read_once_for_many_queries_and_all_pairs_that_share_it(world, monkeypatch):
    aligned = align(**world.sets())
    names = ["old", "cross", "control"]
    whole = scan(aligned, names, 100)
    monkeypatch.setattr(blocks_module, "_BLOCK_BYTES", 1)
    monkeypatch.setattr(blocks_module, "_PASS_BYTES", 1)
    reads, sizes = [], []
    gallery = aligned.pairs["old"][1]
    blocks = gallery.blocks
    monkeypatch.setattr(gallery, "blocks", lambda *size: reads.append(1) or blocks(*size))
    cut = scan(aligned, names, 100, observers=[lambda start, scores, index: sizes.append(len(scores["old"]))])
    assert len(reads) == -(-len(world.queries) // 64)
    assert sizes == [1] * len(world.queries)
    for name in names:
        np.testing.assert_array_equal(cut[name].matches.rank, whole[name].matches.rank)
        np.testing.assert_array_equal(cut[name].genuine, whole[name].genuine)
        np.testing.assert_array_equal(cut[name].tail.scores, whole[name].tail.scores)
