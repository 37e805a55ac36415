"""Carrying out a study: shared models, any order, kills, and folders that hold something else."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from samespace.data import ArraySource, open_source
from samespace.errors import InputError
from samespace.evaluate import Certificate
from samespace.evaluate.check import OWN_GALLERY
from samespace.report.wording import MARKS, state
from samespace.studies import Plan, bct, load_settings, reproduce, unibct
from samespace.studies.jobs import do
from samespace.studies.page import mark, markdown
from samespace.studies.plan import Job, held_out, is_done, jobs, open_training, training_rows
from samespace.studies.repeated import Repeated, load_comparisons
from samespace.studies.results import mean_certificate, results
from samespace.studies.study import Share

GLYPHS = "glyphs:classes=30,images=6,size=16"
COMMAND = [sys.executable, "-m", "samespace", "reproduce", "unibct", "--data", GLYPHS]
QUICK = ("optim.epochs=2", "optim.batch_size=64", "check.replicates=100")


def plan(out: Path, *, study=None, tables=("3",), seeds=(0,), overrides=QUICK) -> Plan:
    return Plan(study or unibct(), load_settings("small", overrides), GLYPHS, out, seeds, tables)


def tables(folder: Path) -> object:
    return json.loads((folder / "study.json").read_text())["tables"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Plan:
    made = plan(tmp_path_factory.mktemp("study") / "out", seeds=(0, 1))
    reproduce(made, workers=1, say=lambda line: None, quiet=True)
    return made


def test_every_cell_is_filled_from_its_certificates(finished):
    found = json.loads((finished.out / "study.json").read_text())
    (table,) = found["tables"]
    row = next(row for row in table["rows"] if row["pair"]["new"] == "trimmed-extended-data")
    pair = next(pair for pair in finished.study.pairs() if pair.new == "trimmed-extended-data")
    metrics = [Certificate.load(finished.certificate(pair, seed))["rank@1"] for seed in (0, 1)]
    cell = row["cells"][2]
    assert cell["published"] == 72.35
    assert cell["seeds"] == [metric.cross for metric in metrics]
    assert cell["mean"] == pytest.approx(np.mean([metric.cross for metric in metrics]))
    draws = [np.load(finished.replicates(pair, seed)) for seed in (0, 1)]
    gains = np.mean([draw["rank@1 cross"] - draw["rank@1 old"] for draw in draws], axis=0)
    assert cell["difference"] == pytest.approx(np.nanquantile(gains, [0.025, 0.975]))
    ahead = np.mean([draw["rank@1 new"] - draw["rank@1 paragon"] for draw in draws], axis=0)
    assert load_comparisons(finished)[pair].leads["rank@1"] == pytest.approx(np.nanquantile(ahead, [0.025, 0.975]))
    assert (cell["criterion"], cell["compatible"]) == (
        sum(metric.criterion for metric in metrics),
        sum(metric.compatible for metric in metrics),
    )
    old = next(row for row in table["rows"] if row["test"] == "old")["cells"]
    assert old[2]["seeds"] == [metric.old for metric in metrics]
    assert old[1]["mean"] is None


@pytest.mark.parametrize(("low", "proven"), [(0.001, True), (-0.001, False)])
def test_the_figure_marks_a_gain_as_the_table_does_by_the_interval_of_the_mean(finished, low, proven):
    (comparison, *_) = load_comparisons(finished).values()
    comparison = replace(comparison, differences=dict.fromkeys(comparison.differences, (low, 0.1)))
    found = mean_certificate(comparison)["rank@1"]
    assert (found.difference, found.compatible) == ((low, 0.1), proven)
    cell = {"compatible": 1, "criterion": 2, "difference": found.difference}
    assert (mark(cell, {"seeds": [0, 1]}) == "✓") == proven


@pytest.mark.parametrize("above", [0, 1])
def test_the_figure_marks_a_failure_as_the_table_does_where_no_seed_is_above(finished, above):
    (comparison, *_) = load_comparisons(finished).values()
    down = tuple(
        replace(one, metrics={"rank@1": replace(one["rank@1"], cross=0.1, old=0.3, criterion=seed < above)})
        for seed, one in enumerate(comparison.certificates)
    )
    found = mean_certificate(Repeated(down, {"rank@1": (-0.4, 0.0)}))["rank@1"]
    cell = {"compatible": 0, "criterion": above, "difference": found.difference}
    assert mark(cell, {"seeds": [0, 1]}).startswith(MARKS[state(found)])
    assert state(found) == ("unproven" if above else "fails")


def test_a_note_that_names_a_folder_is_said_once(finished):
    comparisons = load_comparisons(finished)
    noted = {
        pair: replace(
            one,
            certificates=tuple(
                replace(certificate, notes=(f"{OWN_GALLERY}, {pair.key}, with its own queries.",))
                for certificate in one.certificates
            ),
        )
        for pair, one in comparisons.items()
    }
    assert results(finished, noted)["notes"][-1] == f"6 of 6 certificates: {OWN_GALLERY}."


def test_an_old_model_is_trained_once_for_all_rows(finished):
    trained = sorted(folder.name for folder in (finished.out / "seed0" / "models").iterdir() if folder.is_dir())
    assert [name for name in trained if name != "old-vectors"] == [
        "mean-extended-data",
        "old-images",
        "paragon-all",
        "refined-extended-data",
        "trimmed-extended-data",
    ]


def test_a_finished_study_does_nothing_and_says_so(finished):
    before = {path: path.stat().st_mtime_ns for path in finished.out.rglob("*") if path.is_file()}
    said: list[str] = []
    again = reproduce(finished, workers=2, say=said.append, quiet=True)
    assert said == ["10 models, 6 comparisons: everything is there, nothing to do"]
    assert (again.done, again.written) == (0, False)
    assert {path: path.stat().st_mtime_ns for path in finished.out.rglob("*") if path.is_file()} == before


def test_replicates_of_checks_that_were_made_without_come_from_the_vectors(finished, tmp_path):
    other = replace(finished, out=tmp_path / "out")
    shutil.copytree(finished.out, other.out)
    for seed in (0, 1):
        shutil.rmtree(other.out / f"seed{seed}" / "replicates")
    before = {path: path.stat().st_mtime_ns for path in other.out.rglob("certificates/*.json")}
    assert reproduce(replace(other, seeds=(1,)), workers=1, say=lambda line: None, quiet=True).done == 0
    assert reproduce(other, workers=1, say=lambda line: None, quiet=True).done == 6
    assert tables(other.out) == tables(finished.out)
    assert {path: path.stat().st_mtime_ns for path in other.out.rglob("certificates/*.json")} == before


def test_two_workers_find_the_same_as_one(finished, tmp_path):
    other = replace(finished, out=tmp_path / "out")
    reproduce(other, workers=2, say=lambda line: None, quiet=True)
    assert tables(other.out) == tables(finished.out)


def test_jobs_in_any_legal_order_find_the_same(finished, tmp_path):
    other = replace(finished, out=tmp_path / "out", seeds=(1, 0))
    every = jobs(other, open_training(other))
    order = random.Random(3).sample(every, len(every))
    while order:
        for job in list(order):
            if all(is_done(other, Job("train", name, job.seed)) for name in job.needs):
                do(other, job)
                order.remove(job)
    result = reproduce(replace(other, seeds=(0, 1)), workers=1, say=lambda line: None, quiet=True)
    assert result.done == 0
    assert tables(other.out) == tables(finished.out)


def test_a_study_killed_at_random_ends_with_the_same_tables(finished, tmp_path):
    command = [
        sys.executable,
        "-m",
        "samespace",
        "reproduce",
        "unibct",
        "--data",
        GLYPHS,
        "--out",
        str(tmp_path / "out"),
    ]
    command += ["--settings", "small", "--table", "3", "--seed", "0", "--seed", "1", "--workers", "2", "--quiet"]
    command += [part for override in QUICK for part in ("--set", override)]
    draw = random.Random(20261122)
    kills = 0
    seeds = tmp_path / "out"
    for _ in range(4):
        before = len(list(seeds.glob("seed*/*/*")))
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and len(list(seeds.glob("seed*/*/*"))) == before:
            time.sleep(0.01)
        time.sleep(draw.uniform(0.0, 0.7))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills >= 2
    subprocess.run(command, check=True, capture_output=True)
    assert tables(tmp_path / "out") == tables(finished.out)


@pytest.mark.skipif(sys.platform == "win32", reason="process groups work otherwise there")
@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM"])
def test_workers_leave_when_their_study_is_killed(how, tmp_path):
    command = [
        sys.executable,
        "-m",
        "samespace",
        "reproduce",
        "unibct",
        "--data",
        GLYPHS,
        "--out",
        str(tmp_path / "out"),
    ]
    command += ["--set", "optim.epochs=400", "--workers", "2", "--quiet"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    models = tmp_path / "out" / "seed0" / "models"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list(models.glob("*/recipe.yaml")):
        time.sleep(0.05)
    assert list(models.glob("*/recipe.yaml"))
    process.send_signal(getattr(signal, how))
    process.wait(timeout=30)
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    pytest.fail("workers outlived the study that was killed")


def test_a_folder_of_another_study_is_refused_and_left_alone(finished):
    before = (finished.out / "study.json").read_bytes()
    for changed, what in (
        (replace(finished, study=bct(), tables=("1b",)), "study"),
        (replace(finished, source=GLYPHS.replace("30", "31")), "images"),
        (replace(finished, settings=load_settings("small", [*QUICK, "optim.lr=0.2"])), "recipe"),
        (replace(finished, settings=load_settings("small", [*QUICK, "check.fraction=0.4"])), "check"),
    ):
        with pytest.raises(InputError, match=f"holds a study with other {what}; choose another --out"):
            reproduce(changed, workers=1, say=lambda line: None, quiet=True)
    assert (finished.out / "study.json").read_bytes() == before


def test_models_that_the_study_declared_otherwise_before_are_refused(finished, tmp_path):
    moved = replace(finished, out=tmp_path / "out")
    shutil.copytree(finished.out, moved.out)
    assert reproduce(moved, workers=1, say=lambda line: None, quiet=True).done == 0
    # old models were trained without the variant that is theirs now
    for model, section, key in (("mean-extended-data", "compatibility", "weight"), ("old-images", "optim", "epochs")):
        file = moved.model_folder(model, 1) / "recipe.yaml"
        before = file.read_text()
        recipe = yaml.safe_load(before)
        recipe[section][key] = 7
        file.write_text(yaml.safe_dump(recipe))
        with pytest.raises(InputError, match=rf"{section}.{key}: 7.* → .*remove all that has '{model}'"):
            reproduce(moved, workers=1, say=lambda line: None, quiet=True)
        file.write_text(before)


def test_a_study_can_grow_by_seeds_and_tables(tmp_path):
    small = plan(tmp_path / "out")
    assert reproduce(small, workers=1, say=lambda line: None, quiet=True).done == 8
    more = reproduce(replace(small, tables=("3", "4")), workers=1, say=lambda line: None, quiet=True)
    assert more.done == 4  # bct and regress, each trained and checked
    assert [table["name"] for table in more.results["tables"]] == ["3", "4"]


def test_wider_models_are_compared_on_the_leading_dimensions_and_the_backfill_has_every_second_percent(tmp_path):
    made = plan(tmp_path / "out", study=bct(), tables=("5", "figure"))
    found = reproduce(made, workers=1, say=lambda line: None, quiet=True).results
    assert [point["share"] for point in found["figure"]["backfill"]["points"]] == [step / 50 for step in range(51)]
    assert "## Figure 3. Partial backfill" in markdown(found)
    assert "<svg" in (made.out / "study.html").read_text()
    wide = next(pair for pair in bct().pairs() if pair.new == "beta-deeper-wider")
    for name in ("beta-deeper-wider",):
        do(made, Job("train", name, 0, ("old",)))
    do(made, Job("check", wide.key, 0))
    assert Certificate.load(made.certificate(wide, 0)).options["prefix"] is True


def test_shares_of_one_seed_are_nested_and_complements_disjoint():
    source = open_source(GLYPHS)
    kept = held_out(plan(Path("unused")), source, 4)
    assert kept is not None
    rows = {
        fraction: set(training_rows(source, kept, Share("classes", fraction), 4).tolist())
        for fraction in (0.25, 0.5, 0.9)
    }
    assert rows[0.25] < rows[0.5] < rows[0.9] < set(kept.train_rows.tolist())
    for by in ("images", "classes"):
        old, rest = (set(training_rows(source, kept, Share(by, 0.3, rest=rest), 4).tolist()) for rest in (False, True))
        assert not old & rest
        assert old | rest == set(kept.train_rows.tolist())
    assert not set(kept.query_rows.tolist()) & set(kept.train_rows.tolist())


def archive(path: Path, **more: np.ndarray) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 16, 16), dtype=np.uint8)
    np.savez(path, images=pixels, labels=np.arange(24) % 8, **more)
    return path


def test_marked_classes_and_groups_of_classes_are_held_out_whole(tmp_path):
    marks, groups = np.arange(8) >= 5, np.arange(8) // 2
    path = archive(tmp_path / "a.npz", marks=marks, groups=groups)
    source = ArraySource.from_npz(path)
    marked = replace(plan(tmp_path, overrides=(*QUICK, "check.classes=marks")), source=str(path))
    kept = held_out(marked, source, 0)
    assert set(source.labels[kept.train_rows]) == {0, 1, 2, 3, 4}
    grouped = replace(plan(tmp_path, overrides=(*QUICK, "check.groups=groups", "check.fraction=0.5")), source=str(path))
    kept = held_out(grouped, source, 0)
    trained = set(source.labels[kept.train_rows].tolist())
    assert len(trained) == 4
    assert {label // 2 for label in trained} == {label // 2 for label in range(8) if label in trained}
    assert all((label ^ 1) in trained for label in trained)


@pytest.mark.parametrize(
    ("override", "more", "message"),
    [
        (
            "check.classes=marks",
            {},
            "holds no array 'marks' for check.classes or check.groups; it holds images, labels",
        ),
        ("check.classes=marks", {"marks": np.ones(3, bool)}, "'marks' should hold one value per class, 8, got 3"),
        ("check.classes=marks", {"marks": np.arange(8)}, "should mark classes by true or false, got int64"),
    ],
)
def test_arrays_that_do_not_mark_classes_are_refused(tmp_path, override, more, message):
    path = archive(tmp_path / "a.npz", **more)
    bad = replace(plan(tmp_path, overrides=(*QUICK, override)), source=str(path))
    with pytest.raises(InputError, match=message):
        held_out(bad, ArraySource.from_npz(path), 0)


def test_marks_need_an_archive():
    bad = plan(Path("unused"), overrides=(*QUICK, "check.classes=marks"))
    with pytest.raises(InputError, match=r"cannot be read as \.npz"):
        held_out(bad, open_source(GLYPHS), 0)
