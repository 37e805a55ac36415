"""Causes that lie in the models: unrelated spaces, no lead, a lead lost in training or across the models."""

from __future__ import annotations

from dataclasses import dataclass

from samespace.evaluate.cause import Cause
from samespace.evaluate.certificate import Interval
from samespace.evaluate.diagnosis.case import Case, also, bounds, has_threshold, percent, points
from samespace.evaluate.diagnosis.commands import fit_bridge, train

_CLOSER = train(
    "runs/closer",
    compatibility__old_model="runs/v1/model",
    compatibility__method="matched",
    compatibility__views="live",
    compatibility__matching_weight="40",
)
LONGER = train("runs/longer", optim__epochs="70")
# next to nothing, and what is so little that it counts as nothing where it may be chance
_LITTLE_REMAINS = 0.1, 0.25
NOT_AHEAD_ADVICE = "Train it longer, on more data or with a larger network, before any work on compatibility."


@dataclass(frozen=True)
class Best:
    """What the new model reaches where both sides are its own: the paragon, or the new model itself."""

    who: str
    value: float
    lead: Interval | None


def best(case: Case, name: str) -> Best | None:
    """The best that a re-embedding could give in a metric; None where it was not measured."""
    one = case.certificate.metrics[name]
    if one.paragon is not None:
        return Best("the paragon", one.paragon, one.paragon_lead)
    if one.new is not None:
        return Best("the new model by itself", one.new, None)
    return None


def unrelated(case: Case) -> Cause | None:
    """New queries find no more in the old gallery than rotated ones."""
    if not case.telling or not all(_cross_at_chance(case, name) for name in case.telling):
        return None
    name, one = next(iter(case.telling.items()))
    known = best(case, name)
    among = case.evidence.among_queries
    figures = {"old": one.old, "cross": one.cross, "chance": case.chance(name)}
    itself = ""
    if known is not None:
        itself, figures["best"] = f" {known.who.capitalize()} has {percent(known.value)}.", known.value
    elif among is not None:
        itself = f" Among themselves the new queries have {percent(among.new)}."
        figures["among_queries"] = among.new
    undeclared = case.certificate.new_space.id is None or case.certificate.old_space.id is None
    wrong = " No space is declared for all vectors, so they may also be of another model than you think."
    bridge = () if case.benchmark else (fit_bridge(case.files),)
    return Cause(
        name="unrelated",
        metrics=tuple(case.failing),
        sentence=f"The two spaces are unrelated: {name} of new queries on the old gallery is {percent(one.cross)}, of "
        f"old ones {percent(one.old)}, and chance is {percent(case.chance(name))}."
        f"{itself}{wrong if undeclared else ''}",
        figures=figures,
        advice="Train the new model towards the old space (method matched), or map the vectors with a bridge. "
        "A model that is to stay as it is takes over without being compared: 'samespace gallery upgrade GALLERY "
        "--behind --model DIR'.",
        commands=(
            train("runs/compatible", compatibility__old_model="runs/v1/model", compatibility__method="matched"),
            *bridge,
        ),
    )


def _cross_at_chance(case: Case, name: str) -> bool:
    """Whether next to nothing remains across the models of what the old model is above chance."""
    one, chance = case.certificate.metrics[name], case.chance(name)
    remains = (one.cross - chance) / (one.old - chance)
    return remains <= _LITTLE_REMAINS[0] or (remains <= _LITTLE_REMAINS[1] and case.at_chance(name, "cross"))


def not_ahead(case: Case) -> Cause | None:
    """The paragon, or the new model by itself, is not better than the old one."""
    found = [name for name in case.failing if _not_ahead(case, name)]
    if not found:
        return _not_ahead_among_queries(case)
    name = found[0]
    one, known = case.certificate.metrics[name], best(case, name)
    assert known is not None
    figures = {"old": one.old, "best": known.value, "lead": known.value - one.old}
    inside = ""
    if known.lead is not None:
        inside = f" ({bounds(known.lead)})"
        figures |= {"lead_low": known.lead[0], "lead_high": known.lead[1]}
    reverse, exchange = _other_way_round(case, figures)
    ahead = "clearly ahead" if known.value > one.old else "ahead"
    return Cause(
        name="not-ahead",
        metrics=tuple(found),
        sentence=f"{known.who.capitalize()} is not {ahead} of the old one: {name} {percent(known.value)} against "
        f"{percent(one.old)}, {points(known.value - one.old)} points{inside}, so there is nothing to pass on to the "
        f"old gallery.{also(found[1:])}{reverse}",
        figures=figures,
        advice=NOT_AHEAD_ADVICE,
        commands=(LONGER, *exchange),
    )


def _not_ahead(case: Case, name: str) -> bool:
    one, known = case.certificate.metrics[name], best(case, name)
    if known is None or (one.criterion and known.value > one.old):
        return False
    if known.who != "the paragon":
        return known.value <= one.old
    return known.value <= one.old or (known.lead is not None and known.lead[0] <= 0)


def _other_way_round(case: Case, figures: dict[str, float]) -> tuple[str, tuple[str, ...]]:
    """Where old queries find more in the new gallery than new ones do, old and new may be given the wrong way round."""
    reverse, one = case.evidence.reverse, case.certificate.metrics.get("rank@1")
    if reverse is None or one is None or one.new is None or one.paragon is not None or reverse <= one.new:
        return "", ()
    figures["reverse"] = reverse
    words = (
        f" Or old and new are given the wrong way round: rank@1 of the baseline on the new gallery is "
        f"{percent(reverse)}."
    )
    return words, case.again(case.files.reversed())


def _not_ahead_among_queries(case: Case) -> Cause | None:
    among = case.evidence.among_queries
    if among is None or not case.not_above or any(best(case, name) for name in case.failing):
        return None
    if among.new > among.old and among.lead[1] > 0:
        return None
    return Cause(
        name="not-ahead",
        metrics=tuple(case.not_above),
        sentence=f"The new model is not ahead of the old one: among themselves the queries have rank@1 "
        f"{percent(among.new)} by the new model and {percent(among.old)} by the old one, "
        f"{points(among.new - among.old)} points ({bounds(among.lead)}), so there is nothing to pass on.",
        figures={
            "old": among.old,
            "best": among.new,
            "lead": among.new - among.old,
            "lead_low": among.lead[0],
            "lead_high": among.lead[1],
        },
        advice=NOT_AHEAD_ADVICE,
        commands=(LONGER,),
    )


def compatibility_costs(case: Case) -> Cause | None:
    """The paragon is ahead, the new model by itself is not: the compatibility term took its lead."""
    found = [
        name
        for name, one in case.failing.items()
        if one.paragon_lead is not None and one.paragon_lead[0] > 0 and one.new is not None and one.new <= one.old
    ]
    if not found:
        return None
    one = case.certificate.metrics[found[0]]
    assert one.new is not None
    assert one.paragon is not None
    return Cause(
        name="compatibility-costs",
        metrics=tuple(found),
        sentence=f"Training for compatibility took the new model's lead: {found[0]} of the paragon is "
        f"{percent(one.paragon)}, of the new model by itself {percent(one.new)}, of the old one {percent(one.old)}."
        f"{also(found[1:])}",
        figures={"old": one.old, "new": one.new, "paragon": one.paragon},
        advice="Weigh the compatibility term less, or train longer.",
        commands=(train("runs/lighter", compatibility__weight="0.5"), LONGER),
    )


def low_false_accepts(case: Case) -> Cause | None:
    """Ranking holds, and only metrics with a threshold among the best impostors do not."""
    held = [name for name in case.certificate.metrics if name not in case.failing]
    if not any(not has_threshold(name) for name in held) or not all(has_threshold(name) for name in case.failing):
        return None
    name, one = next(iter(case.failing.items()))
    spread, figures = _spread(case)
    ranking = [metric for metric in held if not has_threshold(metric)]
    rate = name.partition("=")[2]
    return Cause(
        name="low-false-accepts",
        metrics=tuple(case.failing),
        sentence=f"Only the strict operating points fail ({name}: old {percent(one.old)}, cross {percent(one.cross)}, "
        f"{points(one.absolute_gain)} points); ranking holds.{spread}",
        figures={"old": one.old, "cross": one.cross, **figures},
        advice="If the use case only ranks, decide by the ranking metrics; if it accepts by a threshold, weigh the "
        "tail of the scores more in training, aimed at that rate, and calibrate thresholds anew.",
        commands=(
            train(
                "runs/tail",
                compatibility__old_model="runs/v1/model",
                compatibility__method="matched",
                compatibility__tail_weight="20",
                compatibility__far=rate,
            ),
            *case.again(metrics=ranking),
        ),
    )


def _spread(case: Case) -> tuple[str, dict[str, float]]:
    """Mean and spread of the scores of genuine pairs, by the old model and across the two, where they were measured."""
    scores = case.certificate.genuine
    if "old" not in scores or "cross" not in scores:
        return "", {}
    old, cross = scores["old"], scores["cross"]
    tail = ", and only their upper tail is accepted there" if cross.std < old.std else ""
    return (
        f" Scores of genuine pairs have mean {cross.mean:.3f} and standard deviation {cross.std:.3f} across models, "
        f"{old.mean:.3f} and {old.std:.3f} by the old one{tail}.",
        {"old_mean": old.mean, "cross_mean": cross.mean, "old_spread": old.std, "cross_spread": cross.std},
    )


def weak_compatibility(case: Case) -> Cause | None:
    """The new model is ahead by itself, and little of its lead holds on the old gallery."""
    if low_false_accepts(case) is not None or unrelated(case) is not None:
        return None
    shares = {name: _share_held(case, name) for name in case.failing}
    found = [name for name, share in shares.items() if share is not None]
    if not found:
        return _unknown_lead(case)
    name = min(found, key=lambda metric: shares[metric] or 0.0)
    one, known, share = case.certificate.metrics[name], best(case, name), shares[name]
    assert known is not None
    assert share is not None
    held = f"{percent(max(share, 0.0))} of this lead" if share > 0 else "nothing of this lead"
    return Cause(
        name="weak-compatibility",
        metrics=tuple(found),
        sentence=f"The new queries are too far from the old space: in {name} {known.who} has {percent(known.value)}, "
        f"the old model {percent(one.old)}, and new queries on the old gallery {percent(one.cross)} "
        f"({points(one.absolute_gain)} points, {bounds(one.difference)}), so the cross test holds {held}."
        f"{also([other for other in found if other != name])}",
        figures={"old": one.old, "cross": one.cross, "best": known.value, "share_held": share}
        | {"most_held": one.difference[1] / (known.value - one.old)},
        advice="Train closer to the old model: method matched, views live, twice the epochs, a higher matching_weight "
        "(twice the present one; 40 is twice the default at head.scale 64), and as many classes as you have.",
        commands=(_CLOSER,),
    )


def _share_held(case: Case, name: str) -> float | None:
    """The share of the lead of the best over old that cross − old is; None where there is no lead to hold."""
    one, known = case.certificate.metrics[name], best(case, name)
    if known is None or known.value <= one.old or (known.lead is not None and known.lead[0] <= 0):
        return None
    if one.new is not None and one.new <= one.old:
        return None
    return one.absolute_gain / (known.value - one.old)


def _unknown_lead(case: Case) -> Cause | None:
    """Cross is below old, and the new model by itself was not measured."""
    if not case.not_above or any(best(case, name) for name in case.failing):
        return None
    name, one = next(iter(case.not_above.items()))
    among = case.evidence.among_queries
    figures = {"old": one.old, "cross": one.cross}
    if among is None:
        itself = "What the new model can do by itself was not measured, so it may also be too weak itself."
    else:
        itself = (
            f"Among themselves the queries have rank@1 {percent(among.new)} by the new model and {percent(among.old)} "
            f"by the old one ({points(among.new - among.old)} points), so the new model itself is ahead."
        )
        figures |= {"among_queries_old": among.old, "among_queries_new": among.new}
    closer = () if among is None else (_CLOSER,)
    return Cause(
        name="weak-compatibility",
        metrics=tuple(case.not_above),
        sentence=f"New queries find less in the old gallery than old ones: {name} {percent(one.cross)} instead of "
        f"{percent(one.old)} ({points(one.absolute_gain)} points, {bounds(one.difference)}). {itself}",
        figures=figures,
        advice="Train closer to the old model (method matched, views live, a higher matching_weight, more classes). "
        "Give the new model's gallery to see how much there is to hold.",
        commands=(*closer, *_with_new_gallery(case)),
    )


def _with_new_gallery(case: Case) -> tuple[str, ...]:
    return case.again(more=f"--new-gallery {case.files.new_gallery}")
