"""`check`: may the new model search the old gallery?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from samespace.errors import InputError
from samespace.evaluate.backfill_curve import Backfill
from samespace.evaluate.calibrations import fold_lines, learn
from samespace.evaluate.cautions import cautions, fusion_notes
from samespace.evaluate.certificate import (
    BackfillCurve,
    BackfillPoint,
    Certificate,
    Fusion,
)
from samespace.evaluate.comparison import as_compared, require_comparison, truncated_support
from samespace.evaluate.curves import COSINES, curves
from samespace.evaluate.diagnosis import Files, diagnose, gather
from samespace.evaluate.examples import examples as choose_examples
from samespace.evaluate.fusion import (
    Fuse,
    Support,
    choose,
    fused,
    fused_description,
    halve,
    pooled_support,
    require_fuse,
)
from samespace.evaluate.inputs import AlignedSets, align
from samespace.evaluate.relevance import Judgements, check_judged
from samespace.evaluate.selection import surplus_notes
from samespace.evaluate.spaces import described_space, undeclared
from samespace.evaluate.sweep import Sweep
from samespace.evaluate.sweep_result import sweep_result
from samespace.evaluate.templates import pool_sides
from samespace.evaluate.verdict import (
    TESTS,
    counts_tails,
    judge,
    overall,
    quota_of,
    replicate_deepened,
    require_memory,
    require_options,
    tail_size,
)
from samespace.metrics.flips import Flips, flips
from samespace.metrics.spread import spread
from samespace.scoring.mates import Mates
from samespace.scoring.metric_names import Metric, choose_metrics, parse
from samespace.scoring.scores import Scores, collect_scores
from samespace.scoring.stored import StoredForm
from samespace.scoring.strict_criterion import StrictCounter
from samespace.space import Score
from samespace.vectors import VectorSet

if TYPE_CHECKING:
    import torch

OWN_GALLERY = "The baseline searches a gallery of its own"

# a stage with a tenth of its items on one side has its false accepts among ten times as many of that side
_MIXED_TAIL = 15


def check(
    *,
    queries: VectorSet,
    gallery: VectorSet,
    baseline: VectorSet,
    new_gallery: VectorSet | None = None,
    paragon: tuple[VectorSet, VectorSet] | None = None,
    baseline_gallery: VectorSet | None = None,
    qrels: Judgements | None = None,
    metrics: Sequence[str] | None = None,
    prefix: bool = False,
    score: Score = "cosine",
    stored_as: StoredForm = "float32",
    truncate: int | None = None,
    fuse: Fuse | None = None,
    support: Support | None = None,
    replicates: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    examples: int = 12,
    backfill_steps: int = 5,
    block_size: int | None = None,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
    measured: Callable[[Sequence[Metric], AlignedSets, Mapping[str, Scores]], None] | None = None,
) -> Certificate:
    """Judge whether queries of a new model may search the gallery of an old one (BCT Eq. 2, with intervals).

    Every test runs on the same items: old queries on the old gallery, new queries on the old gallery (the cross test),
    and where given both sides by the new model and both by the paragon. A metric is compatible where the paired
    bootstrap interval of cross − old, over identities, lies above zero. Query identities are resampled and the gallery
    stays; for TAR identities are resampled on both sides. Thresholds are found anew in each resample. With a single
    identity that has mates no metric counts as compatible.

    Args:
        queries: queries by the new model, labelled.
        gallery: the gallery by the old model, labelled.
        baseline: the queries by the old model.
        new_gallery: the gallery by the new model.
        paragon: queries and gallery by the new model trained without compatibility.
        baseline_gallery: what the baseline searches where that is not `gallery`, such as the old vectors themselves
            where `gallery` holds them mapped to another space.
        qrels: which gallery items are relevant to which queries, in the place of labels; metrics are then those of
            `samespace.evaluate.relevance`, and queries are resampled.
        metrics: names such as `rank@1`, `mAP`, `MAP@R`, `R-precision`, `TAR@FAR=1e-4`, `TPIR@FPIR=1e-2`,
            `TPIR-merged@FPIR=1e-2`; by default those the data supports.
        prefix: compare the leading values of longer new vectors, as many as the old ones have, in the cross test.
        score: what the deployed search ranks by: `cosine`; `ip`, the inner product of the vectors as they are; or
            `l2`, minus their squared Euclidean distance. Thresholds and calibrations are in its units.
        stored_as: what the deployed store keeps of every gallery's vectors (`samespace.scoring.stored`): `float32`,
            `float16`, `int8` or `binary`. Queries stay float32, but with `binary` both sides are signs.
        truncate: compare the leading values of every vector, so many, as for a model trained for it (Matryoshka);
            vectors of spaces of unit vectors are brought to length one again.
        fuse: test fused queries in the place of new ones: the share of the new query, from 0 (the old one) to 1, or
            `auto` to choose it on classes that are not judged.
        support: for `auto`, queries by the new model, gallery by the old one and queries by the old one of classes
            held out for the choice; without it one half of the check's classes serves, and the other is judged.
        replicates: bootstrap resamples.
        confidence: of the intervals.
        seed: of the resamples, the rotation, the backfill order and the examples.
        examples: how many example queries to record.
        backfill_steps: steps of the partial-backfill curve.
        block_size: queries per block of scores; by default what keeps blocks within about 128 MB.
        device: where a large search makes its products: `cpu`, by NumPy; `cuda`, `cuda:N` or `auto` by PyTorch.
        progress: called with (queries done, queries in all).
        measured: called with the metrics, the sets in one order and the scores of each test, for what else is to be
            made of the same scores.

    Where the sets of a side have templates, each template is pooled into one vector and is one item. Items are matched
    by id where both sets have ids, by row otherwise; by id, sets may hold more items than these two, which
    are left out. An item that is in queries and gallery by id is not matched with itself.

    Raises:
        InputError: the sets do not fit each other, or an option is out of range.
        SpaceError: sets of one side declare different spaces.
    """
    require_options(
        confidence,
        replicates=(replicates, 1),
        examples=(examples, 0),
        backfill_steps=(backfill_steps, 1),
        block_size=(block_size, 1),
    )
    require_fuse(fuse, support)
    where = _device(device)
    require_comparison(score, stored_as, truncate, fused=fuse is not None)
    if qrels is not None:
        if where is not None:
            raise InputError("qrels (--qrels) are judged on the CPU: leave device (--device) out")
        if fuse is not None:
            raise InputError("fused queries are judged by labels: leave fuse (--fuse) or qrels (--qrels) out")
        return check_judged(
            queries=queries,
            gallery=gallery,
            baseline=baseline,
            qrels=qrels,
            new_gallery=new_gallery,
            paragon=paragon,
            baseline_gallery=baseline_gallery,
            metrics=metrics,
            prefix=prefix,
            score=score,
            stored_as=stored_as,
            truncate=truncate,
            replicates=replicates,
            confidence=confidence,
            seed=seed,
            block_size=block_size,
            progress=progress,
        )
    if fuse is not None and baseline_gallery is not None:
        raise InputError("fused queries search one gallery: leave fuse or baseline_gallery (--baseline-gallery) out")
    asking = {"queries": queries, "baseline": baseline, "paragon queries": paragon and paragon[0]}
    stored = {"gallery": gallery, "new_gallery": new_gallery, "paragon gallery": paragon and paragon[1]}
    stored["baseline_gallery"] = baseline_gallery
    sets, pooling = pool_sides(*as_compared(asking, stored, score, truncate))
    pooling += surplus_notes(sets)
    if fuse == "auto" and support is None:
        sets, apart = halve(sets, seed)
    elif support is not None:
        apart = pooled_support(truncated_support(support, truncate), sets["gallery"], sets["queries"])
    queries, gallery, baseline = sets["queries"], sets["gallery"], sets["baseline"]
    new_gallery = sets.get("new_gallery")
    files = Files.of(**{role.replace(" ", "_"): one for role, one in sets.items()})
    paragon = (sets["paragon queries"], sets["paragon gallery"]) if paragon else None
    aligned = align(
        queries=queries,
        gallery=gallery,
        baseline=baseline,
        new_gallery=new_gallery,
        paragon=paragon,
        baseline_gallery=sets.get("baseline_gallery"),
        prefix=prefix,
        score=score,
        stored_as=stored_as,
        seed=seed,
    )
    mates = aligned.mates
    chosen, notes = choose_metrics(metrics, mates)
    same_model = baseline if baseline_gallery is None else None
    notes = [*pooling, *aligned.notes, *undeclared((gallery, same_model), (queries, new_gallery)), *notes]
    if baseline_gallery is not None:
        notes.insert(0, f"{OWN_GALLERY}, {baseline_gallery.name}, with its own queries.")
    quota = quota_of(chosen, mates)
    fusion = None
    if fuse == "auto":
        fusion = choose(
            align(queries=apart[0], gallery=apart[1], baseline=apart[2], prefix=prefix, stored_as=stored_as, seed=seed),
            chosen,
            required=metrics is not None,
            how="halves" if support is None else "support",
            space=described_space(queries),
            replicates=replicates,
            seed=seed,
            confidence=confidence,
            block_size=block_size,
        )
    elif fuse is not None:
        fusion = Fusion(alpha=float(fuse), chosen="given", space=described_space(queries))
    if fusion is not None:
        aligned = fused(aligned, fusion.alpha)
        notes.extend(fusion_notes(fusion))
    strict = StrictCounter()
    backfill, sweep = None, None
    if new_gallery is not None:
        backfill = Backfill(mates, backfill_steps, seed)
        sweep, refusal = _sweep(aligned, seed, block_size)
        notes.extend(refusal)
    kept = max(tail_size(quota), _MIXED_TAIL * quota_of(chosen[:1], mates) if sweep else 0)
    mixed = {} if backfill is None else backfill.replaced
    sizes = dict.fromkeys(aligned.pairs, kept) | {"control": quota + 1}
    sizes |= dict.fromkeys(mixed, quota_of(chosen[:1], mates) + 1)
    counted = new_gallery is None and counts_tails(sizes.values(), mates)
    if not counted:
        require_memory(sizes.values(), chosen, mates.impostors)
    tests = collect_scores(
        aligned.pairs,
        mates,
        sizes,
        block_size=block_size,
        sampled=True,
        counted=counted,
        device=where,
        strict=strict,
        mixed=mixed,
        watch=sweep,
        progress=progress and (lambda done: progress(done, len(queries))),
    )
    control, stages = tests.pop("control"), [tests.pop(name) for name in mixed]
    tests, draws = replicate_deepened(
        chosen,
        tests,
        {test: aligned.pairs[test] for test in tests},
        size=tail_size(quota),
        replicates=replicates,
        seed=seed,
        block_size=block_size,
    )
    if measured is not None:
        measured(chosen, aligned, tests)
    results = {
        metric.name: judge(
            metric.name,
            {test: metric.value(scores) for test, scores in tests.items()},
            {test: draws[metric.name, test] for test in tests},
            metric.value(control),
            confidence,
        )
        for metric in chosen
    }
    # calibrations are of queries on the gallery that is searched
    learnt_of = ("cross", "new") if baseline_gallery is not None else ("old", "cross", "new")
    calibrations, uncalibrated = learn({test: tests.get(test) for test in learnt_of})
    notes.extend(uncalibrated)
    swept = None
    if sweep is not None:
        swept, left_out = sweep_result(
            sweep, _on_curves(chosen), tests, replicates=replicates, seed=seed, confidence=confidence
        )
        notes.extend(left_out)
    mated = len(np.unique(mates.query_codes[mates.counts > 0]))
    compatible, results = overall(results, mated)
    certificate = Certificate(
        compatible=compatible,
        metrics=results,
        old_space=described_space(gallery),
        new_space=described_space(queries) if fusion is None else fused_description(gallery, queries, fusion.alpha),
        paragon_space=None if paragon is None else described_space(paragon[0]),
        baseline_space=None if baseline_gallery is None else described_space(sets["baseline_gallery"]),
        data=_data(mates),
        options={"prefix": prefix},
        score=score,
        stored_as=stored_as,
        truncate=truncate,
        fusion=fusion,
        strict=strict.shares(mates),
        flips={test: _flips(tests, test) for test in ("cross", "new")},
        backfill=None if backfill is None else _curve(backfill, chosen, [tests["cross"], *stages, tests["new"]]),
        curves=curves({test: tests.get(test) for test in TESTS}, span=COSINES if score == "cosine" else None),
        examples=choose_examples(aligned, tests, examples, seed),
        notes=(*notes, *cautions(results, mated)),
        seed=seed,
        replicates=replicates,
        confidence=confidence,
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        version=version("samespace"),
        calibrations=calibrations,
        genuine={test: spread(scores.genuine) for test, scores in tests.items()},
        sweep=swept,
    )
    if compatible:
        return certificate
    failing = [name for name, result in results.items() if not result.compatible]
    evidence = gather(aligned, tests, failing, confidence=confidence, seed=seed)
    return replace(certificate, diagnosis=diagnose(certificate, evidence, files))


def _device(name: str) -> torch.device | None:
    """Where products are made, None for NumPy; torch is loaded only for another device."""
    if name == "cpu":
        return None
    from samespace.models.devices import pick_device

    device = pick_device(name)
    return None if device.type == "cpu" else device


def _sweep(aligned: AlignedSets, seed: int, block_size: int | None) -> tuple[Sweep | None, list[str]]:
    """The sweep, or a note that says why there is none."""
    try:
        return Sweep(aligned, fold_lines(aligned, seed=seed, block_size=block_size), seed, block_size), []
    except InputError as error:
        return None, [f"No sweep over backfill shares: {error}."]


def _on_curves(chosen: list[Metric]) -> list[Metric]:
    """The metrics a backfill curve shows."""
    return list({metric.name: metric for metric in (parse("rank@1"), parse("mAP"), chosen[0])}.values())


def _curve(backfill: Backfill, chosen: list[Metric], stages: list[Scores]) -> BackfillCurve:
    shown = _on_curves(chosen)
    points = [
        BackfillPoint(share, {metric.name: metric.value(scores) for metric in shown})
        for share, scores in zip(backfill.shares, stages, strict=True)
    ]
    return BackfillCurve(tuple(metric.name for metric in shown), tuple(points))


def _flips(tests: Mapping[str, Scores], test: str) -> Flips | None:
    if test not in tests:
        return None
    return flips(tests["old"].matches.right_at_first, tests[test].matches.right_at_first)


def _data(mates: Mates) -> dict[str, int]:
    return {
        "queries": len(mates.query_codes),
        "gallery": len(mates.gallery_codes),
        "identities": mates.identities,
        "mated_queries": int((mates.counts > 0).sum()),
        "unmated_queries": int((mates.counts == 0).sum()),
        "genuine_pairs": int(mates.counts.sum()),
        "impostor_pairs": mates.impostors,
        "self_matches_dropped": int((mates.self_place >= 0).sum()),
    }
