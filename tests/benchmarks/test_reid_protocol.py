from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samespace.benchmarks.reid import RANKS, Reid
from samespace.errors import InputError
from samespace.scoring.units import unit_rows


def reference(vectors: np.ndarray, people: tuple, cameras: tuple) -> dict[str, float]:
    """The protocol query by query, ranking written out; no ties in these worlds."""
    queries = len(people[0])
    precisions, areas, first, at_r, shares = [], [], [], [], []
    for row in range(queries):
        keep = people[1] != -1
        keep &= ~((people[1] == people[0][row]) & (cameras[1] == cameras[0][row]))
        scores = vectors[queries:][keep].astype(np.float64) @ vectors[row].astype(np.float64)
        hits = (people[1][keep] == people[0][row])[np.argsort(-scores)]
        if not hits.any():
            continue
        place = np.flatnonzero(hits) + 1
        found = np.arange(1, len(place) + 1)
        precisions.append(np.mean(found / place))
        before = [1.0 if at == 1 else (one - 1) / (at - 1) for one, at in zip(found, place, strict=True)]
        areas.append(np.mean((np.array(before) + found / place) / 2))
        first.append(place[0])
        at_r.append(sum(one / at for one, at in zip(found, place, strict=True) if at <= len(place)) / len(place))
        shares.append(hits[: len(place)].mean())
    ranks = {f"rank@{k}": float(np.mean(np.array(first) <= k)) for k in RANKS}
    further = {"MAP@R": float(np.mean(at_r)), "R-precision": float(np.mean(shares))}
    return {"mAP": float(np.mean(precisions)), **ranks, "mAP-trapezoid": float(np.mean(areas)), **further}


def measured(benchmark: Reid, vectors: np.ndarray) -> dict[str, float]:
    prepared = benchmark.prepare(vectors)
    ones = np.ones((1, benchmark.identities), dtype=np.int64)
    values = benchmark.run(prepared, prepared).values(ones, (*benchmark.metrics, *benchmark.further_metrics))
    return {name: float(value[0]) for name, value in values.items()}


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 40), st.integers(1, 5))
def test_the_protocol_is_its_definition(seed, queries, gallery, people):
    generator = np.random.default_rng(seed)
    identity = generator.integers(1, people + 1, queries), generator.integers(-1, people + 2, gallery)
    camera = generator.integers(1, 4, queries), generator.integers(1, 4, gallery)
    identity[1][0], camera[1][0] = identity[0][0], camera[0][0] + 1
    vectors = unit_rows(generator.standard_normal((queries + gallery, 6)))
    benchmark = Reid.of(name="made up", identity=identity, camera=camera)
    kept = np.append(np.ones(queries, dtype=bool), identity[1] != -1)
    found = measured(benchmark, vectors[kept])
    for name, value in reference(vectors, identity, camera).items():
        assert found[name] == pytest.approx(value, abs=1e-12), name


def test_junk_is_not_needed_distractors_stay_and_a_lonely_query_is_left_out():
    benchmark = Reid.of(
        name="made up",
        identity=(np.array([1, 2, 3]), np.array([-1, 1, 1, 0, 2, 9])),
        camera=(np.array([1, 1, 1]), np.array([1, 1, 2, 3, 1, 4])),
        ids=(["q1", "q2", "q3"], ["junk", "g1", "g2", "far", "g3", "g4"]),
    )
    assert benchmark.ids.tolist() == ["q1", "q2", "q3", "g1", "g2", "far", "g3", "g4"]
    assert benchmark.data == {
        "queries": 3,
        "gallery": 5,
        "identities": 3,
        "mated_queries": 1,
        "genuine_pairs": 1,
        "distractors": 2,
        "junk_dropped": 1,
        "same_camera_ignored": 2,
    }
    assert [note.split(" ")[0] for note in benchmark.notes] == ["1", "2", "2"]
    # g1 is of the same person and camera as q1 and takes no place, though it is closest
    vectors = np.array([[1, 0], [0, 1], [1, 1], [1, 0], [0.9, 0.1], [-1, 0.2], [0.8, 0.2], [0, -1]])
    assert measured(benchmark, vectors)["rank@1"] == 1.0
    prepared = benchmark.prepare(vectors)
    assert benchmark.run(prepared, prepared).genuine() == pytest.approx([prepared[0] @ prepared[4]], abs=1e-6)


def test_resampled_people_count_as_often_as_they_are_drawn():
    benchmark = Reid.of(
        name="made up",
        identity=(np.array([5, 5, 7]), np.array([5, 7, 8])),
        camera=(np.array([1, 1, 1]), np.array([2, 2, 2])),
    )
    vectors = unit_rows(np.array([[1, 0], [1, 0.1], [1, 0], [1, 0], [0, 1], [0.5, 0.5]]))
    found = benchmark.run(vectors, vectors).values(np.array([[1, 1], [2, 0], [0, 2]]), ["rank@1"])
    assert found["rank@1"] == pytest.approx([2 / 3, 1.0, 0.0])


@pytest.mark.data
def test_market_1501_has_its_published_counts(real_data):
    with np.load(real_data("protocolmeta.npz")) as archive:
        meta = dict(archive)
    benchmark = Reid.of(
        name="Market-1501",
        identity=(meta["market1501_query_id"], meta["market1501_gallery_id"]),
        camera=(meta["market1501_query_cam"], meta["market1501_gallery_cam"]),
    )
    assert (benchmark.data["queries"], benchmark.data["gallery"]) == (3368, 15913)
    assert (benchmark.data["junk_dropped"], benchmark.data["distractors"]) == (3819, 2798)
    assert (benchmark.data["mated_queries"], benchmark.identities) == (3368, 750)
    generator = np.random.default_rng(0)
    people = np.concatenate([meta["market1501_query_id"], np.array(meta["market1501_gallery_id"])])
    people = people[people != -1]
    centres = generator.standard_normal((people.max() + 1, 16))
    vectors = centres[people] + 0.8 * generator.standard_normal((len(people), 16))
    found = measured(benchmark, vectors)
    assert 0.05 < found["mAP"] < found["rank@1"] < found["rank@10"] <= 1


@pytest.mark.data
@pytest.mark.parametrize(("kind", "gallery"), [("labeled", 5328), ("detected", 5332)])
def test_cuhk03_np_has_its_published_counts(real_data, kind, gallery):
    with np.load(real_data("protocolmeta.npz")) as archive:
        meta = dict(archive)
    rows = [meta[f"cuhk03_{kind}_{part}_idx"] for part in ("query", "gallery")]
    if max(row.max() for row in rows) >= len(meta[f"cuhk03_{kind}_id"]):
        rows = [row - 1 for row in rows]
    benchmark = Reid.of(
        name="CUHK03-NP",
        identity=tuple(meta[f"cuhk03_{kind}_id"][row] for row in rows),
        camera=tuple(meta[f"cuhk03_{kind}_cam"][row] for row in rows),
    )
    assert (benchmark.data["queries"], benchmark.data["gallery"], benchmark.identities) == (1400, gallery, 700)


def test_file_names_of_market_1501_are_enough(tmp_path):
    names = {
        "query": ["0001_c1s1_000001_00.jpg", "0002_c2s1_000001_00.jpg"],
        "bounding_box_test": ["0001_c2s1_000009_01.jpg", "0001_c1s1_000009_01.jpg", "-1_c1s1_000001_01.jpg",
                              "0000_c3s1_000001_01.jpg", "0002_c5s1_000001_01.jpg"],
        "bounding_box_train": ["0005_c1s1_000001_01.jpg"],
    }  # fmt: skip
    for folder, files in names.items():
        (tmp_path / folder).mkdir()
        for name in files:
            Path(tmp_path / folder / name).write_bytes(b"")
    benchmark = Reid.read(tmp_path, name="Market-1501")
    assert benchmark.ids[:2].tolist() == ["query/0001_c1s1_000001_00.jpg", "query/0002_c2s1_000001_00.jpg"]
    assert len(benchmark.ids) == 6
    assert (benchmark.data["genuine_pairs"], benchmark.data["distractors"], benchmark.data["junk_dropped"]) == (2, 1, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"identity": (np.array([-1]), np.array([1]))}, "query 'query/0' is junk"),
        ({"identity": (np.array([1, 2]), np.array([1]))}, "needs one identity and one camera"),
        ({"identity": (np.array([1]), np.array([2]))}, "no query has an image"),
        ({"camera": (np.array([2]), np.array([2]))}, "no query has an image"),
        ({"identity": (np.array(["a"]), np.array(["a"]))}, "should be integers"),
        ({"ids": (["a"], [])}, "needs one id"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    given_arrays = {"identity": (np.array([1]), np.array([1])), "camera": (np.array([1]), np.array([2]))}
    with pytest.raises(InputError, match=message):
        Reid.of(name="made up", **{**given_arrays, **change})
