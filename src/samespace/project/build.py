"""`build`: everything from images to certificate and report, stage by stage; what is there is kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samespace.errors import SamespaceError
from samespace.evaluate import Certificate
from samespace.files import locked, write_json, write_text
from samespace.progress import Stages, clock
from samespace.project.choosing import Outlook, load_outlook
from samespace.project.cost import Pace
from samespace.project.make import stages_of, successor
from samespace.project.plan import Plan
from samespace.project.recipes import recipe_text
from samespace.project.stages import EARLIER, Record, Stage
from samespace.train import flushed_denormals
from samespace.typed import plain

Say = Callable[[str], None]
BUILT = "built.json"
_LABEL_BYTES = 200


@dataclass(frozen=True, eq=False)
class Built:
    """What a call of `build` left behind.

    Attributes:
        certificate: None where the build stopped early.
        outlook: the paragon beside the old model on the validation classes; None where there are none.
        model: folder of the successor.
        report: the page.
        done: how many of the stages this call made.
        total: how many there are.
        seconds: this call took.
    """

    certificate: Certificate | None
    outlook: Outlook | None
    model: Path
    report: Path
    done: int
    total: int
    seconds: float

    @property
    def compatible(self) -> bool:
        """Whether the certificate says yes."""
        return self.certificate is not None and self.certificate.compatible


def build(plan: Plan, pace: Pace, *, anyway: bool = False, say: Say = print) -> Built:
    """Make every stage that is not there, or was made from something else.

    It can be killed at any moment; the same call carries on. What was made from other settings goes to `earlier/`, and
    comes back from there where the settings do.

    Args:
        plan: what to make.
        pace: how fast this machine is at it.
        anyway: go on where the paragon is not ahead of the old model.
        say: receives a line for each stage.

    Raises:
        SamespaceError: a stage cannot be made; its name stands before the reason.
    """
    began = time.monotonic()
    out = plan.place.out
    with locked(out / "build"), flushed_denormals():
        write_inputs(plan)
        stages = stages_of(plan, pace)
        record = Record(out)
        there = [stage for stage in stages if record.is_done(stage)]
        for line in _told_changes(stages, record):
            say(line)
        view = Stages("build", sum(one.seconds for one in stages), done=sum(one.seconds for one in there))
        made = 0
        found: Outlook | None = None
        with nullcontext() if plan.place.quiet else view.shown():
            for number, stage in enumerate(stages, start=1):
                if not record.is_done(stage):
                    say(f"[{number}/{len(stages)}] {stage.what}: {clock(_do(stage, record, view))}")
                    made += 1
                if stage.name == "ahead":
                    found = load_outlook(out / "ahead.json")
                    if not found.ahead and not anyway:
                        break
            else:
                return _built(plan, found, made, len(stages), began)
    return Built(None, found, plan.place.run("new"), out / "report", made, len(stages), time.monotonic() - began)


def write_inputs(plan: Plan) -> None:
    """Write the split and the recipes: all that the long commands need."""
    place = plan.place
    plan.shares.allocation.save(place.allocation, plan.source)
    if plan.shares.validation is None:
        place.validation.unlink(missing_ok=True)
    else:
        plan.shares.validation.save(place.validation, plan.source)
    names = [*(["old"] if plan.old is None else []), "paragon", *plan.trainings]
    for name in names:
        comment = f"samespace train {place.recipe(name).as_posix()} --out {place.run(name).as_posix()}"
        write_text(place.recipe(name), recipe_text(plan.recipe(name), comment))


def disk(plan: Plan, pace: Pace) -> int:
    """Bytes that a build leaves on the disk, about: models, their checkpoints, vectors."""
    trainings = len(plan.trainings) + 1 + (plan.old is None)
    allocation = plan.shares.allocation
    vector = 4 * plan.project.network.dim + _LABEL_BYTES
    held = len(allocation.query_rows) + len(allocation.gallery_rows)
    return trainings * pace.model_bytes + (len(allocation.new_rows) + 3 * held) * vector


def overview(plan: Plan, stages: Sequence[Stage], pace: Pace) -> dict[str, Any]:
    """What is to be made and what it costs, JSON-ready."""
    record = Record(plan.place.out)
    return {
        "out": str(plan.place.out),
        "stages": [
            {
                "name": stage.name,
                "what": stage.what,
                "there": record.is_done(stage),
                "seconds": round(stage.seconds, 1),
                "commands": list(stage.commands),
            }
            for stage in stages
        ],
        "seconds": round(sum(stage.seconds for stage in stages if not record.is_done(stage)), 1),
        "bytes": disk(plan, pace),
        "notes": [*plan.shares.notes, *plan.notes],
    }


def _do(stage: Stage, record: Record, view: Stages) -> float:
    began = time.monotonic()
    record.begin(stage)
    try:
        with view.stage(stage.what, stage.seconds, stage.units):
            stage.do()
    except SamespaceError as error:
        raise type(error)(f"{stage.name}: {error}") from None
    record.finish(stage)
    return time.monotonic() - began


def _told_changes(stages: Sequence[Stage], record: Record) -> list[str]:
    stale = [stage.name for stage in stages if record.is_stale(stage)]
    if not stale:
        return []
    return [
        f"made anew, from other settings or images: {', '.join(stale)}; the earlier ones are kept in "
        f"{record.out / EARLIER}"
    ]


def _built(plan: Plan, found: Outlook | None, made: int, total: int, began: float) -> Built:
    place = plan.place
    report = place.out / "report"
    model = successor(plan)
    value = {
        "project": plain(plan.project),
        "model": str(model),
        "certificate": str(report / "certificate.json"),
        "old_model": None if plan.old_model is None else str(plan.old_model),
        "old_vectors": None if plan.old_model is not None else str(plan.stored),
    }
    write_json(place.out / BUILT, value)
    certificate = Certificate.load(report / "certificate.json")
    return Built(certificate, found, model, report / "report.html", made, total, time.monotonic() - began)
