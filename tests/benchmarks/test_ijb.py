from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samespace.benchmarks.ijb import IJB
from samespace.benchmarks.ijb_files import IJBMeta
from samespace.errors import InputError
from samespace.evaluate.templates import pool
from samespace.metrics import rank_k, tar_at_far, tpir_at_fpir
from samespace.scoring import blocks

RATES = {f"TAR@FAR=1e-{power}": Fraction(1, 10**power) for power in range(1, 7)}


def make_meta(seed: int = 0, *, subjects: int = 9, probes: int = 30, strangers: int = 3, every: int = 1) -> IJBMeta:
    """Galleries G1 and G2 of unlike subjects, probes of both and of neither, pairs of gallery and probe templates."""
    generator = np.random.default_rng(seed)
    ids = np.sort(generator.choice(10_000, subjects + probes, replace=False))
    gallery, probe = ids[:subjects], ids[subjects:]
    owner = np.concatenate([np.arange(subjects), generator.integers(subjects + strangers, size=probes)])
    sizes = generator.integers(1, 5, size=len(ids))
    template = np.repeat(ids, sizes)
    first, second = (side.ravel()[::every] for side in np.meshgrid(gallery, probe, indexing="ij"))
    place = np.searchsorted(ids, np.stack([first, second]))
    genuine = owner[place[0]] == owner[place[1]]
    if not genuine.any():
        genuine[0] = True
    half = subjects // 2
    lists = {"G1": (gallery[:half], owner[:half] + 500), "G2": (gallery[half:], owner[half:subjects] + 500)}
    return IJBMeta(
        images=np.array([f"{number}.jpg" for number in range(len(template))]),
        templates=template,
        media=generator.integers(3, size=len(template)),
        first=first,
        second=second,
        genuine=genuine,
        galleries=lists,
        probes=(probe, owner[subjects:] + 500),
    )


def make_vectors(benchmark: IJB, seed: int = 0, noise: float = 1.0, dim: int = 8) -> np.ndarray:
    generator = np.random.default_rng(seed)
    people = benchmark.people
    centres = np.random.default_rng(99).normal(size=(people.identities, dim))
    code = people.identity[np.searchsorted(people.templates, benchmark.meta.templates)]
    return (centres[code] + noise * generator.normal(size=(len(code), dim))).astype(np.float32)


def ones(benchmark: IJB) -> np.ndarray:
    return np.ones((1, benchmark.identities), dtype=np.int64)


def brute_force(benchmark: IJB, queries: np.ndarray, gallery: np.ndarray) -> dict[str, float]:
    """Every metric by its definition in `samespace.metrics`, from whole tables of scores on the grid."""
    meta, names = benchmark.meta, list(benchmark.people.templates)
    grid = 2.0**-20
    table = np.round(queries.astype(np.float64) @ gallery.T.astype(np.float64) / grid) * grid
    row = [names.index(item) for item in meta.first]
    column = [names.index(item) for item in meta.second]
    scores = table[row, column]
    values = {name: tar_at_far(scores[meta.genuine], scores[~meta.genuine], rate) for name, rate in RATES.items()}
    probe, subject = (np.array(list(side)) for side in zip(*dict(zip(*meta.probes, strict=True)).items(), strict=True))
    rows = [names.index(item) for item in probe]

    def search(lists):
        found = {int(template): int(owner) for side in lists for template, owner in zip(*side, strict=True)}
        columns = [names.index(item) for item in found]
        own = probe[:, None] == np.array(list(found))[None, :]
        return (table[np.ix_(rows, columns)], subject, np.array(list(found.values()))), own

    each = [search([side]) for side in meta.galleries.values()]
    merged, own = search(list(meta.galleries.values()))
    for k in (1, 5, 10):
        values[f"rank@{k}"] = np.mean([rank_k(*inputs, k, exclude=out) for inputs, out in each])
        values[f"rank-merged@{k}"] = rank_k(*merged, k, exclude=own)
    for rate in ("1e-3", "1e-2", "1e-1"):
        exact = Fraction(rate)
        values[f"TPIR@FPIR={rate}"] = np.mean([tpir_at_fpir(*inputs, exact, exclude=out) for inputs, out in each])
        values[f"TPIR-merged@FPIR={rate}"] = tpir_at_fpir(*merged, exact, protocol="merged", exclude=own)
    return {name: values[name] for name in benchmark.metrics}


def check_values(benchmark: IJB, queries: np.ndarray, gallery: np.ndarray) -> None:
    found = benchmark.run(queries, gallery).values(ones(benchmark), benchmark.metrics)
    assert list(found) == list(benchmark.metrics)
    assert {name: value[0] for name, value in found.items()} == pytest.approx(brute_force(benchmark, queries, gallery))


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from([1, 3]))
def test_every_metric_is_its_definition(seed, every):
    benchmark = IJB.of(make_meta(seed, every=every))
    old, new = (benchmark.prepare(make_vectors(benchmark, seed + turn)) for turn in (1, 2))
    check_values(benchmark, old, old)
    check_values(benchmark, new, old)


def test_coarse_vectors_whose_scores_tie_are_judged_by_the_tie_rule():
    benchmark = IJB.of(make_meta(1, probes=60))
    kinds = np.eye(4, dtype=np.float32)
    coarse = kinds[np.random.default_rng(0).integers(4, size=len(benchmark.people.templates))]
    check_values(benchmark, coarse, coarse)
    point = np.tile(kinds[:1], (len(coarse), 1))
    found = benchmark.run(point, point).values(ones(benchmark), benchmark.metrics)
    assert all(value[0] == 0 for name, value in found.items() if not name.endswith(("@5", "@10")))


def test_duplicate_templates_a_repeated_subject_and_a_probe_in_the_gallery():
    meta = make_meta(2)
    (g1, s1), (g2, s2) = meta.galleries.values()
    probe, subject = meta.probes
    twice = meta.templates == g1[0]
    meta = replace(
        meta,
        galleries={"G1": (np.r_[g1, g1, probe[:2]], np.r_[s1, s1, subject[:2]]), "G2": (g2, s2)},
        probes=(np.r_[probe, probe, g1[:2]], np.r_[subject, subject, s1[:2]]),
        images=np.r_[meta.images, meta.images[twice]],
        templates=np.r_[meta.templates, np.full(twice.sum(), g1[1])],
        media=np.r_[meta.media, meta.media[twice] + 10],
    )
    benchmark = IJB.of(meta)
    assert benchmark.data["queries"] == len(probe) + 2
    assert benchmark.data["gallery"] == len(g1) + 2 + len(g2)
    assert len(benchmark.ids) == len(np.unique(meta.images)) < len(meta.images)
    vectors = np.random.default_rng(0).normal(size=(len(benchmark.ids), 6)).astype(np.float32)
    prepared = benchmark.prepare(vectors)
    rows = [benchmark.ids.tolist().index(image) for image in meta.images]
    np.testing.assert_allclose(prepared, pool(vectors[rows], meta.templates, meta.media).vectors, atol=1e-6)
    check_values(benchmark, prepared, prepared)


def test_pairs_and_searches_share_one_table_without_changing_a_value(monkeypatch):
    benchmark = IJB.of(make_meta(3))
    assert benchmark.people.tables.shared
    prepared = benchmark.prepare(make_vectors(benchmark))
    tables = []
    original = blocks.table_blocks

    def counted(rows, columns, **options):
        tables.append(len(rows) * len(columns))
        return original(rows, columns, **options)

    monkeypatch.setattr("samespace.benchmarks.ijb_scores.table_blocks", counted)
    together = benchmark.run(prepared, prepared).values(ones(benchmark), benchmark.metrics)
    assert tables == [30 * 9]
    # equal vectors in another array, as when a model is checked against itself
    apart = benchmark.run(prepared, prepared.copy()).values(ones(benchmark), benchmark.metrics)
    assert tables == [30 * 9] * 3
    assert together == apart


@pytest.mark.parametrize("memory", [1, 3_000, 1 << 30])
def test_memory_changes_no_value(monkeypatch, memory):
    monkeypatch.setattr(blocks, "_tile_columns", lambda rows: 8)
    meta = make_meta(4, probes=50)
    expected = IJB.of(meta)
    queries, gallery = (expected.prepare(make_vectors(expected, seed)) for seed in (1, 2))
    benchmark = IJB.of(meta, memory=memory)
    for sides in ((queries, queries), (queries, gallery)):
        values = benchmark.run(*sides).values(ones(benchmark), benchmark.metrics)
        assert values == expected.run(*sides).values(ones(benchmark), benchmark.metrics)


def test_weights_of_people_count_as_if_their_probes_and_pairs_were_written_out():
    meta = make_meta(5, probes=60)
    benchmark = IJB.of(meta)
    people = benchmark.people
    queries, gallery = (benchmark.prepare(make_vectors(benchmark, seed, 1.5)) for seed in (1, 2))
    counts = np.random.default_rng(0).integers(0, 4, size=(5, benchmark.identities))
    found = benchmark.run(queries, gallery).values(counts, benchmark.metrics)
    number = {int(template): place for place, template in enumerate(people.templates)}
    for place, row in enumerate(counts):
        weight = {template: row[people.identity[code]] for template, code in number.items()}
        one, other = (np.array([weight[int(item)] for item in side]) for side in (meta.first, meta.second))
        times = np.where(meta.genuine, one, one * other)
        table = (queries.astype(np.float64) @ gallery.T).round(6)
        scores = table[[number[int(item)] for item in meta.first], [number[int(item)] for item in meta.second]]
        value = tar_at_far(
            np.repeat(scores[meta.genuine], times[meta.genuine]),
            np.repeat(scores[~meta.genuine], times[~meta.genuine]),
            0.01,
        )
        assert found["TAR@FAR=1e-2"][place] == pytest.approx(value)
        rows = np.repeat(people.probe, row[people.identity[people.probe]])
        subject = np.repeat(people.probe_subject, row[people.identity[people.probe]])
        each = [(table[np.ix_(rows, part.template)], subject, part.subject) for part in people.galleries]
        assert found["rank@5"][place] == pytest.approx(np.mean([rank_k(*inputs, 5) for inputs in each]))
        assert found["TPIR@FPIR=1e-1"][place] == pytest.approx(
            np.mean([tpir_at_fpir(*inputs, Fraction(1, 10)) for inputs in each])
        )
        merged = np.concatenate([part.template for part in people.galleries])
        owners = np.concatenate([part.subject for part in people.galleries])
        assert found["TPIR-merged@FPIR=1e-1"][place] == pytest.approx(
            tpir_at_fpir(table[np.ix_(rows, merged)], subject, owners, Fraction(1, 10), protocol="merged")
        )


def test_an_empty_template_scores_zero_and_is_no_nan():
    benchmark = IJB.of(make_meta(6))
    vectors = make_vectors(benchmark)
    vectors[benchmark.meta.templates == benchmark.people.templates[0]] = 0
    prepared = benchmark.prepare(vectors)
    assert not prepared[0].any()
    check_values(benchmark, prepared, prepared)


def test_the_detectors_score_weighs_the_images():
    meta = make_meta(7)
    scores = np.random.default_rng(1).random(len(meta.images))
    benchmark = IJB.of(replace(meta, scores=scores), normalize=False)
    vectors = make_vectors(benchmark)
    expected = pool(vectors, meta.templates, meta.media, weights=scores, normalize=False)
    np.testing.assert_array_equal(benchmark.prepare(vectors), expected.vectors)


def test_vectors_in_another_order_are_found_by_row():
    benchmark = IJB.of(make_meta(8))
    vectors = make_vectors(benchmark)
    order = np.random.default_rng(0).permutation(len(vectors) + 5)[: len(vectors)]
    scattered = np.full((len(vectors) + 5, 8), np.nan, dtype=np.float32)
    scattered[order] = vectors
    np.testing.assert_allclose(benchmark.prepare(scattered, order), benchmark.prepare(vectors), atol=1e-6)


def test_people_are_told_by_subjects_and_by_pairs():
    meta = make_meta(9)
    known = IJB.of(meta).people
    assert known.identities == len(np.unique(np.r_[known.probe_subject, *(g.subject for g in known.galleries)]))
    told = IJB.of(replace(meta, galleries={}, probes=None))
    genuine, identity = told.people.genuine, told.people.identity
    same = identity[told.people.first] == identity[told.people.second]
    assert same[genuine].all()
    apart = ~same[~genuine]
    assert apart.mean() > 0.5


def test_a_label_against_the_subjects_is_noted():
    meta = make_meta(10)
    subject = dict(zip(*meta.probes, strict=True)) | {
        int(t): int(s) for side in meta.galleries.values() for t, s in zip(*side, strict=True)
    }
    genuine = np.array([subject[int(a)] == subject[int(b)] for a, b in zip(meta.first, meta.second, strict=True)])
    assert not any("two subjects" in note for note in IJB.of(replace(meta, genuine=genuine)).notes)
    wrong = genuine.copy()
    wrong[np.flatnonzero(~genuine)[:2]] = True
    assert any("2 pairs are said to be of one person" in note for note in IJB.of(replace(meta, genuine=wrong)).notes)


def test_without_a_probe_that_lacks_a_mate_everywhere_the_merged_galleries_still_do():
    benchmark = IJB.of(make_meta(11, strangers=0))
    assert "TPIR@FPIR=1e-2" in benchmark.metrics
    prepared = benchmark.prepare(make_vectors(benchmark))
    check_values(benchmark, prepared, prepared)


def test_galleries_without_probes_are_refused():
    with pytest.raises(InputError, match="both galleries and probes"):
        IJB.of(replace(make_meta(12), probes=None))


@pytest.mark.parametrize("shift", [0, 2**40])
def test_a_template_without_an_image_is_refused_by_name(shift):
    meta = make_meta(13)
    far = replace(
        meta,
        templates=meta.templates + shift,
        first=meta.first + shift,
        second=meta.second + shift,
        galleries={name: (template + shift, subject) for name, (template, subject) in meta.galleries.items()},
        probes=(meta.probes[0] + shift, meta.probes[1]),
    )
    assert IJB.of(far).people.first.tolist() == IJB.of(meta).people.first.tolist()
    gap = int(np.setdiff1d(np.arange(meta.templates.min(), meta.templates.max()), meta.templates)[0]) + shift
    for unknown in (gap, -1, shift + 10_001):
        second = np.r_[unknown, far.second[1:]]
        with pytest.raises(InputError, match=f"template {unknown} has no image"):
            IJB.of(replace(far, second=second))


def test_pairs_beyond_the_searched_templates_are_scored_too():
    meta = make_meta(14, probes=40)
    probe, subject = meta.probes
    gallery, owner = meta.galleries["G2"]
    few = replace(meta, probes=(probe[:-4], subject[:-4]), galleries=meta.galleries | {"G2": (gallery[1:], owner[1:])})
    narrow = replace(meta, probes=(probe[:20], subject[:20]))
    turned = replace(meta, first=meta.second, second=meta.first)
    sparse = make_meta(14, probes=40, every=90)
    for some, shared in ((meta, True), (few, True), (narrow, True), (turned, False), (sparse, False)):
        benchmark = IJB.of(some)
        assert benchmark.people.tables.shared == shared
        prepared = benchmark.prepare(make_vectors(benchmark))
        check_values(benchmark, prepared, prepared)
