from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samespace import VectorSet
from samespace.benchmarks.landmark_files import read_gldv2, read_revisited
from samespace.benchmarks.landmarks import DEPTHS, Landmarks, by_stem
from samespace.errors import InputError
from samespace.scoring.units import unit_rows


def truth(seed: int, queries: int, index: int) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    entries = []
    for _ in range(queries):
        kind = generator.integers(0, 5, index)
        lists = {name: np.flatnonzero(kind == number) for number, name in enumerate(("easy", "hard", "junk"))}
        entries.append({"bbx": [1.0, 2.0, 30.5, 40.0], **lists})
    return {
        "imlist": [f"img_{row}" for row in range(index)],
        "qimlist": [f"query_{row}" for row in range(queries)],
        "gnd": entries,
    }


def written(folder: Path, value: object, protocol: int = 2, name: str = "gnd_roxford5k.pkl") -> Path:
    (folder / name).write_bytes(pickle.dumps(value, protocol))
    return folder / name


def published(ranks: np.ndarray, entries: list[dict], relevant: tuple, ignored: tuple) -> dict[str, float]:
    """The evaluation published with the revisited benchmarks, from its description: positions of relevant images count
    from 0 once ignored ones in front are taken out, and the trapezoidal rule gives the area.
    """
    areas, shares = [], {depth: [] for depth in DEPTHS}
    for order, entry in zip(ranks, entries, strict=True):
        wanted, out = (np.concatenate([entry[name] for name in names]) for names in (relevant, ignored))
        if len(wanted) == 0:
            continue
        places = np.flatnonzero(np.isin(order, wanted))
        skipped = np.flatnonzero(np.isin(order, out))
        places = np.array([place - (skipped < place).sum() for place in places])
        area = 0.0
        for count, place in enumerate(places):
            before = 1.0 if place == 0 else count / place
            area += (before + (count + 1) / (place + 1)) / 2 / len(wanted)
        areas.append(area)
        for depth in DEPTHS:
            cut = min(max(places) + 1, depth)
            shares[depth].append((places + 1 <= cut).sum() / cut)
    return {"mAP": np.mean(areas), **{f"mP@{depth}": np.mean(values) for depth, values in shares.items()}}


SETTINGS = {
    "easy": (("easy",), ("junk", "hard")),
    "medium": (("easy", "hard"), ("junk",)),
    "hard": (("hard",), ("junk", "easy")),
}


def measured(benchmark: Landmarks, vectors: np.ndarray) -> dict[str, float]:
    prepared = benchmark.prepare(vectors)
    ones = np.ones((1, benchmark.identities), dtype=np.int64)
    values = benchmark.run(prepared, prepared).values(ones, benchmark.metrics)
    return {name: float(value[0]) for name, value in values.items()}


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(8, 30))
def test_easy_medium_and_hard_are_the_published_evaluation(tmp_path_factory, seed, queries, index):
    value = truth(seed, queries, index)
    value["gnd"][0]["easy"] = value["gnd"][0]["hard"] = np.zeros(0, np.int64) if queries > 1 else np.array([0])
    if queries == 1:
        value["gnd"][0]["hard"], value["gnd"][0]["junk"] = np.array([1]), np.array([2, 3])
    folder = tmp_path_factory.mktemp("truth")
    benchmark = read_revisited(written(folder, value), name="ROxford5k")
    vectors = unit_rows(np.random.default_rng(seed).standard_normal((queries + index, 5)))
    found = measured(benchmark, vectors)
    scores = vectors[:queries].astype(np.float64) @ vectors[queries:].T.astype(np.float64)
    wanted = [scores[q, sorted({*one["easy"], *one["hard"]})] for q, one in enumerate(value["gnd"])]
    run = benchmark.run(benchmark.prepare(vectors), benchmark.prepare(vectors))
    assert np.sort(run.genuine()) == pytest.approx(np.sort(np.concatenate(wanted)), abs=1e-6)
    for setting, lists in SETTINGS.items():
        if f"mAP-{setting}" not in benchmark.metrics:
            continue
        for name, wanted in published(np.argsort(-scores), value["gnd"], *lists).items():
            assert found[f"{name}-{setting}"] == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("protocol", range(6))
def test_ground_truth_is_read_from_every_pickle_protocol_with_its_boxes(tmp_path, protocol):
    value = truth(0, 3, 20)
    value["gnd"][1] = {**value["gnd"][1], "easy": [], "hard": [], "junk": [0]}
    written(tmp_path, value, protocol, "gnd_rparis6k.pkl")
    benchmark = read_revisited(tmp_path, name="RParis6k")
    assert benchmark.ids[:4].tolist() == ["query_0", "query_1", "query_2", "img_0"]
    assert benchmark.metrics[:3] == ("mAP-easy", "mAP-medium", "mAP-hard")
    assert benchmark.boxes is not None
    assert benchmark.boxes.tolist() == [[1.0, 2.0, 30.5, 40.0]] * 3
    assert benchmark.notes[0] == "easy: 1 queries have no image to be found and were left out."
    assert measured(benchmark, np.random.default_rng(0).standard_normal((23, 4)))["mAP-easy"] > 0


class Runs:
    def __reduce__(self):
        import os

        return os.mkdir, ("made-by-a-pickle",)


@pytest.mark.parametrize("protocol", range(6))
def test_ground_truth_with_code_in_it_is_refused_and_nothing_runs(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    written(tmp_path, {**truth(0, 2, 9), "extra": Runs()}, protocol)
    with pytest.raises(InputError, match=r"asks for '.*mkdir'"):
        read_revisited(tmp_path, name="ROxford5k")
    assert [path.name for path in tmp_path.iterdir()] == ["gnd_roxford5k.pkl"]


def changed(**parts: Any) -> dict[str, Any]:
    return {**truth(0, 2, 9), **parts}


def entry(**parts: Any) -> dict[str, Any]:
    return changed(gnd=[{"easy": [1], "hard": [2], "junk": [3], "bbx": [0, 0, 1, 1], **parts}] * 2)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1], "a dictionary with 'imlist'"),
        ({"imlist": [], "gnd": []}, "a dictionary with 'imlist'"),
        (changed(imlist=[1, 2]), "'imlist' should be a list of image names"),
        (changed(gnd=[]), "an entry for each of 2 queries, got 0"),
        (changed(gnd={}), "an entry for each of 2 queries, got dict"),
        (changed(gnd=[{"ok": [1], "junk": []}] * 2), "should have the lists 'easy', 'hard' and 'junk'"),
        (entry(easy=[9]), "points at image 9, but 'imlist' has 9"),
        (entry(easy=[-1]), "'imlist' has 9"),
        (entry(easy=["a"]), "a list of places"),
        (entry(easy=[0.5]), "a list of places"),
        (entry(easy=3), "a list of places"),
        (entry(hard=[1]), "names an image twice"),
        (entry(bbx=[1, 2]), "four numbers"),
        (entry(easy=[], hard=[]), "no query has an image to be found"),
        (changed(qimlist=["query_0", "img_0"]), "'img_0' is listed twice"),
    ],
)
def test_ground_truth_that_does_not_fit_gets_one_line(tmp_path, value, message):
    with pytest.raises(InputError, match=message):
        read_revisited(written(tmp_path, value), name="ROxford5k")


SOLUTION = "id,images,Usage\nq1,a c,Public\nq2,b,Private\nq3,None,Ignored\nq4,a b c d,Private\n"
INDEX = "id,landmark_id\na,1\nb,2\nc,1\nd,3\ne,9\n"


def gldv2(folder: Path, solution: str = SOLUTION, index: str = INDEX) -> Path:
    (folder / "retrieval_solution_v2.1.csv").write_text(solution)
    (folder / "index_image_to_landmark_v2.1.csv").write_text(index)
    return folder


def test_gldv2_is_average_precision_of_the_best_hundred_by_part(tmp_path):
    benchmark = read_gldv2(gldv2(tmp_path))
    assert benchmark.ids.tolist() == ["q1", "q2", "q4", "a", "b", "c", "d", "e"]
    assert benchmark.metrics == ("mAP@100", "mAP@100-public", "mAP@100-private")
    index = np.eye(5)
    queries = np.array([[5, 4, 3, 2, 1], [5, 4, 3, 2, 1], [1, 2, 3, 4, 5]], dtype=float)
    found = measured(benchmark, np.concatenate([queries, index]))
    wanted = [(1 + 2 / 3) / 2, 1 / 2, (1 / 2 + 2 / 3 + 3 / 4 + 4 / 5) / 4]
    assert found["mAP@100"] == pytest.approx(np.mean(wanted))
    assert found["mAP@100-public"] == pytest.approx(wanted[0])
    assert found["mAP@100-private"] == pytest.approx(np.mean(wanted[1:]))
    assert "1 queries that the solution ignores" in benchmark.notes[0]


def test_beyond_a_hundred_nothing_counts_and_no_more_than_a_hundred_are_asked_for(tmp_path):
    names = [f"i{row:03}" for row in range(300)]
    solution = f"id,images,Usage\nq1,{' '.join(names[:150])},Private\nq2,{names[0]} {names[299]},Private\n"
    benchmark = read_gldv2(gldv2(tmp_path, solution, "id\n" + "\n".join(names) + "\n"))
    angles = np.linspace(0, 1.5, 300)
    vectors = np.concatenate([[[1, 0], [1, 0]], np.stack([np.cos(angles), np.sin(angles)], axis=1)])
    assert measured(benchmark, vectors)["mAP@100"] == pytest.approx((1.0 + 0.5) / 2)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"solution": SOLUTION.replace("images", "pictures")}, "column 'images' is missing"),
        ({"index": INDEX.replace("id,land", "name,land")}, "column 'id' is missing"),
        ({"solution": SOLUTION.replace("a c", "a z")}, r"csv:2: image 'z' is not in index_image"),
        ({"solution": SOLUTION.replace("a c", "")}, r"csv:2: no image is listed"),
        ({"solution": SOLUTION.replace("Public", "Secret")}, r"csv:2: Usage should be"),
        ({"solution": SOLUTION.replace("q2,b,Private", "q2,b")}, r"csv:3: expected 3 columns, got 2"),
        ({"solution": "id,images,Usage\nq3,None,Ignored\n"}, "no query is Public or Private"),
        ({"solution": SOLUTION.replace("q2", "a")}, "'a' is listed twice"),
        ({"solution": ""}, "column 'id' is missing"),
    ],
)
def test_tables_that_do_not_fit_get_one_line(tmp_path, files, message):
    with pytest.raises(InputError, match=message):
        read_gldv2(gldv2(tmp_path, **files))


def test_missing_and_several_tables_are_named(tmp_path):
    with pytest.raises(InputError, match="lacks the retrieval solution"):
        read_gldv2(tmp_path)
    gldv2(tmp_path)
    (tmp_path / "retrieval_solution_v2.csv").write_text(SOLUTION)
    with pytest.raises(InputError, match="several files"):
        read_gldv2(tmp_path)


def test_file_names_are_brought_to_the_names_of_the_benchmark_only_where_that_finds_all():
    vectors = VectorSet.from_arrays(np.eye(3), ids=["jpg/a.jpg", "jpg/b.jpg", "x/c.png"])
    assert by_stem(vectors, np.array(["c", "a"])).ids.tolist() == ["a", "b", "c"]
    assert by_stem(vectors, np.array(["z", "a"])) is vectors
    assert by_stem(vectors, np.array(["jpg/a.jpg"])) is vectors
    twice = VectorSet.from_arrays(np.eye(2), ids=["1/a.jpg", "2/a.jpg"])
    assert by_stem(twice, np.array(["a"])) is twice
