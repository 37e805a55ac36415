"""Scores gathered tile by tile are those of whole rows, to the last bit."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samespace.errors import InputError
from samespace.evaluate import check
from samespace.evaluate.inputs import AlignedSets, align
from samespace.evaluate.sweep import Sweep
from samespace.scoring import scores as scores_module
from samespace.scoring.score import score_table, single_error, single_table, vector_lengths
from samespace.scoring.scores import Scores, collect_scores
from samespace.scoring.strict_criterion import StrictCounter
from samespace.scoring.tiles import levels, pilot, scan, tally, tile

EXAMPLES = int(os.environ.get("SAMESPACE_EXAMPLES", "1"))
RECORDED = Path(__file__).parents[1] / "evaluate" / "stored" / "before-tiles.json"
FORMS = ["cosine", "ip", "l2"]


def both(aligned: AlignedSets, size: int, **options: object) -> tuple[list[dict[str, Scores]], list[object]]:
    """What is gathered in whole rows and by tiles, and the strict shares of both."""
    found, shares = [], []
    for large in (1 << 62, 0):
        strict = StrictCounter()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scores_module, "_LARGE", large)
            patch.setattr(scores_module, "_FEWEST_OTHERS", 0)
            found.append(collect_scores(aligned.pairs, aligned.mates, size, sampled=True, strict=strict, **options))
        shares.append(strict.shares(aligned.mates))
    return found, shares


def assert_equal(whole: dict[str, Scores], tiled: dict[str, Scores]) -> None:
    for name, one in whole.items():
        other = tiled[name]
        for part in ("matches", "precision"):
            for field in fields(getattr(one, part)):
                np.testing.assert_array_equal(
                    *(getattr(getattr(some, part), field.name) for some in (one, other)), err_msg=f"{name} {field.name}"
                )
        np.testing.assert_array_equal(one.genuine, other.genuine)
        np.testing.assert_array_equal(one.sample, other.sample)
        np.testing.assert_array_equal(one.tail.scores, other.tail.scores)
        assert one.tail.complete == other.tail.complete
        # which of the pairs with the lowest score are kept is open
        above = one.tail.scores > one.tail.scores.min(initial=np.inf) if not one.tail.complete else slice(None)
        placed = [
            sorted(zip(some.scores[above], some.query[above], some.gallery[above], some.place[above], strict=True))
            for some in (one.tail, other.tail)
        ]
        assert placed[0] == placed[1]


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("score", FORMS)
@settings(max_examples=25 * EXAMPLES, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["grid", "spread", "copies", "near"]),
    st.integers(1, 12),
    st.sampled_from(["float32", "float16", "int8", "binary"]),
    st.sampled_from([0.0, 0.2, 0.7]),
    st.integers(0, 60),
    st.integers(1, 9) | st.none(),
)
def test_tiles_give_what_whole_rows_give(made, score, seed, kind, classes, stored_as, few, size, block_size):
    aligned = made(seed, kind=kind, classes=classes, score=score, stored_as=stored_as)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pilot, "_FEW", few)
        patch.setattr(levels, "_MANY", seed % 5)
        patch.setattr(tile, "_CACHED_SCORES", 1 + seed % 20)
        patch.setattr(tile, "_EXACT_COLUMNS", 1 + seed % 4)
        patch.setattr(scan, "_MOSTLY", seed % 3 / 2 - 0.1)
        patch.setattr(scan, "_PASS_BYTES", 6 * 12 * 3 * 11 if seed % 2 else 1 << 28)
        found, shares = both(aligned, size, block_size=block_size)
    assert_equal(*found)
    assert shares[0] == shares[1]


@settings(max_examples=60 * EXAMPLES, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 300),
    st.sampled_from(FORMS),
    st.sampled_from(["normal", "positive", "one-sided"]),
    st.sampled_from([1e-12, 1.0, 1e12]),
)
def test_a_float32_score_is_within_its_bound(seed, dim, score, kind, length):
    generator = np.random.default_rng(seed)
    left, right = (generator.standard_normal((9, dim)) for _ in range(2))
    if kind != "normal":
        left, right = np.abs(left), np.abs(right) if kind == "positive" else np.ones_like(right)
    if score == "cosine":
        left, right = (side / vector_lengths(side)[:, None] for side in (left, right))
    else:
        left, right = left * length, right * length
    longest = float(vector_lengths(right).max())
    exact = score_table(left, right, score, longest=longest).astype(np.float32).astype(np.float64)
    singles = single_table(left.astype(np.float32), right.astype(np.float32), score)
    error = single_error(vector_lengths(left), longest, dim, score)
    assert (np.abs(singles - exact) <= error[:, None]).all()


@pytest.mark.usefixtures("small_tiles")
def test_a_floor_above_the_tail_is_found_out_and_lowered(made, monkeypatch):
    aligned = made(3, kind="spread", classes=5, score="cosine")
    floors = []

    def high(self, name, size, slack):
        floors.append(slack)
        return 0.9 if slack < 60 else -np.inf

    monkeypatch.setattr(pilot.Pilot, "floor", high)
    found, _ = both(aligned, 50)
    assert_equal(*found)
    assert max(floors) == 64


@pytest.mark.usefixtures("by_tiles")
@pytest.mark.parametrize("recorded", json.loads(RECORDED.read_text()), ids=lambda one: str(one["options"]))
def test_certificates_by_tiles_are_those_from_before_there_were_tiles(recorded, world):
    options = {"metrics": list(recorded["metrics"]), "replicates": 200, **recorded["options"]}
    certificate = check(**world.sets(), **options).to_dict()
    assert {key: certificate[key] for key in ("metrics", "strict", "flips")} == {
        key: recorded[key] for key in ("metrics", "strict", "flips")
    }


@pytest.mark.usefixtures("small_tiles")
def test_all_of_a_certificate_is_the_same_by_tiles(world, request):
    options = {"metrics": ["rank@1", "mAP", "TAR@FAR=1e-2"], "replicates": 20}
    whole = check(**world.sets(), **options).to_dict()
    request.getfixturevalue("by_tiles")
    tiled = check(**world.sets(), **options).to_dict()
    assert {**whole, "created": ""} == {**tiled, "created": ""}


@pytest.mark.parametrize(("few", "left"), [(0.02, 90), (0.3, 11), (0.9, 0)])
def test_all_of_a_certificate_with_a_new_gallery_is_the_same_by_tiles(make, request, monkeypatch, few, left):
    world = make(old_noise=0.5, new_noise=0.3)
    options = {"metrics": ["rank@1", "mAP", "TAR@FAR=1e-2"], "replicates": 20}
    whole = check(**world.sets("new_gallery"), **options).to_dict()
    request.getfixturevalue("by_tiles")
    monkeypatch.setattr(pilot, "_FEW", few)
    monkeypatch.setattr(scan, "_TILE_QUERIES", 64)
    monkeypatch.setattr(scan, "_TILE_ITEMS", 50)
    monkeypatch.setattr(pilot, "_ITEMS", 200)
    counted, end = [], Sweep.end
    monkeypatch.setattr(Sweep, "end", lambda self: (end(self), counted.append(len(self.left))))
    tiled = check(**world.sets("new_gallery"), **options).to_dict()
    assert {**whole, "created": ""} == {**tiled, "created": ""}
    assert counted == [left]


@pytest.mark.usefixtures("by_tiles")
def test_progress_is_told_up_to_the_last_query(world):
    aligned = align(**world.sets())
    told: list[int] = []
    collect_scores(aligned.pairs, aligned.mates, 10, progress=told.append)
    assert told == sorted(told)
    assert told[-1] == len(world.queries)


def test_only_scores_in_doubt_are_computed_exactly(made, monkeypatch):
    aligned = made(5, kind="spread", classes=12, score="cosine", dim=24)
    asked = []
    whole = tally.Tile.exact
    told = lambda self, query, item: asked.append(len(query)) or whole(self, query, item)  # noqa: E731
    monkeypatch.setattr(tally.Tile, "exact", told)
    monkeypatch.setattr(pilot, "_FEW", 1.0)
    found, _ = both(aligned, 1)
    assert_equal(*found)
    pairs = 3 * len(aligned.queries) * len(aligned.gallery)
    assert sum(asked) < pairs / 3


@pytest.mark.usefixtures("by_tiles")
@pytest.mark.parametrize("score", FORMS)
def test_products_made_by_torch_give_the_same(made, score):
    torch = pytest.importorskip("torch")
    for seed in range(4):
        aligned = made(seed, kind="spread", classes=5, score=score)
        plain, there = (
            collect_scores(aligned.pairs, aligned.mates, 30, device=device) for device in (None, torch.device("cpu"))
        )
        assert_equal(plain, there)


@pytest.mark.usefixtures("by_tiles")
def test_a_certificate_by_torch_is_the_same_and_leaves_its_precision(world, monkeypatch):
    torch = pytest.importorskip("torch")
    options = {"metrics": ["rank@1", "mAP", "TAR@FAR=1e-2"], "replicates": 20}
    plain = check(**world.sets(), **options).to_dict()
    monkeypatch.setattr(sys.modules["samespace.evaluate.check"], "_device", torch.device)
    torch.set_float32_matmul_precision("medium")
    try:
        there = check(**world.sets(), **options, device="cpu").to_dict()
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert {**plain, "created": ""} == {**there, "created": ""}


def test_a_device_that_is_not_there_is_refused_in_one_line(world):
    with pytest.raises(InputError, match=r"^the device 'cuda:99' cannot be used"):
        check(**world.sets(), device="cuda:99")
