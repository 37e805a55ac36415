"""Which way of upgrading fits: rules on what a probe measured, and what recorded studies gained.

The rules, on held-out classes:

1. The new vectors are ahead of the old ones in no metric (no interval of new − old lies above zero): stay.
2. They are ahead, and a rotation of the old gallery learnt from vectors alone keeps at least half of the lead in every
   metric that is ahead, each with its interval above zero: bridge. Half is more than compatible training kept of the
   lead in the recorded study with strong old models (23 to 39 %), at none of its cost.
3. They are ahead otherwise: compatible training with `matched` where the old model finds 60 % or more at rank 1,
   re-embedding where it finds less, for what such an old gallery holds back no query can bring.
4. Without new vectors: compatible training with `matched`; where the old model finds 99 % or more, stay.

60 % lies between the recorded studies with weak old models (40 to 61 %) and that with strong ones (81 %).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from samespace.evaluate.certificate import Interval
from samespace.names import as_argument

WEAK = 0.6
CEILING = 0.99
MAP_SHARE = 0.5

Way = Literal["compatible training", "bridge", "re-embed", "stay"]


@dataclass(frozen=True)
class Measure:
    """A value, or a difference of two, with its bootstrap interval."""

    value: float
    interval: Interval


Measures = Mapping[str, Measure]


@dataclass(frozen=True, kw_only=True)
class Gain:
    """An expected gain over searching with the old model.

    Attributes:
        metrics: by metric, lowest and highest: over the settings of a recorded study, or the interval of what was
            measured.
        basis: what it rests on.
        source: where it is recorded; None where it was measured by the probe.
        share: of the paragon's lead in rank@1, lowest and highest; None where the study does not say.
    """

    metrics: dict[str, Interval]
    basis: str
    source: str | None = None
    share: Interval | None = None


@dataclass(frozen=True, kw_only=True)
class Advice:
    """A way to upgrade.

    Attributes:
        way: which one.
        method: the recipe's `compatibility.method`; None for other ways.
        reason: why it stands where it stands, a sentence.
        command: what to run next; names in capitals are yours to fill in.
        gains: what to expect.
    """

    way: Way
    method: str | None = None
    reason: str
    command: str
    gains: tuple[Gain, ...] = field(default=())


_BEYOND = "docs/results/beyond.md"
_WEAK_OMNIGLOT = "docs/results/unibct-omniglot.md"

# cross − old, lowest and highest over the five allocations (glyphs: over three seeds)
RECORDED: dict[str, tuple[Gain, ...]] = {
    "matched, strong": (
        Gain(
            metrics={
                "rank@1": (0.01, 0.021),
                "mAP": (0.01, 0.025),
                "TAR@FAR=1e-3": (0.016, 0.032),
                "TPIR@FPIR=1e-1": (-0.001, 0.042),
            },
            basis="Omniglot, five allocations, old model 81 % at rank@1",
            source=_BEYOND,
            share=(0.23, 0.39),
        ),
    ),
    "matched, weak": (
        Gain(
            metrics={
                "rank@1": (0.085, 0.156),
                "mAP": (0.082, 0.093),
                "TAR@FAR=1e-3": (0.052, 0.067),
                "TPIR@FPIR=1e-1": (0.054, 0.109),
            },
            basis="made-up glyphs, extended-class, old model 40 to 61 % at rank@1",
            source="docs/results/demo.md",
            share=(0.33, 0.49),
        ),
        Gain(
            metrics={
                "rank@1": (0.034, 0.035),
                "mAP": (0.028, 0.031),
                "TAR@FAR=1e-3": (0.012, 0.013),
                "TPIR@FPIR=1e-1": (-0.018, 0.006),
            },
            basis="made-up glyphs, extended-class, old model 27 to 30 % at rank@1",
            source="docs/results/short-trainings.md",
            share=(0.2, 0.24),
        ),
    ),
    "re-embed, strong": (
        Gain(
            metrics={
                "rank@1": (0.035, 0.055),
                "mAP": (0.043, 0.085),
                "TAR@FAR=1e-3": (0.038, 0.1),
                "TPIR@FPIR=1e-1": (0.033, 0.077),
            },
            basis="Omniglot, five allocations, old model 81 % at rank@1",
            source=_BEYOND,
        ),
    ),
    "re-embed, weak": (
        Gain(
            metrics={"rank@1": (-0.009, 0.228), "rank@5": (-0.002, 0.197), "TAR@FAR=1e-4": (-0.001, 0.069)},
            basis="Omniglot, five allocations, old model 42 to 50 % at rank@1",
            source=_WEAK_OMNIGLOT,
        ),
    ),
}


def ways(old: str, strength: float, lead: Measures | None, mapped: Measures | None) -> tuple[Advice, ...]:
    """The four ways, the one that fits best first; the rules are those of this module.

    Args:
        old: what to call the old vectors in a command.
        strength: rank@1 of the old model on held-out classes.
        lead: new − old by metric, everything re-embedded; None without new vectors.
        mapped: (new queries on the old gallery rotated to the new space) − old by metric; None where not measured.
    """
    advice = {
        "compatible training": _compatible(strength, lead),
        "re-embed": _reembed(strength, lead),
        "bridge": _bridge(lead, mapped),
        "stay": _stay(old, strength, lead),
    }
    order = [_first(strength, lead, mapped), *advice]
    if lead is not None and not _proven(mapped or {}):
        order = [*(way for way in order if way != "bridge"), "bridge"]
    return tuple(advice[way] for way in dict.fromkeys(order))


def _first(strength: float, lead: Measures | None, mapped: Measures | None) -> Way:
    if lead is None:
        return "stay" if strength >= CEILING else "compatible training"
    if not _proven(lead):
        return "stay"
    if _keeps(lead, mapped):
        return "bridge"
    return "re-embed" if strength < WEAK else "compatible training"


def _proven(differences: Measures) -> list[str]:
    """The metrics whose interval lies above zero."""
    return [name for name, one in differences.items() if one.interval[0] > 0]


def _keeps(lead: Measures, mapped: Measures | None) -> bool:
    """Whether the rotated gallery keeps half of the lead in every metric that is ahead."""
    return mapped is not None and all(
        mapped[name].interval[0] > 0 and mapped[name].value >= MAP_SHARE * lead[name].value for name in _proven(lead)
    )


def _compatible(strength: float, lead: Measures | None) -> Advice:
    weak = strength < WEAK
    recorded = RECORDED["matched, weak" if weak else "matched, strong"]
    if weak:
        reason = (
            f"the old model is weak ({_percent(strength)} % at rank@1, below {_percent(WEAK)}): matching gained in "
            "recorded studies, where class means lost or gained less, and the gallery stays; but most of the lead is "
            "left that only re-embedding brings"
        )
    else:
        reason = (
            f"the old model is strong ({_percent(strength)} % at rank@1, {_percent(WEAK)} or more): matching its "
            "function gained in all five recorded allocations, and the gallery stays"
        )
    shares = [one.share for one in recorded if one.share is not None]
    if lead is not None and shares and lead["rank@1"].interval[0] > 0:
        share = min(low for low, _ in shares), max(high for _, high in shares)
        low, high = (f"{100 * part * lead['rank@1'].value:+.1f}" for part in share)
        kept = " to ".join(_percent(part) for part in share)
        reason += f"; {kept} % of the lead, as recorded, would be {low} to {high} points of rank@1 here"
    options = "--set compatibility.method=matched --set compatibility.old_vectors=OLD_TRAIN_VECTORS"
    command = f"samespace train RECIPE.yaml {options} --out runs/new"
    return Advice(way="compatible training", method="matched", reason=reason, command=command, gains=recorded)


def _reembed(strength: float, lead: Measures | None) -> Advice:
    command = "samespace gallery upgrade GALLERY --behind --model NEW_MODEL"
    if lead is None:
        reason = (
            "it brings a new model's whole lead, which new vectors (--new) would measure; every image is embedded again"
        )
        gains = RECORDED["re-embed, weak" if strength < WEAK else "re-embed, strong"]
        return Advice(way="re-embed", reason=reason, command=command, gains=gains)
    if not (ahead := _proven(lead)):
        reason = "no metric shows that the new model is ahead, so nothing would be gained for certain"
    else:
        reason = f"it brings the whole lead, proven in {', '.join(ahead)}; every image is embedded again"
        if strength < WEAK:
            reason = f"the old gallery is weak ({_percent(strength)} % at rank@1) and holds every query back: " + reason
    return Advice(way="re-embed", reason=reason, command=command, gains=(_measured(lead, "new on new against old"),))


def _bridge(lead: Measures | None, mapped: Measures | None) -> Advice:
    command = "samespace bridge OLD_TRAIN_VECTORS NEW_TRAIN_VECTORS --out bridge"
    if lead is None:
        reason = "a map to the new space needs a new model's vectors (--new) to say what it keeps"
    elif mapped is None:
        reason = (
            "too few items of other classes to learn a rotation and say what a map keeps; the command judges by itself"
        )
    elif not (kept := _proven(mapped)):
        reason = "a rotation learnt on the other classes does not prove a gain in any metric; richer maps may"
    elif _keeps(lead, mapped):
        reason = "a rotation of the old gallery, learnt from vectors alone, keeps half of the new model's lead or more"
    else:
        reason = f"a rotation of the old gallery gains in {', '.join(kept)}, but keeps less than half of the lead"
    gains = () if mapped is None else (_measured(mapped, "gallery rotated to the new space against old"),)
    return Advice(way="bridge", reason=reason, command=command, gains=gains)


def _stay(old: str, strength: float, lead: Measures | None) -> Advice:
    if lead is not None and not _proven(lead):
        behind = [name for name, one in lead.items() if one.interval[1] < 0]
        reason = "the new model is ahead of the old one in no metric" + (
            f" and behind in {', '.join(behind)}" * bool(behind)
        )
    elif lead is not None:
        reason = f"it forgoes the new model's lead in {', '.join(_proven(lead))}"
    elif strength >= CEILING:
        reason = f"at {_percent(strength)} % the old model leaves less than a point to gain at rank@1"
    else:
        reason = f"the old model leaves {100 * (1 - strength):.0f} points to gain at rank@1"
    return Advice(way="stay", reason=reason, command=f"samespace probe {as_argument(old)} --new NEXT_VECTORS")


def _measured(differences: Measures, basis: str) -> Gain:
    return Gain(metrics={name: one.interval for name, one in differences.items()}, basis=f"measured here, {basis}")


def _percent(share: float) -> str:
    return f"{100 * share:.3g}"
