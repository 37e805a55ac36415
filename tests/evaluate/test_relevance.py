"""Checks by relevance judgements, against ir_measures and pytrec_eval where they are there, and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from samespace.errors import InputError
from samespace.evaluate import Certificate, check
from samespace.evaluate.relevance import Judgements
from samespace.vectors import VectorSet

DIM, QUERIES, DOCUMENTS = 6, 30, 80


def unit(values):
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def world(seed: int = 0, noise: tuple[float, float] = (1.2, 0.4), *, equal: int = 10):
    """Queries and documents by an old and a better new model, with graded judgements; some documents are `equal`."""
    random = np.random.default_rng(seed)
    documents = random.standard_normal((DOCUMENTS, DIM))
    documents[40 : 40 + equal] = documents[30 : 30 + equal]
    topics = random.integers(DOCUMENTS, size=QUERIES)
    ids = [f"d{number}" for number in random.permutation(DOCUMENTS)]
    grades = {}
    for query, topic in enumerate(topics):
        near = np.argsort(-(documents @ documents[topic]))
        grades[f"q{query}"] = {ids[near[0]]: 3, ids[near[1]]: 1, ids[near[2]]: 1, ids[near[70]]: 0, ids[near[71]]: -1}
    gallery = VectorSet.from_arrays(unit(documents), ids=ids, name="gallery")
    queries = [
        VectorSet.from_arrays(
            unit(documents[topics] + scale * random.standard_normal((QUERIES, DIM))),
            ids=[f"q{query}" for query in range(QUERIES)],
            name=name,
        )
        for name, scale in zip(("old_q", "new_q"), noise, strict=True)
    ]
    return {"baseline": queries[0], "queries": queries[1], "gallery": gallery}, grades


def run_of(queries: VectorSet, gallery: VectorSet) -> dict[str, dict[str, float]]:
    """Every score, as a run file would hold it."""
    left, right = (side.vectors.astype(np.float64) for side in (queries, gallery))
    left, right = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (left, right))
    scores = (np.round(left @ right.T * 2**30) / 2**30).astype(np.float32)
    return {
        str(query): {str(item): float(score) for item, score in zip(gallery.ids, line, strict=True)}
        for query, line in zip(queries.ids, scores, strict=True)
    }


NAMES = {"nDCG@10": "nDCG@10", "nDCG@3": "nDCG@3", "Recall@5": "R@5", "Recall@100": "R@100", "MRR@10": "RR@10"}

OF_TREC = {"nDCG@10": "ndcg_cut_10", "Recall@10": "recall_10", f"MRR@{DOCUMENTS}": "recip_rank"}


@pytest.mark.parametrize("seed", range(5))
def test_values_are_those_of_ir_measures(seed):
    ir_measures = pytest.importorskip("ir_measures", reason="ir_measures is not installed: nothing to compare with")
    # it orders equal scores in two ways, the one of RR@k not trec_eval's, so there are none here
    sets, grades = world(seed, equal=0)
    found = check(**sets, qrels=Judgements.of(grades), metrics=list(NAMES), replicates=50)
    for test, queries in (("old", sets["baseline"]), ("cross", sets["queries"])):
        measures = [ir_measures.parse_measure(name) for name in NAMES.values()]
        expected = ir_measures.calc_aggregate(measures, grades, run_of(queries, sets["gallery"]))
        for ours, theirs in NAMES.items():
            value = expected[ir_measures.parse_measure(theirs)]
            assert getattr(found[ours], test) == pytest.approx(value, abs=1e-9), (test, ours)


def test_values_are_those_of_pytrec_eval_with_absent_documents_and_queries_without_any():
    pytrec_eval = pytest.importorskip("pytrec_eval", reason="pytrec_eval is not installed: nothing to compare with")
    sets, grades = world()
    grades["q0"]["not-in-the-gallery"] = 2
    grades["q1"] = dict.fromkeys(grades["q1"], 0)
    # neither a query that was not judged nor one that is not asked counts
    del grades["q3"]
    grades["not-asked"] = {"d1": 1}
    found = check(**sets, qrels=Judgements.of(grades), metrics=list(OF_TREC), replicates=50)
    evaluator = pytrec_eval.RelevanceEvaluator(grades, {"ndcg_cut.10", "recall.10", "recip_rank"})
    values = evaluator.evaluate(run_of(sets["queries"], sets["gallery"])).values()
    for ours, theirs in OF_TREC.items():
        assert found[ours].cross == pytest.approx(np.mean([one[theirs] for one in values]), abs=1e-9)
    notes = " ".join(found.notes)
    assert "1 relevant documents are not in gallery" in notes
    assert "1 queries have judgements but no relevant document" in notes


def test_by_hand():
    gallery = VectorSet.from_arrays([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]], ids=["a", "b", "c"])
    old = VectorSet.from_arrays([[1.0, 0.0], [0.0, 1.0]], ids=["q", "r"])
    new = VectorSet.from_arrays([[0.8, 0.6], [0.0, 1.0]], ids=["q", "r"])
    qrels = Judgements.of({"q": {"b": 2, "c": 1}, "r": {"c": 1}})
    found = check(queries=new, gallery=gallery, baseline=old, qrels=qrels, metrics=["nDCG@3", "MRR@1", "Recall@2"])
    best, log3 = 2 + 1 / np.log2(3), np.log2(3)
    assert found["nDCG@3"].old == pytest.approx((1 + (2 / log3 + 1 / 2) / best) / 2)
    assert found["nDCG@3"].cross == pytest.approx((1 + (2 + 1 / 2) / best) / 2)
    assert (found["MRR@1"].old, found["MRR@1"].cross) == (0.5, 1.0)
    assert found["Recall@2"].old == 0.75


def test_the_certificate_says_what_was_judged_and_is_read_back(tmp_path):
    sets, grades = world()
    found = check(**sets, new_gallery=sets["gallery"], paragon=(sets["queries"], sets["gallery"]),
                  qrels=Judgements.of(grades, "test.qrels"), replicates=200)  # fmt: skip
    assert found.compatible
    assert found.options == {"prefix": False, "qrels": "test.qrels"}
    assert list(found.metrics) == ["nDCG@10", "MRR@10", "Recall@10"]
    assert found["nDCG@10"].update_gain == pytest.approx(1.0)
    assert found["nDCG@10"].control < found["nDCG@10"].old
    assert found.data["queries"] == QUERIES
    assert found.data["relevant_judgements"] == 3 * QUERIES
    assert found.flips["cross"].positive > 0
    assert found.flips["new"] is not None
    found.save(tmp_path / "certificate.json")
    assert Certificate.load(tmp_path / "certificate.json") == found


def test_the_interval_is_a_bootstrap_over_queries():
    sets, grades = world()
    found = check(**sets, qrels=Judgements.of(grades), metrics=["MRR@10"], replicates=4000)
    per_query = []
    for queries in (sets["baseline"], sets["queries"]):
        ranks = []
        for query, line in run_of(queries, sets["gallery"]).items():
            order = sorted(sorted(line, reverse=True), key=line.__getitem__, reverse=True)
            ranks.append(1 + min(order.index(document) for document, grade in grades[query].items() if grade > 0))
        per_query.append([1 / rank if rank <= 10 else 0.0 for rank in ranks])
    differences = np.subtract(*per_query[::-1])
    error = differences.std() / np.sqrt(QUERIES)
    low, high = found["MRR@10"].difference
    assert (low, high) == pytest.approx(differences.mean() + np.array([-1.96, 1.96]) * error, abs=0.25 * error)


def test_the_old_model_against_itself_is_no_and_the_diagnosis_speaks_of_queries():
    sets, grades = world()
    same = check(**sets | {"queries": sets["baseline"]}, qrels=Judgements.of(grades), replicates=100)
    assert not same.compatible
    assert same.diagnosis[0].name == "same-vectors"
    slightly = check(**world(3, (0.9, 0.85))[0], qrels=Judgements.of(world(3)[1], "x.tsv"), replicates=100)
    told = [cause for cause in slightly.diagnosis if cause.name == "too-few-identities"]
    assert told
    assert "queries" in told[0].sentence
    assert "identities" not in told[0].sentence + told[0].advice
    assert "--qrels x.tsv" in told[0].commands[0]


def test_what_is_not_judged_or_not_there_is_left_out_and_said():
    sets, grades = world()
    few = {query: documents for query, documents in grades.items() if query != "q3"} | {"unknown": {"d1": 1}}
    found = check(**sets, qrels=Judgements.of(few), metrics=["nDCG@10"], replicates=50)
    assert found.data["queries"] == QUERIES - 1
    notes = " ".join(found.notes)
    assert "1 of 30 queries have no judgement" in notes
    assert "1 queries that were judged are not in" in notes


def test_a_query_is_itself_only_where_id_and_old_vector_are_the_same():
    sets, grades = world()
    rows = sets["gallery"].rows_of(["d1", "d2"])
    ids = ["d1", "d2", *[f"q{row}" for row in range(2, QUERIES)]]
    old = np.array(sets["baseline"].vectors)
    old[0] = sets["gallery"].vectors[rows[0]]
    renamed = {"d1": grades["q0"], "d2": grades["q1"]} | {f"q{row}": grades[f"q{row}"] for row in range(2, QUERIES)}
    found = check(
        queries=VectorSet.from_arrays(sets["queries"].vectors, ids=ids),
        baseline=VectorSet.from_arrays(old, ids=ids),
        gallery=sets["gallery"],
        qrels=Judgements.of(renamed),
        metrics=["nDCG@10"],
        replicates=50,
    )
    assert found.data["self_matches_dropped"] == 1
    assert any("1 queries have the id of a gallery item with another vector" in note for note in found.notes)


@pytest.mark.parametrize("block_size", [1, 7, 100])
def test_block_size_changes_nothing(block_size):
    sets, grades = world()
    whole, cut = (
        check(**sets, qrels=Judgements.of(grades), replicates=50, block_size=size) for size in (None, block_size)
    )
    assert whole.metrics == cut.metrics


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("ndcg_cut_10", "did you mean 'nDCG@10'"),
        ("R@100", "did you mean 'Recall@100'"),
        ("RR", "did you mean 'MRR@10'"),
        ("rank@1", "legal: nDCG@10, Recall@100, MRR@10"),
        ("nDCG@0", "did you mean 'nDCG@1'"),
    ],
)
def test_metric_names_that_are_not_ours_are_answered(name, says):
    sets, grades = world()
    with pytest.raises(InputError, match=says):
        check(**sets, qrels=Judgements.of(grades), metrics=[name])


def test_a_judged_metric_without_judgements_is_told_what_it_needs():
    sets, _ = world()
    labelled = {
        role: VectorSet.from_arrays(one.vectors, ids=one.ids, labels=np.arange(len(one)) % 5)
        for role, one in sets.items()
    }
    with pytest.raises(InputError, match=r"needs relevance judgements: give qrels \(--qrels FILE\)"):
        check(**labelled, metrics=["nDCG@10"])


def test_sets_that_judgements_cannot_name_are_refused():
    sets, grades = world()
    bare = VectorSet.from_arrays(sets["gallery"].vectors)
    with pytest.raises(InputError, match="have no ids"):
        check(**sets | {"gallery": bare}, qrels=Judgements.of(grades))
    with pytest.raises(InputError, match="judges none of the queries"):
        check(**sets, qrels=Judgements.of({"other": {"d1": 1}}))
    with pytest.raises(InputError, match="judges no item of"):
        check(**sets, qrels=Judgements.of({"q1": {"other": 1}}))
    with pytest.raises(InputError, match="is relevant to any"):
        check(**sets, qrels=Judgements.of({"q1": {"d1": 0}}))
    with pytest.raises(InputError, match="fused queries are judged by labels"):
        check(**sets, qrels=Judgements.of(grades), fuse=0.5)
