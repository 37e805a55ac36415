"""A certificate in words: numbers with signs and intervals, the state of a metric, the verdict in one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from samespace.scoring.score import SCORE_NAMES

if TYPE_CHECKING:
    from samespace.evaluate.certificate import Certificate, Fusion, MetricResult

ABSENT = "–"
MINUS = "−"
PAIRS = ("old", "cross", "new", "paragon")

State = Literal["compatible", "unproven", "fails"]
STATE_WORDS: dict[State, str] = {"compatible": "compatible", "unproven": "not proven", "fails": "fails"}
MARKS: dict[State, str] = {"compatible": "✓", "unproven": "?", "fails": "✗"}


@dataclass(frozen=True)
class Judged:
    """What of a certificate its verdict is told from, as of `Certificate`."""

    compatible: bool
    confidence: float
    metrics: Mapping[str, MetricResult]
    fusion: object


def percent(value: float | None, digits: int = 2) -> str:
    """A share as percent, without the sign of percent.

    Example:
        >>> percent(0.61204), percent(None)
        ('61.20', '–')
    """
    return ABSENT if value is None else f"{100 * value:.{digits}f}".replace("-", MINUS)


def signed(value: float | None, digits: int = 2) -> str:
    """A difference of shares in percentage points, always with its sign.

    Example:
        >>> signed(0.072), signed(-0.0131), signed(-0.000001)
        ('+7.20', '−1.31', '0.00')
    """
    if value is None:
        return ABSENT
    text = f"{100 * value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)


def interval(bounds: Sequence[float] | None, digits: int = 2, *, sign: bool = False) -> str:
    """An interval in percent.

    Example:
        >>> interval([0.059, 0.084], sign=True)
        '+5.90 … +8.40'
    """
    if not bounds:
        return ABSENT
    show = signed if sign else percent
    return f"{show(bounds[0], digits)} … {show(bounds[1], digits)}"


def count(value: float | None) -> str:
    """A whole number with thousands set apart; absent ones are a dash."""
    return ABSENT if value is None else f"{value:,.0f}".replace(",", "\u202f")


def listing(names: Sequence[str]) -> str:
    """Names as prose.

    Example:
        >>> listing(["a", "b", "c"])
        'a, b and c'
    """
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def command_lines(command: str, width: int) -> list[str]:
    """A command over as many lines as it needs, broken before options, so that it can be copied whole.

    Example:
        >>> command_lines("samespace check --queries a --gallery b --baseline c", 40)[1]
        '  --gallery b --baseline c'
    """
    first, *options = command.split(" --")
    lines = [first]
    for option in options:
        if len(f"{lines[-1]} --{option}") + len(" \\") <= width:
            lines[-1] += f" --{option}"
        else:
            lines[-1] += " \\"
            lines.append(f"  --{option}")
    return lines


def state(metric: MetricResult) -> State:
    """What the check found for one metric.

    `compatible`: the whole interval of cross − old lies above zero. `unproven`: cross beats old, but the interval
    reaches zero. `fails`: the criterion (BCT Eq. 2) does not hold.
    """
    if metric.compatible:
        return "compatible"
    return "unproven" if metric.criterion else "fails"


def by_metric(certificates: Mapping[str, Certificate]) -> dict[str, dict[str, MetricResult]]:
    """For each metric, in the order of their first mention, the results of the methods that measured it."""
    names = dict.fromkeys(name for certificate in certificates.values() for name in certificate.metrics)
    return {
        name: {method: one.metrics[name] for method, one in certificates.items() if name in one.metrics}
        for name in names
    }


def model_names(certificate: Certificate) -> tuple[str, str]:
    """What to call the old and the new model: names where they tell the two apart, else roles."""
    old, new = certificate.old_space.name, certificate.new_space.name
    return (old or "the old model", new or "the new model") if old != new else ("the old model", "the new model")


def confidence(certificate: Certificate | Judged) -> str:
    """The level of the intervals, for instance '95 %'."""
    return f"{100 * certificate.confidence:g}\u00a0%"


def comparison(certificate: Certificate) -> str:
    """How vectors were compared, where that is not by cosines of whole float32 vectors; empty where it is.

    No full stop.
    """
    parts = []
    if certificate.score != "cosine":
        parts.append(f"score {certificate.score}, the {SCORE_NAMES[certificate.score]}")
    if certificate.stored_as == "binary":
        parts.append("queries and gallery as signs (binary)")
    elif certificate.stored_as != "float32":
        parts.append(f"gallery stored as {certificate.stored_as}")
    if certificate.truncate is not None:
        parts.append(f"the leading {certificate.truncate} values of every vector")
    return "; ".join(parts)


def fusion(fused: Fusion) -> str:
    """How queries were fused, and who chose it, without a full stop."""
    shares = f"{1 - fused.alpha:g} old + {fused.alpha:g} new"
    if fused.chosen == "given":
        return f"{shares}, as asked for"
    kind = "a support set" if fused.chosen == "support" else "one half of the check's classes"
    return f"{shares}, chosen on {kind} ({count(len(fused.classes))} classes, none of them judged)"


def movement(name: str, metric: MetricResult, level: str) -> str:
    """How one metric moves from old/old to cross, in words, with the interval of the difference."""
    gain, bounds = metric.absolute_gain, metric.difference
    digits = 1 if all(abs(number) >= 0.001 for number in (gain, *bounds)) else 2
    change = f"{signed(gain, digits)} points, {level} interval {interval(bounds, digits, sign=True)}"
    if gain == 0:
        return f"{name} stays at {percent(metric.old, digits)}\u00a0% ({change})"
    verb = "rises" if gain > 0 else "falls"
    old, cross = percent(metric.old, digits), percent(metric.cross, digits)
    return f"{name} {verb} from {old}\u00a0% to {cross}\u00a0% ({change})"


@dataclass(frozen=True)
class Verdict:
    """The outcome for people: a title, the sentence that carries the decision, the rest, and the deciding metric."""

    compatible: bool
    title: str
    sentence: str
    remainder: str
    metric: str


def verdict(certificate: Certificate | Judged) -> Verdict:
    """Put the outcome into one sentence, led by the first metric that decides it."""
    passed = certificate.compatible
    states = {name: state(metric) for name, metric in certificate.metrics.items()}
    deciding = [name for name, found in states.items() if (found == "compatible") == passed]
    first = deciding[0]
    text = movement(first, certificate.metrics[first], confidence(certificate))
    who = "The new model" if certificate.fusion is None else "Queries fused of both models"
    if passed:
        gain = certificate.metrics[first].update_gain
        share = "" if gain is None else f", {percent(gain, 0)}\u00a0% of what a full re-embedding would bring"
        sentence = f"{who} may search the old gallery: {text}{share}."
        return Verdict(True, "Compatible", sentence, _others_hold(deciding[1:]), first)
    doubt = ", so a rise is not proven" if states[first] == "unproven" else ""
    sentence = f"{who} must not search the old gallery: {text}{doubt}."
    return Verdict(False, "Not compatible", sentence, _others_fail(states), first)


def _others_hold(held: Sequence[str]) -> str:
    if not held:
        return ""
    return f"{listing(held)} {'rises' if len(held) == 1 else 'rise'} as well, each beyond its interval."


def _others_fail(states: Mapping[str, State]) -> str:
    """How the metrics divide, for instance 'Of the 3 metrics, 2 fail (a and b) and 1 is not proven (c).'."""
    if len(states) < 2:
        return ""
    words: dict[State, tuple[str, str]] = {
        "fails": ("fails", "fail"),
        "unproven": ("is not proven", "are not proven"),
        "compatible": ("passes", "pass"),
    }
    parts = []
    for found, (one, many) in words.items():
        names = [name for name in states if states[name] == found]
        if len(names) == len(states):
            return f"{'Both' if len(states) == 2 else f'All {len(states)}'} metrics {many}."
        if names:
            parts.append(f"{len(names)} {one if len(names) == 1 else many} ({listing(names)})")
    return f"Of the {len(states)} metrics, {listing(parts)}."
