"""The sweep over backfill shares against its definition: build the mixed gallery, rank it, count."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from samespace.errors import InputError
from samespace.evaluate import Certificate, check
from samespace.evaluate.calibrations import FoldLines, fold_lines
from samespace.evaluate.inputs import AlignedSets, align
from samespace.evaluate.sweep import SHARES, Sweep, backfill_turns
from samespace.evaluate.sweep_result import area
from samespace.metrics import matches, mean_average_precision, rank_k, tar_at_far, tpir_at_fpir
from samespace.scoring.mates import BlockMates
from samespace.scoring.metric_names import parse
from samespace.scoring.scores import collect_scores

METRICS = ("rank@1", "mAP", "TAR@FAR=2e-2")


def swept(world: Any, block_size: int, tail: int) -> tuple[AlignedSets, Sweep, dict[str, Any], dict[str, Any]]:
    aligned = align(**world.sets("new_gallery"))
    lines = fold_lines(aligned, seed=3)
    sweep = Sweep(aligned, lines, seed=3, block_size=block_size)
    whole: dict[str, list[Any]] = {"cross": [], "new": []}

    def keep(start: int, blocks: Any, block: BlockMates) -> None:
        for name, rows in whole.items():
            rows.append(blocks[name].copy())

    pairs = {name: aligned.pairs[name] for name in ("old", "cross", "new")}
    found = collect_scores(pairs, aligned.mates, tail, block_size=block_size, observers=[keep], watch=sweep)
    return aligned, sweep, found, {name: np.concatenate(rows) for name, rows in whole.items()}


@pytest.mark.parametrize(("block_size", "tail"), [(90, 100_000), (7, 100_000), (13, 2500)])
def test_every_stage_equals_a_search_of_the_mixed_gallery(make: Any, block_size: int, tail: int) -> None:
    world = make(old_noise=0.9, new_noise=0.7)
    aligned, sweep, found, scores = swept(world, block_size, tail)
    lines = sweep.lines
    odds = {name: lines.odds(rows, aligned.mates.query_codes, pair) for pair, (name, rows) in enumerate(scores.items())}
    checked = 0
    for (order, merge), stages in sweep.stages(found["cross"], found["new"]).items():
        turn = backfill_turns(aligned, order, 3)
        source = scores if merge == "raw" else odds
        for share, mixture in stages.items():
            mixed = np.where(turn < round(share * len(turn)), source["new"], source["cross"])
            given = mixed, aligned.mates.query_codes, aligned.mates.gallery_codes
            where = (order, merge, share)
            assert parse("mAP").value(mixture) == pytest.approx(mean_average_precision(*given)), where
            one = matches(*given)
            assert parse("rank@1").value(mixture) == pytest.approx(rank_k(*given, 1)), where
            np.testing.assert_array_equal(mixture.matches.rank, one.rank)
            np.testing.assert_allclose(mixture.matches.other, one.other, rtol=1e-5)
            genuine = aligned.mates.query_codes[:, None] == aligned.mates.gallery_codes[None]
            assert parse("TAR@FAR=2e-2").value(mixture) == pytest.approx(
                tar_at_far(mixed[genuine], mixed[~genuine], 0.02)
            ), where
            assert parse("TPIR@FPIR=1e-1").value(mixture) == pytest.approx(tpir_at_fpir(*given, 0.1)), where
            checked += 1
    assert checked == 3 * 2 * 4


def test_calibrations_see_no_identity_they_are_used_on(make: Any) -> None:
    world = make(identities=40, queries=160, gallery=160, strangers=0)
    aligned = align(**world.sets("new_gallery"))
    before = fold_lines(aligned, seed=5)
    assert set(np.bincount(before.fold)) == {20}
    # spoil all vectors of one half: the lines used on that half stay, those used on the other change
    spoilt = world.queries.vectors.copy()
    own = before.fold[aligned.mates.query_codes] == 0
    spoilt[own] += np.random.default_rng(0).normal(size=spoilt[own].shape).astype(np.float32)
    other = align(
        **world.but(queries=type(world.queries)(**{**vars(world.queries), "vectors": spoilt})).sets("new_gallery")
    )
    after = fold_lines(other, seed=5)
    np.testing.assert_array_equal(after.slope[0], before.slope[0])
    assert (after.slope[1] != before.slope[1]).all()


def test_lines_and_their_inverse() -> None:
    lines = FoldLines(np.array([0, 1]), np.array([[2.0, 4.0], [3.0, 5.0]]), np.array([[-1.0, 0.0], [1.0, 2.0]]))
    identity = np.array([0, 1, 1])
    scores = np.array([[0.5, 1.0], [0.5, 1.0], [0.0, -np.inf]])
    assert lines.odds(scores, identity, 1).tolist() == [[2.0, 4.0], [4.5, 7.0], [2.0, -np.inf]]
    np.testing.assert_allclose(lines.scores(lines.odds(scores, identity, 0), identity, 0), scores)


def test_orders_are_what_they_say(make: Any) -> None:
    aligned = align(**make().sets("new_gallery"))
    count = len(aligned.mates.gallery_codes)
    assert backfill_turns(aligned, "random", 0).tolist() != backfill_turns(aligned, "random", 1).tolist()
    for order in ("random", "distance", "centre"):
        assert sorted(backfill_turns(aligned, order, 0)) == list(range(count))
    vectors = aligned.gallery.take(aligned.gallery_order)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    mates = aligned.mates.gallery_codes[:, None] == aligned.mates.gallery_codes[None]
    np.fill_diagonal(mates, False)
    centre = mates @ unit
    near = (unit * centre).sum(axis=1) / np.linalg.norm(centre, axis=1)
    assert (np.diff(near[np.argsort(backfill_turns(aligned, "distance", 0))]) >= -1e-6).all()
    first = np.argsort(backfill_turns(aligned, "centre", 0))[: len(np.unique(aligned.mates.gallery_codes))]
    assert len(np.unique(aligned.mates.gallery_codes[first])) == len(first)
    for place in first:
        assert near[place] >= near[aligned.mates.gallery_codes == aligned.mates.gallery_codes[place]].max() - 1e-6


def test_the_area_of_a_straight_line_is_one_half() -> None:
    assert area([0.2 + 0.3 * share for share in SHARES]) == pytest.approx(0.5)
    assert area([0.2, 0.5, 0.5, 0.5, 0.5, 0.5]) == pytest.approx(0.95)
    assert area([0.5, 0.1, 0.1, 0.1, 0.1, 0.5]) is None


def test_a_certificate_carries_calibrations_and_the_sweep(world: Any) -> None:
    found = check(**world.sets("new_gallery", "paragon"), metrics=list(METRICS[2:]), replicates=50)
    assert list(found.calibrations) == ["old", "cross", "new"]
    assert found.calibrations["cross"].impostor == found.data["impostor_pairs"]
    assert found.sweep is not None
    assert found.sweep.metrics == tuple(METRICS)
    for merges in found.sweep.orders.values():
        for curve in merges.values():
            assert [at.share for at in curve.points] == list(SHARES)
            for end, test in ((0, "cross"), (-1, "new")):
                values = curve.points[end].values
                assert values["TAR@FAR=2e-2"] == getattr(found["TAR@FAR=2e-2"], test)
            assert curve.points[0].since_start["mAP"] == (0.0, 0.0)
            assert curve.points[-1].to_end["mAP"] == (0.0, 0.0)
            for at in curve.points[1:]:
                low, high = at.since_start["mAP"]
                assert low <= at.values["mAP"] - curve.points[0].values["mAP"] <= high
    again = Certificate.from_dict(found.to_dict())
    assert again.sweep == found.sweep
    assert again.calibrations == found.calibrations


def test_without_a_new_gallery_there_is_no_sweep_and_old_files_load(world: Any) -> None:
    found = check(**world.sets(), replicates=20)
    assert found.sweep is None
    assert list(found.calibrations) == ["old", "cross"]
    older = found.to_dict()
    del older["sweep"], older["calibrations"]
    assert Certificate.from_dict(older).calibrations == {}
    with pytest.raises(InputError, match="calibration 'old'"):
        Certificate.from_dict(found.to_dict() | {"calibrations": {"old": {"slope": 1}}})


def test_what_cannot_be_calibrated_is_noted(make: Any) -> None:
    world = make(identities=2, queries=6, gallery=4, strangers=0)
    found = check(**world.sets("new_gallery"), metrics=["rank@1"], replicates=20)
    assert found.sweep is None
    assert any(
        note.startswith("No sweep over backfill shares: a calibration needs at least 10") for note in found.notes
    )


def test_what_cannot_be_calibrated_or_swept_is_noted(make: Any) -> None:
    one = make(identities=1, queries=4, gallery=4, strangers=0)
    found = check(**one.sets("new_gallery"), metrics=["rank@1"], replicates=20)
    assert found.sweep is None
    assert found.calibrations == {}
    for start in (
        "No sweep over backfill shares: ",
        *(f"No calibration of the {pair} pair: " for pair in ("old", "cross", "new")),
    ):
        assert sum(note.startswith(start) for note in found.notes) == 1
