"""`samespace benchmark` on small files in the published formats."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from samespace.cli.main import run

DIM, PEOPLE, EACH = 12, 80, 4


@dataclass
class Case:
    """A benchmark's files, its images, and who is in each."""

    files: str
    ids: list[str]
    people: np.ndarray
    metric: str


def market(folder: Path) -> Case:
    names, people = [], []
    for person in range(1, PEOPLE + 1):
        for camera in range(1, EACH + 1):
            place = "query" if camera == 1 else "bounding_box_test"
            names.append(f"{place}/{person:04}_c{camera}s1_000001_00.jpg")
            people.append(person)
    names += ["bounding_box_test/-1_c1s1_000001_00.jpg", "bounding_box_test/0000_c2s1_000001_00.jpg"]
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"")
    return Case(str(folder), names, np.array([*people, 0, PEOPLE + 1]), "mAP")


def msmt(folder: Path) -> Case:
    names, people = [], []
    for part, cameras in (("query", (1,)), ("gallery", range(2, EACH + 1))):
        lines = []
        for person in range(PEOPLE):
            for camera in cameras:
                name = f"{person:04}/{person:04}_000_{camera:02}_0303morning_0008_0.jpg"
                lines.append(f"{name} {person}")
                names.append(f"test/{name}")
                people.append(person)
                (folder / "test" / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / "test" / name).write_bytes(b"")
        (folder / f"list_{part}.txt").write_text("\n".join(lines) + "\n")
    return Case(str(folder), names, np.array(people), "rank@1")


def revisited(folder: Path, name: str) -> Case:
    queries = [f"query_{row}" for row in range(PEOPLE)]
    index = [f"image_{row}" for row in range(PEOPLE * EACH)]
    lists = [{"easy": [row], "hard": [row + PEOPLE], "junk": [row + 2 * PEOPLE]} for row in range(PEOPLE)]
    truth = {"qimlist": queries, "imlist": index, "gnd": [{"bbx": [0, 0, 9, 9], **entry} for entry in lists]}
    (folder / f"gnd_{name}.pkl").write_bytes(pickle.dumps(truth, 2))
    people = np.concatenate([np.arange(PEOPLE), np.arange(PEOPLE * EACH) % PEOPLE])
    return Case(
        str(folder / f"gnd_{name}.pkl"), [f"jpg/{image}.jpg" for image in queries + index], people, "mAP-medium"
    )


def gldv2(folder: Path) -> Case:
    queries = [f"q{row}" for row in range(PEOPLE)]
    index = [f"i{row}" for row in range(PEOPLE * EACH)]
    rows = [f"{name},{' '.join(index[row::PEOPLE])},Private" for row, name in enumerate(queries)]
    (folder / "retrieval_solution_v2.1.csv").write_text("\n".join(["id,images,Usage", *rows]) + "\n")
    (folder / "index.csv").write_text("\n".join(["id", *index]) + "\n")
    people = np.concatenate([np.arange(PEOPLE), np.arange(PEOPLE * EACH) % PEOPLE])
    return Case(str(folder), queries + index, people, "mAP@100")


def lfw(folder: Path) -> Case:
    names = [f"Person_{row:02}" for row in range(PEOPLE)]
    lines = [f"4 {PEOPLE // 4}"]
    for fold in range(4):
        mine = range(fold * PEOPLE // 4, (fold + 1) * PEOPLE // 4)
        lines += [f"{names[row]} 1 2" for row in mine]
        lines += [f"{names[row]} 1 {names[(row + 1) % PEOPLE]} 2" for row in mine]
    (folder / "pairs.txt").write_text("\n".join(lines) + "\n")
    ids = [f"{name}/{name}_{number:04}.jpg" for name in names for number in (1, 2)]
    return Case(str(folder), ids, np.repeat(np.arange(PEOPLE), 2), "accuracy")


def ijb(folder: Path, name: str) -> Case:
    ids = [f"{row}.jpg" for row in range(PEOPLE * EACH)]
    lines = [f"{image} {row // 2 + 1} {row + 1}" for row, image in enumerate(ids)]
    (folder / f"{name}_face_tid_mid.txt").write_text("\n".join(lines) + "\n")
    pairs = [f"{2 * a + 1} {2 * b + 2} {int(a == b)}" for a in range(PEOPLE) for b in range(PEOPLE)]
    (folder / f"{name}_template_pair_label.txt").write_text("\n".join(pairs) + "\n")
    return Case(str(folder), ids, np.repeat(np.arange(PEOPLE), EACH), "TAR@FAR=1e-1")


CASES = {
    "market1501": market,
    "msmt17": msmt,
    "roxford5k": lambda folder: revisited(folder, "roxford5k"),
    "rparis6k": lambda folder: revisited(folder, "rparis6k"),
    "gldv2": gldv2,
    "lfw": lfw,
    "ijbb": lambda folder: ijb(folder, "ijbb"),
    "ijbc": lambda folder: ijb(folder, "ijbc"),
}


def embed(case: Case, folder: Path) -> None:
    """Vectors of one space, each set in an order of its own: much noise by the old model, little by the others."""
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((case.people.max() + 1, DIM))
    for name, noise in {"old": 1.6, "new": 0.5, "best": 0.2}.items():
        vectors = centres[case.people] + noise * generator.standard_normal((len(case.people), DIM))
        turn = generator.permutation(len(case.ids))
        np.savez(folder / f"{name}.npz", vectors=vectors[turn].astype(np.float32), ids=np.array(case.ids)[turn])


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """Writes the files of a benchmark and vectors of its images, into which it changes."""

    def make(name: str) -> Case:
        (tmp_path / "files").mkdir()
        case = CASES[name](tmp_path / "files")
        embed(case, tmp_path)
        monkeypatch.chdir(tmp_path)
        return case

    return make


def refused(capsys, *arguments: str) -> str:
    capsys.readouterr()
    assert run(["benchmark", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    return err


VECTORS = ("--old", "old.npz", "--new", "new.npz", "--replicates", "200")


@pytest.mark.parametrize("name", CASES)
def test_a_better_model_passes_and_its_certificate_names_the_benchmark(prepared, capsys, name):
    case = prepared(name)
    metric = ("--metric", case.metric)
    status = run(["benchmark", name, case.files, *VECTORS, "--paragon", "best.npz", *metric, "--json", "found.json"])
    out = capsys.readouterr().out
    found = json.loads(Path("found.json").read_text())
    assert status == 0, out
    assert list(found["metrics"]) == [case.metric]
    result = found["metrics"][case.metric]
    assert result["old"] < result["cross"] <= result["paragon"]
    assert result["control"] < result["cross"]
    assert 0 < result["update_gain"] <= 1
    assert case.metric.split("@")[0] in out


def test_an_old_model_against_itself_is_not_compatible(prepared):
    case = prepared("market1501")
    same = ("--old", "old.npz", "--new", "old.npz", "--replicates", "100")
    assert run(["benchmark", "market1501", case.files, *same]) == 1


def test_all_metrics_are_measured_and_a_page_is_written(prepared, capsys):
    case = prepared("msmt17")
    assert run(["benchmark", "msmt17", case.files, *VECTORS, "--report", "page", "--json", "-"]) in (0, 1)
    found = json.loads(capsys.readouterr().out)
    assert list(found["metrics"]) == ["mAP", "rank@1", "rank@5", "rank@10", "mAP-trapezoid"]
    assert Path("page/report.html").is_file()
    assert json.loads(Path("page/certificate.json").read_text())["metrics"].keys() == found["metrics"].keys()


def test_the_same_command_gives_the_same_numbers(prepared, capsys):
    case = prepared("lfw")
    results = []
    for _ in range(2):
        run(["benchmark", "lfw", case.files, *VECTORS, "--json", "-"])
        results.append(json.loads(capsys.readouterr().out)["metrics"])
    assert results[0] == results[1]


def test_help_says_which_files_each_benchmark_wants(capsys):
    assert run(["benchmark", "--help"]) == 0
    shown = capsys.readouterr().out
    for word in (*CASES, "gnd_roxford5k.pkl", "pairs.txt", "retrieval_solution", "tid_mid"):
        assert word in shown


def test_wrong_use_gets_one_line(prepared, capsys):
    case = prepared("roxford5k")
    assert "market1501" in refused(capsys, "market1500", case.files, *VECTORS)
    assert "does not exist" in refused(capsys, "roxford5k", "nowhere.pkl", *VECTORS)
    assert "has no metric 'mAP'" in refused(capsys, "roxford5k", case.files, *VECTORS, "--metric", "mAP")
    np.savez("other.npz", vectors=np.eye(len(case.ids), DIM, dtype=np.float32) + 1, ids=np.arange(len(case.ids)))
    assert "lacks 400 of the 400 images" in refused(capsys, "roxford5k", case.files, *VECTORS[:3], "other.npz")
    assert "roxford5k has none" in refused(capsys, "roxford5k", case.files, *VECTORS, "--weights", "detector")
    assert "is a file" in refused(capsys, "roxford5k", case.files, *VECTORS, "--report", "old.npz")
    assert "leave prefix out" in refused(capsys, "roxford5k", case.files, *VECTORS, "--prefix")


def test_a_pickle_with_code_in_it_is_refused_and_runs_nothing(prepared, capsys):
    import os

    class Runs:
        def __reduce__(self):
            return os.mkdir, ("made-by-a-pickle",)

    case = prepared("roxford5k")
    Path(case.files).write_bytes(pickle.dumps({"gnd": Runs()}))
    assert "mkdir" in refused(capsys, "roxford5k", case.files, *VECTORS)
    assert not Path("made-by-a-pickle").exists()


def test_an_image_without_direction_is_named(prepared, capsys):
    case = prepared("lfw")
    with np.load("new.npz") as archive:
        arrays = dict(archive)
    arrays["vectors"][list(arrays["ids"]).index(case.ids[3])] = 0
    np.savez("new.npz", **arrays)
    assert case.ids[3] in refused(capsys, "lfw", case.files, *VECTORS)


def test_the_leading_part_of_wider_vectors_is_compared_where_asked(prepared):
    case = prepared("market1501")
    with np.load("new.npz") as archive:
        arrays = dict(archive)
    arrays["vectors"] = np.concatenate([arrays["vectors"], np.ones((len(case.ids), 3), np.float32)], axis=1)
    np.savez("new.npz", **arrays)
    metric = ("--metric", "mAP", "--json", "found.json")
    assert run(["benchmark", "market1501", case.files, *VECTORS, *metric]) == 2
    assert run(["benchmark", "market1501", case.files, *VECTORS, *metric, "--prefix"]) == 0
