"""How many more identities would prove a difference that is there."""

from __future__ import annotations

from math import ceil

from samespace.evaluate.cause import Cause
from samespace.evaluate.certificate import MetricResult
from samespace.evaluate.diagnosis.case import Case, also, bounds, listed, points

_MANY_TIMES = 100


def needed(one: MetricResult, identities: int) -> int | None:
    """How many identities would lift the lower end of the interval of cross − old above zero.

    The width of a bootstrap interval shrinks with the root of the number of identities, so at the measured difference
    d with lower half-width w over n identities it takes n (w / d)², and one more. None where no number would do,
    because the difference is not positive.

    Example:
        >>> from types import SimpleNamespace
        >>> needed(SimpleNamespace(absolute_gain=0.01, difference=(-0.01, 0.03)), 50)
        201
    """
    if one.absolute_gain <= 0:
        return None
    width = max(one.absolute_gain - one.difference[0], 0.0)
    return ceil(identities * (width / one.absolute_gain) ** 2 - 1e-9) + 1


def too_few_identities(case: Case) -> Cause | None:
    """A gain is there, but the identities are too few to prove it."""
    if case.evidence.identities < 2:
        return _single(case)
    counts = {name: needed(one, case.evidence.identities) for name, one in case.unproven.items()}
    wanted = {name: count for name, count in counts.items() if count is not None}
    if not wanted:
        return _not_positive(case)
    name = max(wanted, key=lambda metric: wanted[metric])
    one, have = case.unproven[name], case.evidence.identities
    total, more = wanted[name], wanted[name] - have
    most = f", the most of {listed(list(wanted))}" if len(wanted) > 1 else ""
    never = (
        f" For {listed(list(case.not_above))} no number would do: the difference is not positive."
        if case.not_above
        else ""
    )
    large = " That is so many that the gain is as good as none." if total > _MANY_TIMES * have else ""
    return Cause(
        name="too-few-identities",
        metrics=tuple(wanted),
        sentence=f"{name} rises by {points(one.absolute_gain)} points, but with {have:,} {case.drawn} the interval is "
        f"{bounds(one.difference)}. At this difference it takes about {total:,} {case.drawn}, {more:,} more{most}."
        f"{large}{never}",
        figures={
            "identities": have,
            "needed": total,
            "gain": one.absolute_gain,
            "low": one.difference[0],
            "high": one.difference[1],
        },
        advice="Judge more queries of the kind that users ask."
        if case.judged
        else "Check on more identities that neither model was trained on; more images of the same ones help little.",
        commands=case.again(),
    )


def _not_positive(case: Case) -> Cause | None:
    """No difference is above zero, though an interval still reaches above it."""
    open_ = {name: one for name, one in case.not_above.items() if one.difference[1] > 0}
    if not open_:
        return None
    name, one = next(iter(open_.items()))
    have = case.evidence.identities
    return Cause(
        name="too-few-identities",
        metrics=tuple(open_),
        sentence=f"{name}: with {have:,} {case.drawn} the interval of cross − old, {bounds(one.difference)} points, "
        f"reaches above zero, but no number of {case.drawn} would do, since the difference itself is not positive "
        f"({points(one.absolute_gain)}).{also(list(open_)[1:])}",
        figures={
            "identities": have,
            "gain": one.absolute_gain,
            "low": one.difference[0],
            "high": one.difference[1],
        },
        advice=f"More {case.drawn} only tell how far below the old model it is; look into the other causes first.",
    )


def _single(case: Case) -> Cause:
    return Cause(
        name="too-few-identities",
        metrics=tuple(case.failing),
        sentence=f"{case.evidence.identities} {'query was judged' if case.judged else 'identity has mates'}: nothing "
        "can be said of others, whatever the values.",
        figures={"identities": case.evidence.identities},
        advice=f"Check on {case.drawn} that neither model was trained on, at least twenty and better hundreds.",
        commands=case.again(),
    )
