"""A certificate in words: numbers with signs and intervals, the state of a metric, the verdict in one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from samespace.errors import InputError

ABSENT = "–"
MINUS = "−"
PAIRS = ("old", "cross", "new", "paragon")

State = Literal["compatible", "unproven", "fails", "absent"]
STATE_WORDS: dict[State, str] = {
    "compatible": "compatible",
    "unproven": "not proven",
    "fails": "fails",
    "absent": ABSENT,
}


class SupportsToDict(Protocol):
    """Anything that gives itself as the JSON object of a certificate."""

    def to_dict(self) -> dict[str, Any]:
        """The certificate as plain JSON values."""


CertificateLike = SupportsToDict | Mapping[str, Any]


def as_dict(certificate: CertificateLike) -> dict[str, Any]:
    """The certificate as a dictionary, whichever way it came.

    Raises:
        InputError: it is no certificate, or one of a format this version cannot read.
    """
    value = dict(certificate) if isinstance(certificate, Mapping) else certificate.to_dict()
    given = value.get("format")
    if given != "samespace.certificate/1":
        raise InputError(f"expected a certificate of format 'samespace.certificate/1', got format {given!r}")
    if not isinstance(value.get("metrics"), Mapping):
        raise InputError("the certificate has no 'metrics'; make it with 'samespace check'")
    return value


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


def state(metric: Mapping[str, Any]) -> State:
    """What the check found for one metric.

    `compatible`: the whole interval of cross − old lies above zero. `unproven`: cross beats old, but the interval
    reaches zero. `fails`: the criterion (BCT Eq. 2) does not hold. `absent`: it could not be computed.
    """
    if metric.get("compatible"):
        return "compatible"
    if metric.get("cross") is None or metric.get("old") is None or metric.get("criterion") is None:
        return "absent"
    return "unproven" if metric["criterion"] else "fails"


def model_names(certificate: Mapping[str, Any]) -> tuple[str, str]:
    """What to call the old and the new model: names where they tell the two apart, else roles."""
    old, new = (str((certificate.get(key) or {}).get("name") or "") for key in ("old_space", "new_space"))
    return (old or "the old model", new or "the new model") if old != new else ("the old model", "the new model")


def confidence(certificate: Mapping[str, Any]) -> str:
    """The level of the intervals, for instance '95 %'."""
    return f"{100 * certificate.get('confidence', 0.95):g}\u00a0%"


def movement(name: str, metric: Mapping[str, Any], level: str) -> str:
    """How one metric moves from old/old to cross, in words, with the interval of the difference."""
    old, cross, bounds = metric["old"], metric["cross"], metric.get("difference")
    gain = metric.get("absolute_gain")
    gain = cross - old if gain is None else gain
    digits = 1 if abs(gain) >= 0.001 and all(abs(bound) >= 0.001 for bound in bounds or ()) else 2
    change = f"{signed(gain, digits)} points"
    span = f", {level} interval {interval(bounds, digits, sign=True)}" if bounds else ""
    if gain == 0:
        return f"{name} stays at {percent(old, digits)}\u00a0% ({change}{span})"
    verb = "rises" if gain > 0 else "falls"
    return f"{name} {verb} from {percent(old, digits)}\u00a0% to {percent(cross, digits)}\u00a0% ({change}{span})"


@dataclass(frozen=True)
class Verdict:
    """The outcome for people: a title, the sentence that carries the decision, the rest, and the deciding metric."""

    compatible: bool
    title: str
    sentence: str
    remainder: str
    metric: str | None


def verdict(certificate: Mapping[str, Any]) -> Verdict:
    """Put the outcome into one sentence, led by the first metric that decides it."""
    metrics: Mapping[str, Any] = certificate["metrics"]
    states = {name: state(metric) for name, metric in metrics.items()}
    level = confidence(certificate)
    if certificate.get("compatible"):
        held = [name for name in metrics if states[name] == "compatible"]
        sentence = "The new model may search the old gallery"
        if held:
            name = held[0]
            sentence += f": {movement(name, metrics[name], level)}{_share_of_backfill(metrics[name])}"
        return Verdict(True, "Compatible", sentence + ".", _others_hold(held[1:]), held[0] if held else None)
    failing = [name for name in metrics if states[name] != "compatible"]
    sentence = "The new model must not search the old gallery"
    if failing:
        sentence += f": {_refusal(failing[0], metrics[failing[0]], states[failing[0]], level)}"
    return Verdict(False, "Not compatible", sentence + ".", _others_fail(states), failing[0] if failing else None)


def _share_of_backfill(metric: Mapping[str, Any]) -> str:
    gain = metric.get("update_gain")
    return "" if gain is None else f", {percent(gain, 0)}\u00a0% of what a full re-embedding would bring"


def _refusal(name: str, metric: Mapping[str, Any], found: State, level: str) -> str:
    if found == "absent":
        return f"{name} could not be computed on these data"
    text = movement(name, metric, level)
    return f"{text}, so a rise is not proven" if found == "unproven" else text


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
        "absent": ("could not be computed", "could not be computed"),
        "compatible": ("passes", "pass"),
    }
    for found, (_, many) in words.items():
        if set(states.values()) == {found}:
            return f"{'Both' if len(states) == 2 else f'All {len(states)}'} metrics {many}."
    parts = []
    for found, (one, many) in words.items():
        names = [name for name in states if states[name] == found]
        if names:
            parts.append(f"{len(names)} {one if len(names) == 1 else many} ({listing(names)})")
    return f"Of the {len(states)} metrics, {listing(parts)}."


def listing(names: Sequence[str]) -> str:
    """Names as prose.

    Example:
        >>> listing(["a", "b", "c"])
        'a, b and c'
    """
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
