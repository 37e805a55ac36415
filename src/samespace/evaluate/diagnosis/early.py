"""Stop early: before hours are spent on compatibility, is the paragon ahead of the old model at all?"""

from __future__ import annotations

from collections.abc import Sequence

from samespace.evaluate.cause import Cause
from samespace.evaluate.diagnosis.case import bounds, percent, points
from samespace.evaluate.diagnosis.models import LONGER, NOT_AHEAD_ADVICE
from samespace.evaluate.inputs import align
from samespace.evaluate.verdict import quota_of, replicate_deepened, require_options, tail_size
from samespace.metrics.bootstrap import interval
from samespace.scoring.metric_names import choose_metrics
from samespace.scoring.scores import collect_scores
from samespace.vectors import VectorSet


def paragon_behind(
    *,
    old: tuple[VectorSet, VectorSet],
    paragon: tuple[VectorSet, VectorSet],
    metrics: Sequence[str] | None = None,
    replicates: int = 500,
    confidence: float = 0.95,
    seed: int = 0,
) -> Cause | None:
    """Why a compatible training cannot succeed, known from the old model and the paragon alone; None where it may.

    A paragon is the new model trained without compatibility. Where even it is not above the old model in some metric,
    new queries on the old gallery will hardly be, and no certificate needs to be waited for: `samespace build` calls
    this between the paragon and the compatible training.

    Args:
        old: queries and gallery by the old model, labelled.
        paragon: the same items by the paragon, of any dimension.
        metrics: as in `check`; by default those the data supports.
        replicates: bootstrap resamples, the same for both models.
        confidence: of the interval of paragon − old.
        seed: of the resamples.

    Returns:
        The cause `not-ahead` of the metric with the lowest lead, its figures `old`, `best`, `lead`, `lead_low` and
        `lead_high`; None where paragon − old is above zero in every metric, proven or not.

    Raises:
        InputError: the sets do not fit each other, or a metric is undefined on them.
        SpaceError: sets of one side declare different spaces.
    """
    require_options(confidence, replicates=(replicates, 1))
    aligned = align(queries=old[0], gallery=old[1], baseline=old[0], paragon=paragon)
    chosen, _ = choose_metrics(metrics, aligned.mates)
    pairs = {name: aligned.pairs[name] for name in ("old", "paragon")}
    size = tail_size(quota_of(chosen, aligned.mates))
    scores, draws = replicate_deepened(
        chosen,
        collect_scores(pairs, aligned.mates, size),
        pairs,
        size=size,
        replicates=replicates,
        seed=seed,
        block_size=None,
    )
    values = {one.name: (one.value(scores["old"]), one.value(scores["paragon"])) for one in chosen}
    behind = [name for name, (before, after) in values.items() if not after > before]
    if not behind:
        return None
    name = min(behind, key=lambda metric: values[metric][1] - values[metric][0])
    before, after = values[name]
    lead = interval(draws[name, "paragon"] - draws[name, "old"], confidence)
    return Cause(
        name="not-ahead",
        metrics=tuple(behind),
        sentence=f"The paragon is not ahead of the old model: {name} {percent(after)} against {percent(before)}, "
        f"{points(after - before)} points ({bounds(lead)}), so a compatible model of its kind has nothing to pass on.",
        figures={"old": before, "best": after, "lead": after - before, "lead_low": lead[0], "lead_high": lead[1]},
        advice=NOT_AHEAD_ADVICE,
        commands=(LONGER,),
    )
