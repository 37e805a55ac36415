"""A check against a brute force of the search that is deployed: each score, stored form and truncation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from samespace import metrics
from samespace.cli.main import run
from samespace.errors import InputError, SpaceError
from samespace.evaluate import check
from samespace.evaluate.certificate import Certificate
from samespace.evaluate.relevance import Judgements
from samespace.scoring import sides
from samespace.scoring.stored import Int8Codes
from samespace.space import Space
from samespace.vectors import VectorSet

SCORES = ("cosine", "ip", "l2")
FORMS = ("float32", "float16", "int8", "binary")
NAMES = ["rank@1", "rank@3", "mAP", "TAR@FAR=0.1", "TPIR@FPIR=0.5"]
FAST = {"replicates": 20, "examples": 2}


def unit(rows):
    return rows / np.sqrt((rows**2).sum(axis=1, keepdims=True))


def stored(gallery, form, score):
    """What the store holds of (G, D) float64 vectors, and what it compares."""
    if form == "float16":
        gallery = gallery.astype(np.float16).astype(np.float64)
    if score == "cosine":
        gallery = unit(gallery)
    if form == "binary":
        return np.where(gallery > 0, 1.0, -1.0)
    if form == "int8":
        rows = gallery.astype(np.float32)
        low, high = rows.min(axis=0), rows.max(axis=0)
        held = np.empty_like(rows)
        for place in np.ndindex(*rows.shape):
            width = high[place[1]] - low[place[1]]
            code = int(np.float32(255) * ((rows[place] - low[place[1]]) / width)) if width else 0
            held[place] = low[place[1]] + width * (np.float32(code + 0.5) / np.float32(255))
        return held.astype(np.float64)
    return gallery


def deployed(queries, gallery, score, form, dim=None):
    """Scores of the deployed search, (Q, G), pair by pair; rounded so that what is equal by definition ties."""
    queries, gallery = (side.vectors.astype(np.float64)[:, :dim] for side in (queries, gallery))
    items = stored(gallery, form, score)
    if form == "binary":
        asked = np.where(queries > 0, 1.0, -1.0)
        distance = np.array([[(query != item).sum() for item in items] for query in asked])
        width = queries.shape[1]
        return {"cosine": 1 - 2 * distance / width, "ip": width - 2 * distance, "l2": -4.0 * distance}[score]
    asked = unit(queries) if score == "cosine" else queries
    if score == "l2":
        table = np.array([[-((query - item) ** 2).sum() for item in items] for query in asked])
    else:
        table = np.array([[(query * item).sum() for item in items] for query in asked])
    return np.round(table, 9).astype(np.float32) if score == "cosine" else np.round(table, 6)


def expected(table, queries, gallery):
    same = queries.labels[:, None] == gallery.labels
    mated = same.any(axis=1)
    best = [np.where(kind, table, -np.inf).max(axis=1) for kind in (same, ~same)]
    threshold = metrics.threshold_at_far(best[1][~mated], 0.5)
    return {
        "rank@1": metrics.rank_k(table, queries.labels, gallery.labels, 1),
        "rank@3": metrics.rank_k(table, queries.labels, gallery.labels, 3),
        "mAP": metrics.mean_average_precision(table, queries.labels, gallery.labels),
        "TAR@FAR=0.1": metrics.tar_at_far(table[same], table[~same], 0.1),
        "TPIR@FPIR=0.5": float(np.mean(((best[0] > best[1]) & (best[0] > threshold))[mated])),
    }


def sets(seed, dims=(4, 4), *, ties):
    """Queries, gallery, baseline and paragon of lengths that vary widely; of few values where ties are wanted."""
    rng = np.random.default_rng(seed)
    labels = {"q": np.arange(26) % 13, "g": np.arange(30) % 10}

    def made(kind, dim):
        count = len(labels[kind])
        if ties:
            values = rng.integers(-2, 3, (count, dim)).astype(np.float32)
            values[(values == 0).all(axis=1), 0] = 1
            values[:, 0] += values[:, 0] == 0
        else:
            centres = np.random.default_rng(7).normal(size=(13, max(dims)))[labels[kind]][:, :dim]
            values = (centres + rng.normal(size=(count, dim))) * rng.uniform(0.2, 6, (count, 1))
            values[1] = values[0]
        return VectorSet.from_arrays(values, labels=labels[kind], ids=[f"{kind}{row}" for row in range(count)])

    old, new = dims
    given = {"baseline": made("q", old), "gallery": made("g", old), "queries": made("q", new)}
    # the new model against itself, without the backfill that a new gallery adds
    return given | {"paragon": (given["queries"], made("g", new))}


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("score", SCORES)
def test_a_check_is_a_brute_force_of_the_deployed_search(score, form, ties, monkeypatch):
    for seed, dims, truncate in ((0, (4, 4), None), (1, (5, 8), None), (2, (8, 5), 3)):
        given = sets(seed, dims, ties=ties)
        prefix = dims[1] > dims[0] and truncate is None
        options = {"score": score, "stored_as": form, "truncate": truncate, "prefix": prefix, "metrics": NAMES, **FAST}
        whole = check(**given, **options)
        if seed == 1:
            with monkeypatch.context() as patched:
                # vectors that are too many to be kept, read again a few at a time
                patched.setattr(sides, "_CACHE_BYTES", 0)
                patched.setattr(sides, "_READ_ROWS", 7)
                assert replace(check(**given, **options, block_size=5), created="") == replace(whole, created="")
        dim = min(dims) if truncate is None else truncate
        queries, gallery = given["queries"], given["gallery"]
        tests = {"old": (given["baseline"], gallery), "cross": (queries, gallery), "paragon": given["paragon"]}
        for test, (asked, held) in tests.items():
            cut = dim if test == "cross" else truncate
            table = deployed(asked, held, score, form, cut)
            for name, value in expected(table, asked, held).items():
                assert getattr(whole[name], test) == pytest.approx(value, abs=1e-12), (seed, test, name)


def test_halves_are_those_of_a_gallery_that_is_float16_on_disk(world):
    given = world.sets()
    held = {
        role: replace(one, vectors=one.vectors.astype(np.float16)) if "gallery" in role else one
        for role, one in given.items()
    }
    for score in SCORES:
        once = check(**given, stored_as="float16", score=score, **FAST)
        assert check(**held, score=score, **FAST).metrics == once.metrics


@pytest.mark.parametrize("score", ["ip", "l2"])
def test_eight_bits_are_those_of_faiss(score):
    faiss = pytest.importorskip("faiss", reason="faiss is not installed: pip install 'samespace[faiss]'")
    rng = np.random.default_rng(4)
    gallery = rng.normal(size=(300, 24)).astype(np.float32) * rng.uniform(0.3, 4, (300, 1)).astype(np.float32)
    gallery[:, 5] = 0.25
    metric = {"ip": faiss.METRIC_INNER_PRODUCT, "l2": faiss.METRIC_L2}[score]
    index = faiss.IndexScalarQuantizer(24, faiss.ScalarQuantizer.QT_8bit, metric)
    index.train(gallery)
    index.add(gallery)
    codes = Int8Codes.of([gallery[:100], gallery[100:]])
    ours = codes.encode(gallery)
    assert (ours == faiss.vector_to_array(index.codes).reshape(300, 24)).all()
    np.testing.assert_allclose(codes.decode(ours), index.reconstruct_n(0, 300), rtol=0, atol=2e-6)
    labels = np.arange(300) % 40
    queries = (gallery[:80] + rng.normal(size=(80, 24))).astype(np.float32)
    found = index.search(queries, 300)[1]
    table = -np.argsort(found, axis=1).astype(float)
    given = {
        "queries": VectorSet.from_arrays(queries, labels=labels[:80], ids=[f"q{row}" for row in range(80)]),
        "gallery": VectorSet.from_arrays(gallery, labels=labels, ids=[f"g{row}" for row in range(300)]),
    }
    result = check(**given, baseline=given["queries"], score=score, stored_as="int8", metrics=["rank@1", "mAP"], **FAST)
    for name, value in (
        ("rank@1", metrics.rank_k(table, labels[:80], labels, 1)),
        ("mAP", metrics.mean_average_precision(table, labels[:80], labels)),
    ):
        assert result[name].cross == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(("score", "operator"), [("cosine", "<=>"), ("ip", "<#>"), ("l2", "<->")])
def test_halves_rank_as_those_of_pgvector(postgres, score, operator):
    import psycopg

    given = sets(5, (12, 12), ties=False)
    queries, gallery = given["queries"], given["gallery"]
    with psycopg.connect(postgres) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        connection.execute("CREATE TEMP TABLE held (place int, vector halfvec(12))")
        rows = [(place, str(row.tolist())) for place, row in enumerate(gallery.vectors)]
        connection.cursor().executemany("INSERT INTO held VALUES (%s, %s::halfvec)", rows)
        # both sides are halves there: queries that are halves already
        asked = replace(queries, vectors=queries.vectors.astype(np.float16))
        ask = f"SELECT -(vector {operator} %s::halfvec) FROM held ORDER BY place"
        table = np.array(
            [[value for (value,) in connection.execute(ask, [str(row.tolist())])] for row in asked.vectors]
        )
    table = np.round(table, 5)
    result = check(
        queries=asked, gallery=gallery, baseline=asked, score=score, stored_as="float16", metrics=NAMES, **FAST
    )
    for name, value in expected(table, queries, gallery).items():
        assert result[name].cross == pytest.approx(value, abs=1e-12), name


def test_with_unit_vectors_all_scores_rank_alike_and_a_note_says_so(world):
    given = {
        role: replace(one, vectors=unit(one.vectors.astype(np.float64)).astype(np.float32))
        for role, one in world.sets("new_gallery").items()
    }
    cosine, *others = (check(**given, score=score, metrics=["rank@1", "mAP"], **FAST) for score in SCORES)
    for other in others:
        assert any("ranks as the cosine does" in note for note in other.notes)
        for name in ("rank@1", "mAP"):
            assert other[name].cross == pytest.approx(cosine[name].cross, abs=1e-3)


def test_judgements_are_judged_by_the_deployed_search():
    given = sets(9, (5, 8), ties=False)
    rng = np.random.default_rng(0)
    grades = [(f"q{row}", f"g{item}") for row in range(26) for item in rng.choice(30, 4, replace=False)]
    qrels = Judgements(
        name="made",
        queries=np.array([query for query, _ in grades]),
        documents=np.array([item for _, item in grades]),
        grades=np.ones(len(grades), dtype=np.int64),
    )
    for score in SCORES:
        result = check(**given, qrels=qrels, metrics=["MRR@10"], prefix=True, score=score, stored_as="int8", **FAST)
        table = deployed(given["queries"], given["gallery"], score, "int8", 5)
        right = np.zeros((26, 30), dtype=bool)
        for query, item in grades:
            right[int(query[1:]), int(item[1:])] = True
        # equal scores stand by descending id, as in trec_eval
        order = np.argsort(given["gallery"].ids)[::-1]
        ranks = [
            1 + hit[order][np.argsort(-line[order], kind="stable")].argmax()
            for line, hit in zip(table, right, strict=True)
        ]
        mrr = np.mean([1 / rank if rank <= 10 else 0.0 for rank in ranks])
        assert result["MRR@10"].cross == pytest.approx(mrr, abs=1e-9)
        assert result.score == score


def test_a_certificate_says_how_it_compared_and_older_ones_compare_by_cosines(world):
    usual = check(**world.sets(), **FAST).to_dict()
    assert not {"score", "stored_as", "truncate"} & set(usual)
    assert Certificate.from_dict(usual).score == "cosine"
    made = replace(check(**world.sets(), score="l2", stored_as="int8", truncate=8, **FAST), compatible=True)
    made = replace(made, metrics={name: replace(one, compatible=True) for name, one in made.metrics.items()})
    again = Certificate.from_dict(made.to_dict())
    assert (again.score, again.stored_as, again.truncate) == ("l2", "int8", 8)
    assert made.links(world.gallery.space.truncated(8), world.queries.space.truncated(8))
    assert not made.links(world.gallery.space, world.queries.space)
    with pytest.raises(SpaceError, match="is of searches by l2, and these scores are cosines"):
        world.queries.truncated(8).scores(world.gallery.truncated(8), certificate=made)


@pytest.mark.parametrize("score", ["ip", "l2"])
def test_vectors_twice_as_long_change_units_alone(world, score):
    sets = world.sets("new_gallery")
    once = check(**sets, score=score, **FAST)
    longer = {role: replace(one, vectors=2 * one.vectors) for role, one in sets.items()}
    twice = check(**longer, score=score, **FAST)
    assert twice.metrics == once.metrics
    assert twice.strict == once.strict
    for pair in ("old", "cross", "new"):
        ours, theirs = once.calibrations[pair], twice.calibrations[pair]
        raw = np.array(ours.scores)
        np.testing.assert_allclose(theirs.log_odds(4 * raw), ours.log_odds(raw), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(theirs.level(4 * raw), ours.level(raw), rtol=1e-9)
        assert twice.genuine[pair].mean == pytest.approx(4 * once.genuine[pair].mean)
    np.testing.assert_allclose(twice.curves.histograms.edges, 4 * np.array(once.curves.histograms.edges), rtol=1e-4)


def test_truncated_vectors_of_a_space_of_unit_vectors_have_length_one():
    rng = np.random.default_rng(2)
    space = Space(weights="00", preprocessing="none", dim=9, normalized=True, name="m")
    full = VectorSet.from_arrays(unit(rng.normal(size=(6, 9))), space=space)
    cut = full.truncated(4)
    np.testing.assert_allclose(np.linalg.norm(cut.vectors, axis=1), 1, atol=1e-6)
    assert (cut.space.dim, cut.space.normalized) == (4, True)
    assert cut.space != full.space
    bare = VectorSet.from_arrays(full.vectors)
    assert (bare.truncated(4).vectors == full.vectors[:, :4]).all()
    with pytest.raises(InputError, match=r"have 9 dimensions and cannot be truncated to 10"):
        full.truncated(10)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"score": "dot"}, "unknown score 'dot'"),
        ({"stored_as": "fp8"}, "unknown stored form 'fp8'"),
        ({"truncate": 0}, "truncate should be at least 1"),
        ({"truncate": 17}, "cannot be truncated to 17"),
        ({"score": "ip", "fuse": 0.5}, r"leave fuse \(--fuse\) or ip \(--score\) out"),
        ({"stored_as": "binary", "fuse": "auto"}, "or binary vectors"),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(world, options, words):
    with pytest.raises(InputError, match=words):
        check(**world.sets(), **options, **FAST)


def test_vectors_that_the_form_or_the_score_cannot_hold_are_refused(world):
    far = replace(world.gallery, vectors=world.gallery.vectors * np.float32(1e5))
    with pytest.raises(InputError, match="beyond 65504, the largest float16"):
        check(**world.sets() | {"gallery": far}, stored_as="float16", **FAST)
    vast = {role: replace(one, vectors=one.vectors * np.float32(1e19)) for role, one in world.sets().items()}
    with pytest.raises(InputError, match="have no scores in float32; scale them"):
        check(**vast, score="l2", **FAST)
    pooled = {role: replace(one, templates=one.ids) for role, one in world.sets().items()}
    with pytest.raises(InputError, match="has templates, which are pooled into vectors of length one"):
        check(**pooled, score="ip", **FAST)


def test_an_old_model_that_is_wider_is_told_the_next_command(world):
    narrow = replace(world.queries, vectors=world.queries.vectors[:, :8], space=None)
    with pytest.raises(InputError, match=r"samespace bridge fit OLD_VECTORS NEW_VECTORS --out bridge, .*--truncate 8"):
        check(**world.sets() | {"queries": narrow}, **FAST)
    assert check(**world.sets() | {"queries": narrow}, truncate=8, **FAST).truncate == 8


def test_command_report_and_the_commands_of_a_diagnosis_say_how_vectors_were_compared(world, tmp_path, capsys):
    for role, one in world.sets().items():
        replace(one, space=None).save(tmp_path / role)
    files = [f"--{role}={tmp_path / role}" for role in ("queries", "gallery")] + [f"--baseline={tmp_path / 'queries'}"]
    options = [
        "--score",
        "l2",
        "--stored-as",
        "int8",
        "--truncate",
        "8",
        "--baseline-gallery",
        str(tmp_path / "gallery"),
    ]
    report = tmp_path / "report"
    assert run(["check", *files, *options, "--replicates", "100", "--report", str(report), "--quiet"]) == 1
    shown = " ".join(capsys.readouterr().out.split())
    compared = "score l2, the squared Euclidean distance, negated; gallery stored as int8; the leading 8 values"
    assert compared in shown
    page = (report / "report.html").read_text(encoding="utf-8")
    assert compared in page
    assert "--score l2 --stored-as int8 --truncate 8" in page
    assert Certificate.load(report / "certificate.json").score == "l2"


@pytest.mark.parametrize("form", [".npz", ".parquet"])
def test_exported_vectors_are_truncated_as_those_of_a_check(tmp_path, form, capsys):
    rng = np.random.default_rng(6)
    space = Space(weights="00", preprocessing="none", dim=9, normalized=True, name="m")
    made = VectorSet.from_arrays(unit(rng.normal(size=(6, 9))), ids=list("abcdef"), space=space)
    made.save(tmp_path / "whole")
    place = tmp_path / f"short{form}"
    run(["vectors", "export", str(tmp_path / "whole"), "--truncate", "4", "--to", str(place), "--quiet"])
    short, expected = VectorSet.load(place), made.truncated(4)
    assert (short.vectors == expected.vectors).all()
    assert short.space == expected.space
