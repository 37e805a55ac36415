"""`diagnose`: the causes of a "no" in the order in which they should be looked into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from samespace.evaluate.cause import Cause
from samespace.evaluate.certificate import Certificate
from samespace.evaluate.diagnosis.case import Case, listed
from samespace.evaluate.diagnosis.commands import Files
from samespace.evaluate.diagnosis.evidence import Evidence
from samespace.evaluate.diagnosis.identities import too_few_identities
from samespace.evaluate.diagnosis.inputs import (
    fusion_kept_old,
    interchanged,
    near_duplicates,
    not_one_model,
    same_vectors,
    saturated,
)
from samespace.evaluate.diagnosis.models import (
    compatibility_costs,
    low_false_accepts,
    not_ahead,
    unrelated,
    weak_compatibility,
)

_Rule = Callable[[Case], Cause | None]

# where one of these holds, the values of the tests do not mean what the other rules take them to mean
_WRONG_INPUTS: tuple[_Rule, ...] = (same_vectors, fusion_kept_old, interchanged, not_one_model)
# data comes before training, and a model's own strength before its compatibility
_OF_DATA: tuple[_Rule, ...] = (near_duplicates, unrelated, saturated)
_OF_TRAINING: tuple[_Rule, ...] = (not_ahead, compatibility_costs, low_false_accepts, weak_compatibility)

# too few identities come before weak compatibility where so many times as many would do, or where the interval of
# cross − old reaches this share of what there is to gain
_TIMES_AS_MANY, _MOST_HELD = 2, 0.5


def diagnose(
    certificate: Certificate, evidence: Evidence | None = None, files: Files | None = None
) -> tuple[Cause, ...]:
    """Why a certificate says no, the most likely cause first; nothing where it says yes.

    Args:
        certificate: of a check or a benchmark.
        evidence: what a check measured beside it; without it the causes that show in vectors alone are not looked for.
        files: where the vectors came from, for the commands.
    """
    if certificate.compatible:
        return ()
    drawn = certificate.data.get("identities", certificate.data.get("queries", 0))
    known = evidence or Evidence(identities=drawn)
    case = Case(certificate, known, files or Files())
    causes = _causes(case)
    return tuple(map(_of_texts, causes)) if case.judged else causes


def _causes(case: Case) -> tuple[Cause, ...]:
    if wrong := _found(_WRONG_INPUTS, case):
        return tuple(wrong)
    data = _found(_OF_DATA, case)
    training = sorted(_found(_OF_TRAINING, case), key=lambda cause: -len(cause.metrics))
    identities = _found((too_few_identities,), case)
    first = identities if _a_matter_of_identities(case, [*training, *identities]) else []
    causes = [*data, *first, *training, *(identities if not first else [])]
    return tuple(causes) or (_unknown(case),)


def _of_texts(cause: Cause) -> Cause:
    """Without the commands that train on images or embed them."""
    kept = [command for command in cause.commands if not command.startswith(("samespace train", "samespace embed"))]
    return replace(cause, commands=tuple(kept))


def _found(rules: tuple[_Rule, ...], case: Case) -> list[Cause]:
    return [cause for rule in rules if (cause := rule(case)) is not None]


def _a_matter_of_identities(case: Case, causes: list[Cause]) -> bool:
    """Whether every failing metric gains, and more identities are nearer at hand than a better model."""
    if case.not_above:
        return False
    figures = {cause.name: cause.figures for cause in causes}
    count = figures.get("too-few-identities", {})
    if count.get("needed", np.inf) <= _TIMES_AS_MANY * count.get("identities", 0):
        return True
    return figures.get("weak-compatibility", {}).get("most_held", 1.0) >= _MOST_HELD


def _unknown(case: Case) -> Cause:
    names = listed(list(case.failing))
    measured = any(one.new is not None for one in case.certificate.metrics.values())
    more = "" if measured else f"--new-gallery {case.files.new_gallery} "
    return Cause(
        name="unknown",
        metrics=tuple(case.failing),
        sentence=f"No known cause explains why {names} {'does' if len(case.failing) == 1 else 'do'} not hold.",
        figures={},
        advice="Give the new model's gallery and the paragon where they are missing, and look at the examples of the "
        "report: queries that were right and are wrong now.",
        commands=case.again(more=f"{more}--report report"),
    )
