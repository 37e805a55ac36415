"""A check by relevance judgements: texts have no labels, but it is known which documents answer which queries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np

from samespace.errors import InputError
from samespace.evaluate.certificate import Certificate
from samespace.evaluate.comparison import as_compared
from samespace.evaluate.diagnosis import Files, diagnose
from samespace.evaluate.diagnosis.evidence import Evidence
from samespace.evaluate.inputs import length_notes, model_pairs, origins
from samespace.evaluate.relevance.judgements import Judgements
from samespace.evaluate.selection import surplus_notes
from samespace.evaluate.spaces import described_space, undeclared
from samespace.evaluate.templates import pool_sides
from samespace.evaluate.verdict import FEW_IDENTITIES, control_cautions, judge, overall, require_options
from samespace.metrics._arrays import Ints
from samespace.metrics.bootstrap import paired_bootstrap
from samespace.metrics.flips import flips
from samespace.scoring.blocks import ModelPairs
from samespace.scoring.judged import Judged, JudgedRanking, choose_judged, rank_judged
from samespace.scoring.stored import StoredForm
from samespace.space import Score
from samespace.vectors import VectorSet

_SAME = 1 - 1e-6


def check_judged(
    *,
    queries: VectorSet,
    gallery: VectorSet,
    baseline: VectorSet,
    qrels: Judgements,
    new_gallery: VectorSet | None = None,
    paragon: tuple[VectorSet, VectorSet] | None = None,
    baseline_gallery: VectorSet | None = None,
    metrics: Sequence[str] | None = None,
    prefix: bool = False,
    score: Score = "cosine",
    stored_as: StoredForm = "float32",
    truncate: int | None = None,
    replicates: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    block_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Certificate:
    """Judge by relevance judgements whether queries of a new model may search the gallery of an old one.

    Arguments as of `samespace.check`, and `qrels`; vectors need ids and no labels. Queries without a judgement are left
    out. A metric is the mean over queries of `samespace.scoring.judged`, and intervals are of a paired bootstrap over
    queries.

    Raises:
        InputError: ids are missing, nothing that was judged is in the sets, the sets do not fit each other, or an
            option is out of range.
        SpaceError: sets of one side declare different spaces.
    """
    require_options(confidence, replicates=(replicates, 1), block_size=(block_size, 1))
    asking = {"queries": queries, "baseline": baseline, "paragon queries": paragon and paragon[0]}
    stored = {"gallery": gallery, "new_gallery": new_gallery, "paragon gallery": paragon and paragon[1]}
    stored["baseline_gallery"] = baseline_gallery
    sets, notes = pool_sides(*as_compared(asking, stored, score, truncate))
    for role in ("queries", "gallery"):
        if not sets[role].has_ids:
            raise InputError(f"{role} ({sets[role].name}) have no ids; relevance judgements name items by their ids")
    notes += surplus_notes(sets)
    queries, gallery = _judged_queries(sets["queries"], qrels), sets["gallery"]
    chosen = choose_judged(metrics, len(gallery))
    # trec_eval orders items of equal score by descending id
    order = np.argsort(gallery.ids, kind="stable")[::-1].astype(np.int64)
    pairs = model_pairs(
        order,
        queries=queries,
        gallery=gallery,
        baseline=sets["baseline"],
        new_gallery=sets.get("new_gallery"),
        paragon=(sets["paragon queries"], sets["paragon gallery"]) if paragon else None,
        baseline_gallery=sets.get("baseline_gallery"),
        prefix=prefix,
        score=score,
        stored_as=stored_as,
        seed=seed,
    )
    found = _match(queries, gallery, order, qrels, pairs)
    depth = max(1, *(metric.depth for metric in chosen))
    rankings = rank_judged(
        pairs,
        found.judged,
        depth,
        block_size=block_size,
        progress=progress and (lambda done: progress(done, len(queries))),
    )
    control = rankings.pop("control")
    who = np.arange(len(queries))
    results = {}
    for metric in chosen:
        values = {test: metric.values(ranking) for test, ranking in rankings.items()}
        results[metric.name] = judge(
            metric.name,
            {test: float(value.mean()) for test, value in values.items()},
            paired_bootstrap(values, who, replicates=replicates, seed=seed),
            float(metric.values(control).mean()),
            confidence,
        )
    compatible, results = overall(results, len(queries))
    same_model = sets["baseline"] if baseline_gallery is None else None
    notes += [
        *([] if baseline_gallery is None else [_own_gallery(baseline_gallery)]),
        *_notes(sets["queries"], queries, gallery, qrels, found),
        *origins(pairs),
        *length_notes(pairs),
        *undeclared((gallery, same_model), (queries, sets.get("new_gallery"))),
        *control_cautions(results, "queries"),
    ]
    right = found.judged.relevant > 0
    certificate = Certificate(
        compatible=compatible,
        metrics=results,
        old_space=described_space(gallery),
        new_space=described_space(queries),
        paragon_space=None if paragon is None else described_space(paragon[0]),
        baseline_space=None if baseline_gallery is None else described_space(sets["baseline_gallery"]),
        data=_data(gallery, found),
        options={"prefix": prefix, "qrels": qrels.name},
        score=score,
        stored_as=stored_as,
        truncate=truncate,
        strict=None,
        flips={
            test: flips(_right(rankings["old"])[right], _right(rankings[test])[right]) if test in rankings else None
            for test in ("cross", "new")
        },
        curves=None,
        examples=(),
        notes=tuple(notes),
        seed=seed,
        replicates=replicates,
        confidence=confidence,
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        version=version("samespace"),
    )
    files = Files.of(**{role.replace(" ", "_"): one for role, one in sets.items()})
    evidence = Evidence(identities=len(queries), same_vectors=_same_queries(pairs))
    return replace(certificate, diagnosis=diagnose(certificate, evidence, files))


@dataclass(frozen=True, eq=False)
class _Found:
    """The judgements of a check, and what was left of those given.

    Attributes:
        judged: by rows and places.
        of_queries: how many judgements are of the queries checked.
        absent: how many relevant ones name a document that the gallery lacks.
        unknown: how many judged queries are not among the queries given.
        same_id: how many queries have the id of a gallery item.
    """

    judged: Judged
    of_queries: int
    absent: int
    unknown: int
    same_id: int


def _judged_queries(queries: VectorSet, qrels: Judgements) -> VectorSet:
    """The queries that were judged."""
    rows = np.flatnonzero(np.isin(queries.ids, qrels.queries))
    if not rows.size:
        raise InputError(
            f"{qrels.name} judges none of the queries of {queries.name}: it names queries like '{qrels.queries[0]}', "
            f"and the ids of the queries are like '{queries.ids[0]}'"
        )
    return queries if len(rows) == len(queries) else queries.subset(rows)


def _match(queries: VectorSet, gallery: VectorSet, order: Ints, qrels: Judgements, pairs: ModelPairs) -> _Found:
    inverse = np.empty(len(order), dtype=np.int64)
    inverse[order] = np.arange(len(order))
    query, row = queries.rows_of(qrels.queries), gallery.rows_of(qrels.documents)
    place = np.where(row >= 0, inverse[row], -1)
    mine = query >= 0
    if not (mine & (row >= 0)).any():
        raise InputError(
            f"{qrels.name} judges no item of {gallery.name} for these queries: it names documents like "
            f"'{qrels.documents[0]}', and the ids of the gallery are like '{gallery.ids[0]}'"
        )
    self_place, same_id = _self_places(queries, gallery, inverse, pairs)
    own = mine & (place >= 0) & (place == self_place[query])
    relevant = mine & (qrels.grades > 0) & ~own
    if not (relevant & (place >= 0)).any():
        raise InputError(f"{qrels.name}: no item of {gallery.name} is relevant to any of these queries")
    return _Found(
        judged=Judged(
            queries=len(queries),
            items=len(gallery),
            query=query[relevant],
            place=place[relevant],
            grade=qrels.grades[relevant],
            self_place=self_place,
        ),
        of_queries=int(mine.sum()),
        absent=int((relevant & (place < 0)).sum()),
        unknown=len(np.unique(qrels.queries[~mine])),
        same_id=same_id,
    )


def _self_places(queries: VectorSet, gallery: VectorSet, inverse: Ints, pairs: ModelPairs) -> tuple[Ints, int]:
    """Place of each query's own item, and how many queries have the id of a gallery item.

    Ids of queries and of documents are often numbers that have nothing to do with each other, so an item of the same id
    counts as the query itself only where the old model gives both the same vector.
    """
    row = gallery.rows_of(queries.ids)
    places = np.full(len(queries), -1, dtype=np.int64)
    sides = [side.as_given() for side in pairs["old"]]
    for query in np.flatnonzero(row >= 0):
        place = int(inverse[row[query]])
        one, other = (side.read(at, at + 1)[0] for side, at in zip(sides, (int(query), place), strict=True))
        if one @ other >= _SAME:
            places[query] = place
    return places, int((row >= 0).sum())


def _same_queries(pairs: ModelPairs) -> bool:
    """Whether old and cross test are one: the same queries on the same gallery."""
    (old, searched), (cross, gallery) = pairs["old"], pairs["cross"]
    return searched is gallery and all(
        np.array_equal(block, cross.read(start, start + len(block))) for start, block in old.blocks()
    )


def _right(ranking: JudgedRanking) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.asarray(ranking.grades[:, 0] > 0)


def _data(gallery: VectorSet, found: _Found) -> dict[str, int]:
    return {
        "queries": found.judged.queries,
        "gallery": len(gallery),
        "mated_queries": int((found.judged.relevant > 0).sum()),
        "judgements": found.of_queries,
        "relevant_judgements": len(found.judged.query),
        "self_matches_dropped": int((found.judged.self_place >= 0).sum()),
    }


def _own_gallery(baseline_gallery: VectorSet) -> str:
    return f"The baseline searches a gallery of its own, {baseline_gallery.name}, with its own queries."


def _notes(given: VectorSet, queries: VectorSet, gallery: VectorSet, qrels: Judgements, found: _Found) -> list[str]:
    notes = [f"Judged by {qrels.name}: {found.of_queries:,} judgements; what was not judged counts as not relevant."]
    if (count := len(given) - len(queries)) > 0:
        notes.append(f"{count:,} of {len(given):,} queries have no judgement and are left out.")
    if found.unknown:
        notes.append(f"{found.unknown:,} queries that were judged are not in {given.name}; they are left out.")
    if found.absent:
        notes.append(
            f"{found.absent:,} relevant documents are not in {gallery.name}: nothing can find them, and they count as "
            "missed under every model."
        )
    if without := int((found.judged.relevant == 0).sum()):
        notes.append(
            f"{without:,} queries have judgements but no relevant document: they count 0 under every model, as in "
            "trec_eval."
        )
    dropped = int((found.judged.self_place >= 0).sum())
    if dropped:
        notes.append(f"{dropped:,} queries are in the gallery by id and vector and are not matched with themselves.")
    if found.same_id > dropped:
        notes.append(
            f"{found.same_id - dropped:,} queries have the id of a gallery item with another vector, which counts as "
            "another item."
        )
    if len(queries) < FEW_IDENTITIES:
        notes.append(f"Only {len(queries)} queries: the intervals rest on few and may be too narrow.")
    return notes
