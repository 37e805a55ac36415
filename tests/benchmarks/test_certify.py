from __future__ import annotations

import io
from dataclasses import dataclass, replace

import numpy as np
import pytest
from rich.console import Console

from samespace.benchmarks.certify import certify, certify_with_replicates, rows_of
from samespace.benchmarks.ijb import IJB
from samespace.benchmarks.ijb_files import IJBMeta
from samespace.errors import InputError
from samespace.evaluate import Certificate
from samespace.metrics import interval
from samespace.report import print_certificate, write_report
from samespace.space import Space
from samespace.vectors import VectorSet

FAST = {"replicates": 200}
SOME = ["TAR@FAR=1e-2", "rank@1", "TPIR-merged@FPIR=1e-1"]
TESTS = ("old", "cross", "new", "paragon")


@dataclass(frozen=True)
class World:
    benchmark: IJB
    old: VectorSet
    new: VectorSet
    best: VectorSet


@pytest.fixture(scope="module")
def world() -> World:
    """40 subjects in two galleries, 300 probes of 50; old = signal + much noise, new and best = signal + less."""
    generator = np.random.default_rng(0)
    gallery, probe = np.arange(40), 100 + np.arange(300)
    owner = np.concatenate([gallery, generator.integers(50, size=300)])
    template = np.repeat(np.concatenate([gallery, probe]), 2)
    person = np.repeat(owner, 2)
    first, second = (side.ravel() for side in np.meshgrid(np.arange(40), np.arange(300), indexing="ij"))
    meta = IJBMeta(
        images=np.array([f"{number}.jpg" for number in range(len(template))]),
        templates=template,
        media=np.arange(len(template)),
        first=first,
        second=second + 100,
        genuine=first == owner[40 + second],
        galleries={"G1": (gallery[:20], gallery[:20]), "G2": (gallery[20:], gallery[20:])},
        probes=(probe, owner[40:]),
    )
    benchmark = IJB.of(meta)
    centres = generator.normal(size=(50, 24))

    def seen(name: str, noise: float) -> VectorSet:
        vectors = centres[person] + noise * generator.normal(size=(len(person), 24))
        space = Space(weights=name.ljust(64, "0"), preprocessing="none", dim=24, normalized=True, name=name)
        return VectorSet.from_arrays(vectors, ids=meta.images, space=space, name=name)

    return World(benchmark, seen("old", 1.6), seen("new", 0.8), seen("best", 0.6))


@pytest.fixture(scope="module")
def certificate(world) -> Certificate:
    return certify(world.benchmark, old=world.old, new=world.new, paragon=world.best, metrics=SOME, **FAST)


def values(benchmark: IJB, queries: np.ndarray, gallery: np.ndarray) -> dict[str, float]:
    ones = np.ones((1, benchmark.identities), dtype=np.int64)
    found = benchmark.run(benchmark.prepare(queries), benchmark.prepare(gallery)).values(ones, SOME)
    return {name: float(value[0]) for name, value in found.items()}


def test_each_test_has_its_model_on_its_side(world, certificate):
    old, new, best = world.old.vectors, world.new.vectors, world.best.vectors
    sides = {"old": (old, old), "cross": (new, old), "swap": (old, new), "new": (new, new), "paragon": (best, best)}
    for test, models in sides.items():
        for name, value in values(world.benchmark, *models).items():
            assert getattr(certificate[name], test) == value
    assert certificate["rank@1"].cross != certificate["rank@1"].swap


def test_replicates_are_those_behind_the_certificate(world, certificate):
    sets = {"old": world.old, "new": world.new, "paragon": world.best}
    other, draws = certify_with_replicates(
        world.benchmark, **sets, metrics=SOME, replicates=200, seed=certificate.seed + 1, by_seed=certificate.seed
    )
    assert other["rank@1"].cross == certificate["rank@1"].cross
    assert other["rank@1"].difference != certificate["rank@1"].difference
    assert draws.keys() == {(name, test) for name in SOME for test in TESTS}
    for name in SOME:
        assert interval(draws[name, "cross"] - draws[name, "old"]) == certificate[name].difference
        assert interval(draws[name, "new"]) == certificate[name].intervals["new"]


def test_a_better_model_of_the_same_space_is_compatible(certificate):
    assert certificate.compatible
    for result in certificate.metrics.values():
        assert result.old < result.cross < result.paragon
        assert 0 < result.difference[0] <= result.absolute_gain <= result.difference[1]
        assert result.update_gain == pytest.approx((result.cross - result.old) / (result.paragon - result.old))
        assert result.control < result.intervals["old"][0]
        for test in TESTS:
            low, high = result.intervals[test]
            assert low <= getattr(result, test) <= high


def test_the_unchanged_old_model_and_a_rotated_one_are_not_compatible(world):
    benchmark = world.benchmark
    same = certify(benchmark, old=world.old, new=replace(world.old, vectors=world.old.vectors.copy()), **FAST)
    assert not any(result.compatible or result.criterion for result in same.metrics.values())
    assert all(result.difference == (0.0, 0.0) for result in same.metrics.values())
    turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(24, 24)))
    turned = replace(world.new, vectors=(world.new.vectors @ turn).astype(np.float32), space=None)
    rotated = certify(benchmark, old=world.old, new=turned, metrics=SOME, **FAST)
    assert not any(result.compatible or result.criterion for result in rotated.metrics.values())
    assert rotated["rank@1"].new > rotated["rank@1"].old


def test_every_metric_of_the_table_is_measured_by_default(world):
    result = certify(world.benchmark, old=world.old, new=world.new, **FAST)
    assert tuple(result.metrics) == world.benchmark.metrics
    assert result["TAR@FAR=1e-6"].paragon is None
    assert any("TAR@FAR=1e-6, TAR@FAR=1e-5: " in note for note in result.notes)


def test_ids_match_whatever_the_order_and_rows_where_there_are_none(world, certificate):
    order = np.random.default_rng(5).permutation(len(world.old))
    shuffled = world.old.subset(order)
    extra = VectorSet.from_arrays(
        np.vstack([shuffled.vectors, np.ones((3, 24))]), ids=[*shuffled.ids, "x", "y", "z"], space=world.old.space
    )
    nameless = VectorSet.from_arrays(world.new.vectors)
    result = certify(world.benchmark, old=extra, new=nameless, metrics=SOME, **FAST)
    for name in SOME:
        assert result[name].cross == pytest.approx(certificate[name].cross, abs=1e-3)
    assert rows_of(world.benchmark, world.old) is None
    np.testing.assert_array_equal(extra.ids[rows_of(world.benchmark, extra)], world.benchmark.ids)


def test_a_prefix_is_the_leading_part_of_pooled_templates(world, certificate):
    longer = np.hstack([world.new.vectors, np.random.default_rng(2).normal(size=(len(world.new), 6))])
    new = VectorSet.from_arrays(longer, ids=world.new.ids, name="longer")
    result = certify(world.benchmark, old=world.old, new=new, metrics=["rank@1"], prefix=True, **FAST)
    prepared = world.benchmark.prepare(new.vectors)[:, :24].astype(np.float64)
    leading = (prepared / np.linalg.norm(prepared, axis=1, keepdims=True)).astype(np.float32)
    ones = np.ones((1, world.benchmark.identities), dtype=np.int64)
    found = world.benchmark.run(leading, world.benchmark.prepare(world.old.vectors)).values(ones, ["rank@1"])
    assert result["rank@1"].cross == found["rank@1"][0]
    assert result["rank@1"].new == values(world.benchmark, longer, longer)["rank@1"]
    assert result.options == {"benchmark": "IJB-C", "prefix": True}


def test_two_runs_agree_and_progress_is_told(world, certificate):
    told = []
    again = certify(
        world.benchmark,
        old=world.old,
        new=world.new,
        paragon=world.best,
        metrics=SOME,
        progress=lambda done, total: told.append((done, total)),
        **FAST,
    )
    assert {**again.to_dict(), "created": ""} == {**certificate.to_dict(), "created": ""}
    assert told == [(done, 6) for done in range(1, 7)]


def test_a_certificate_survives_saving_and_prints(certificate, tmp_path):
    certificate.save(tmp_path / "certificate.json")
    assert Certificate.load(tmp_path / "certificate.json") == certificate
    assert certificate.to_dict()["metrics"]["rank@1"]["swap"] == certificate["rank@1"].swap
    assert certificate.data["templates"] == 340
    out = io.StringIO()
    print_certificate(certificate, Console(file=out, width=120))
    assert "TPIR-merged@FPIR=1e-1" in out.getvalue()
    assert "Benchmark: IJB-C." in out.getvalue()


def test_a_model_without_a_direction_for_a_template_is_noted(world):
    vectors = world.new.vectors.copy()
    vectors[:2] = 0
    result = certify(world.benchmark, old=world.old, new=replace(world.new, vectors=vectors), metrics=SOME, **FAST)
    assert any("1 of 340 templates or images have no direction in the new vectors" in note for note in result.notes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ["rank@2"]}, "IJB-C has no metric 'rank@2'; did you mean"),
        ({"metrics": []}, "no metric asked for"),
        ({"metrics": "rank@1"}, "a list of names"),
        ({"prefix": True}, "leave prefix out"),
        ({"replicates": 0}, "at least 1"),
        ({"confidence": 1.0}, "between 0 and 1"),
    ],
)
def test_options_out_of_range_are_refused(world, options, message):
    with pytest.raises(InputError, match=message):
        certify(world.benchmark, old=world.old, new=world.new, **options)


def test_sets_that_do_not_fit_are_refused(world):
    benchmark, old, new = world.benchmark, world.old, world.new
    with pytest.raises(InputError, match=r"lacks 1 of the 680 images of IJB-C, the first with id '0.jpg'; its own"):
        certify(benchmark, old=old.subset(np.arange(1, 680)), new=new)
    with pytest.raises(InputError, match="needs 680 images"):
        certify(benchmark, old=old, new=VectorSet.from_arrays(new.vectors[1:]))
    with pytest.raises(InputError, match="cannot be compared"):
        certify(benchmark, old=old, new=VectorSet.from_arrays(new.vectors[:, :8], ids=new.ids))
    with pytest.raises(InputError, match="use prefix"):
        certify(benchmark, old=VectorSet.from_arrays(old.vectors[:, :8], ids=old.ids), new=new)


def test_what_the_benchmark_leaves_undefined_is_refused(world):
    class Undefined:
        name, metrics, identities, notes = "Nothing", ("rank@1",), 3, ()
        ids, data = world.benchmark.ids, {}

        def prepare(self, vectors, rows=None):
            return world.benchmark.prepare(vectors, rows)

        def run(self, queries, gallery):
            return self

        def values(self, counts, names):
            return {name: np.full(len(counts), np.nan) for name in names}

    with pytest.raises(InputError, match=r"rank@1 is undefined on this benchmark"):
        certify(Undefined(), old=world.old, new=world.new)


def test_a_certificate_without_curves_and_examples_makes_a_page(certificate, tmp_path):
    write_report(certificate, tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "TPIR-merged@FPIR=1e-1" in page
    assert "IJB-C" in page


def test_the_spread_of_genuine_scores_is_that_of_the_listed_pairs(world, certificate):
    benchmark = world.benchmark
    people = benchmark.people
    for test, sides in {"old": (world.old, world.old), "cross": (world.new, world.old)}.items():
        first, second = (benchmark.prepare(side.vectors) for side in sides)
        scores = np.einsum("ij,ij->i", first[people.first], second[people.second])[people.genuine]
        one = certificate.genuine[test]
        assert (one.mean, one.std) == pytest.approx((scores.mean(), scores.std()), abs=1e-5)
    assert set(certificate.genuine) == set(TESTS)
    assert certify(benchmark, old=world.old, new=world.new, metrics=["rank@1"], **FAST).genuine == {}
