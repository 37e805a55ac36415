"""The stages of a plan, in the order in which they are made, each with what it costs and the commands it stands for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from shlex import quote

from samespace.files import read_json, write_json
from samespace.names import as_argument
from samespace.project import work
from samespace.project.choosing import best, gains, outlook, save_outlook
from samespace.project.cost import Pace
from samespace.project.old import OldModel, OldVectors
from samespace.project.plan import WATCHED, Plan, foreign_to
from samespace.project.stages import Stage, key_of
from samespace.project.work import SIDES

_SECONDS_OF_A_FILE = 1.0


def stages_of(plan: Plan, pace: Pace) -> list[Stage]:
    """All stages; each key holds the keys of the stages that it needs."""
    return list(_Stages(plan, pace).all())


class _Stages:
    def __init__(self, plan: Plan, pace: Pace) -> None:
        self.plan, self.pace, self.place = plan, pace, plan.place
        allocation = plan.shares.allocation
        rows = [allocation.old_rows, allocation.new_rows, allocation.query_rows, allocation.gallery_rows]
        self.images = [plan.source.fingerprint(), *(key_of(part.tolist()) for part in rows)]
        held = plan.shares.validation
        self.held = [] if held is None else [key_of(held.query_rows.tolist()), key_of(held.gallery_rows.tolist())]
        self.checked = len(allocation.query_rows) + len(allocation.gallery_rows)
        self.judged = 0 if held is None else len(held.query_rows) + len(held.gallery_rows)
        self.keys: dict[str, str] = {}

    def all(self) -> Iterator[Stage]:
        plan = self.plan
        if plan.old is None:
            yield self.training("old", "a stand-in for the old model, on a share of the training classes")
        else:
            self.keys["old"] = key_of(self.old_identity())
        if isinstance(plan.old, OldVectors):
            yield self.stored_vectors(plan.old)
        yield self.training("paragon", "the best successor, trained without a thought for the old model")
        if plan.shares.validation is not None:
            yield self.ahead()
        for name in plan.trainings:
            yield self.training(name, "the successor that may search old vectors", "old")
        if len(plan.trainings) > 1:
            yield self.choice()
        for name in ("old", "paragon", "new"):
            yield self.vectors(name)
        yield self.certificate()

    def old_identity(self) -> str:
        old = self.plan.old
        assert old is not None
        if isinstance(old, OldModel):
            return old.embedder.space.id
        assert old.vectors.space is not None
        return old.vectors.space.id

    def training(self, name: str, what: str, *needs: str) -> Stage:
        plan, place = self.plan, self.place
        made = plan.recipe(name)
        self.keys[name] = key_of(name, made, self.images, [self.keys[need] for need in needs])
        role = "old" if name == "old" else "new"
        images = len(plan.shares.allocation.old_rows) if name == "old" else plan.shares.trained_images
        epochs, batch = int(made["optim"]["epochs"]), int(made["optim"]["batch_size"])
        beside = name in plan.trainings
        seconds = self.pace.training(images, epochs, batch, compatible=beside)
        seconds += images * self.pace.embed if beside else 0.0
        seconds += 0.0 if name == "old" else epochs * self.judged * self.pace.embed
        return Stage(
            name,
            f"train {name}: {what}",
            (place.run(name),),
            self.keys[name],
            lambda: work.train(place, name, role=role),
            seconds,
            epochs * images + (images if beside else 0),
            (f"samespace train {_shown(place.recipe(name))} --out {_shown(place.run(name))}",),
        )

    def stored_vectors(self, old: OldVectors) -> Stage:
        stored = self.plan.stored
        sets = {stored: old.vectors} | ({} if old.foreign is None else {foreign_to(stored): old.foreign})

        def do() -> None:
            for path, vectors in sets.items():
                vectors.save(path)

        key = key_of("stored", self.keys["old"], [vectors.ids.tolist() for vectors in sets.values()])
        what = "old vectors of the images, by the images' ids"
        return Stage("stored", what, tuple(sets), key, do, _SECONDS_OF_A_FILE)

    def ahead(self) -> Stage:
        plan, place = self.plan, self.place
        path = place.out / "ahead.json"

        def do() -> None:
            for name in ("old", "paragon"):
                self.embed(name, validation=True)
            old, paragon = (work.pair(place, name, validation=True) for name in ("old", "paragon"))
            found = outlook(old, paragon, WATCHED, plan.shares.judged_classes)
            save_outlook(found, path)

        names = [f"{name}-validation" for name in ("old", "paragon")]
        made = (path, *(place.vectors(name, side) for name in names for side in SIDES))
        key = key_of("ahead", self.keys["old"], self.keys["paragon"], self.held, WATCHED)
        sides = [f"{_shown(place.vectors(name, side))}" for name in names for side in SIDES]
        check = (
            f"samespace check --queries {sides[0]} --gallery {sides[1]} --baseline {sides[0]} --paragon-queries "
            f"{sides[2]} --paragon-gallery {sides[3]}{_metrics(WATCHED)}"
        )
        return Stage(
            "ahead", "compare the paragon with the old model, on validation classes", made, key, do,
            2 * self.judged * self.pace.embed + self.pace.check(self.judged // 2, self.judged // 2),
            2 * self.judged,
            (*self.embedding("old", validation=True), *self.embedding("paragon", validation=True), check),
        )  # fmt: skip

    def choice(self) -> Stage:
        plan, place = self.plan, self.place
        path = place.out / "chosen.json"

        def do() -> None:
            found = {name: gains(place.run(name)) for name in plan.trainings}
            write_json(path, {"chosen": best(found), "gains": found})

        key = key_of("choice", [self.keys[name] for name in plan.trainings])
        self.keys["new"] = key
        what = "choose the method, by what the trainings measured on validation classes"
        return Stage("choice", what, (path,), key, do, 0.0)

    def vectors(self, name: str) -> Stage:
        made = tuple(self.place.vectors(name, side) for side in SIDES)
        key = key_of("vectors", name, self.keys[name], self.images)
        stored = name == "old" and isinstance(self.plan.old, OldVectors)
        return Stage(
            f"vectors-{name}", f"vectors of {name}, for the certified classes", made, key,
            lambda: self.embed(name), _SECONDS_OF_A_FILE if stored else self.checked * self.pace.embed,
            self.checked, self.embedding(name),
        )  # fmt: skip

    def certificate(self) -> Stage:
        plan, place = self.plan, self.place
        report = place.out / "report"
        notes = certificate_notes(plan)
        key = key_of("certificate", self.keys, self.images, plan.project.metrics, notes)
        sides = {name: [_shown(place.vectors(name, side)) for side in SIDES] for name in ("old", "paragon", "new")}
        command = (
            f"samespace check --queries {sides['new'][0]} --gallery {sides['old'][1]} --baseline {sides['old'][0]} "
            f"--new-gallery {sides['new'][1]} --paragon-queries {sides['paragon'][0]} --paragon-gallery "
            f"{sides['paragon'][1]}{_metrics(plan.project.metrics)}{' --prefix' if plan.prefix else ''}"
            f"{_noted(notes)} --report {_shown(report)}"
        )
        allocation = plan.shares.allocation
        if (place.out / "chosen.json").exists():
            command = command.replace(" --report", f"{_noted(chosen_note(plan))} --report")

        def do() -> None:
            work.certify(
                place, plan.project.metrics, prefix=plan.prefix,
                notes=[*notes, *chosen_note(plan)], report=report,
                recipe=place.recipe(successor(plan).name), live=plan.old_model is not None,
            )  # fmt: skip

        return Stage(
            "certificate", "check the successor, and write certificate and report", (report,), key, do,
            self.pace.check(len(allocation.query_rows), len(allocation.gallery_rows)), 1, (command,),
        )  # fmt: skip

    def embed(self, name: str, *, validation: bool = False) -> None:
        if name == "old" and isinstance(self.plan.old, OldVectors):
            work.cut(self.place, self.plan.old.vectors, validation=validation)
            return
        work.embed(self.place, self.model(name), name, validation=validation)

    def model(self, name: str) -> Path:
        if name == "old" and self.plan.old_model is not None:
            return self.plan.old_model
        return successor(self.plan) if name == "new" else self.place.run(name)

    def embedding(self, name: str, *, validation: bool = False) -> tuple[str, ...]:
        if name == "old" and isinstance(self.plan.old, OldVectors):
            return ()
        several = name == "new" and len(self.plan.trainings) > 1
        model = self.place.run("new-CHOSEN") if several else self.model(name)
        allocation = self.place.validation if validation else self.place.allocation
        images = as_argument(self.plan.project.images)
        return tuple(
            f"samespace embed {_shown(model)} {images} --allocation {_shown(allocation)} "
            f"--part {side} --out {_shown(self.place.vectors(name, f'validation-{side}' if validation else side))}"
            for side in SIDES
        )


def successor(plan: Plan) -> Path:
    """Folder of the compatible training that is certified."""
    if len(plan.trainings) == 1:
        return plan.place.run("new")
    return plan.place.run(str(read_json(plan.place.out / "chosen.json", "the choice of a method")["chosen"]))


def certificate_notes(plan: Plan) -> list[str]:
    """What the certificate says of how it came about, as far as it is known before."""
    shares = plan.shares
    held = f"{shares.judged_classes:,} validation classes, none of which is judged here"
    chosen = [f"Whether to go on was decided on {held}."] if shares.validation else []
    return [*shares.notes, *plan.notes, *chosen]


def chosen_note(plan: Plan) -> list[str]:
    """Which method was chosen, from which, and where."""
    if len(plan.trainings) == 1:
        return []
    method = successor(plan).name.removeprefix("new-")
    others = ", ".join(plan.project.methods)
    classes = f"{plan.shares.validation_classes:,} validation classes"
    return [f"The method '{method}' was chosen from {others} on {classes}, none of which is judged here."]


def _metrics(names: Sequence[str]) -> str:
    return "".join(f" --metric {quote(name)}" for name in names)


def _noted(notes: list[str]) -> str:
    return "".join(f" --note {quote(note)}" for note in notes)


def _shown(path: Path) -> str:
    return as_argument(path.as_posix())
