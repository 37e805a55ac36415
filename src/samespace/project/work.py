"""What the stages of a build do: train, embed, compare, certify."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from samespace.data import Allocation, ImageSource, open_for_model, part
from samespace.data.decoding.pixels import ImageSize
from samespace.data.lookup import image_lookup
from samespace.encoders import open_image_model
from samespace.evaluate import Certificate, check
from samespace.evaluate.diagnosis.commands import of_recipe
from samespace.evaluate.provenance import provenance_notes
from samespace.models import resolve_model
from samespace.models.extract import embed_to, left_out
from samespace.models.image_model import ImageModel
from samespace.models.provenance import save_provenance
from samespace.progress import bar, notice, silent_bar
from samespace.project.settings import Project
from samespace.report import write_report
from samespace.train import load_recipe, run
from samespace.vectors import VectorSet

SIDES = ("queries", "gallery")


class Images:
    """The images of a project at the size and with the channels that each model takes; opened once for each."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._open: dict[tuple[ImageSize | None, int | None], ImageSource] = {}

    def at(self, size: ImageSize | None, channels: int | None) -> ImageSource:
        """The images of one size."""
        if (size, channels) not in self._open:
            self._open[size, channels] = open_for_model(
                self._project.images, size, channels=channels, broken=self._project.broken
            )
        return self._open[size, channels]

    def training(self) -> ImageSource:
        """The images as they are trained on."""
        return self.at(self._project.size, self._project.network.channels)

    def of(self, model: ImageModel) -> ImageSource:
        """The images as a model takes them; as they are trained on where it takes any."""
        prepared = model.preprocessing
        return self.training() if prepared is None else self.at(prepared.image_size, prepared.channels)


@dataclass(frozen=True, eq=False)
class Workplace:
    """What all stages share: where things go, the images, and whether to show progress."""

    out: Path
    images: Images
    quiet: bool

    @property
    def allocation(self) -> Path:
        """The parts of the images."""
        return self.out / "split.json"

    @property
    def validation(self) -> Path:
        """Queries and gallery of the validation classes."""
        return self.out / "validation.json"

    def recipe(self, name: str) -> Path:
        """Of a training."""
        return self.out / "recipes" / f"{name}.yaml"

    def run(self, name: str) -> Path:
        """Folder of a training."""
        return self.out / "runs" / name

    def vectors(self, name: str, side: str) -> Path:
        """Vectors of a model: `queries`, `gallery`, `validation-queries` or `validation-gallery`."""
        return self.out / "vectors" / f"{name}-{side}"


def train(place: Workplace, name: str, *, role: str) -> None:
    """Train by a recipe that is written already; `role` is the part of the images."""
    source = place.images.training()
    images = part(source, Allocation.load(place.allocation, source), role)  # type: ignore[arg-type]
    run(load_recipe(place.recipe(name)), place.run(name), source=images, quiet=place.quiet)


def embed(place: Workplace, model: Path, name: str, *, validation: bool = False) -> None:
    """Embed queries and gallery of the certified classes, or of those to choose by."""
    embedder = open_image_model(resolve_model(model))
    source = place.images.of(embedder)
    allocation = Allocation.load(place.validation if validation else place.allocation, source)
    for side in SIDES:
        images = part(source, allocation, side)  # type: ignore[arg-type]
        target = place.vectors(name, f"validation-{side}" if validation else side)
        with (silent_bar if place.quiet else bar)(f"vectors of {name}, {side}", len(images)) as advance:
            embed_to(embedder, images, target, advance=advance)
        if (late := left_out(target)) and not place.quiet:
            such = f"{len(late):,}, such as {late[0][0]}"
            notice(f"left out of vectors of {name}, {side}, because they cannot be read: {such}")
        save_provenance(resolve_model(model), target)


def cut(place: Workplace, stored: VectorSet, *, validation: bool = False) -> None:
    """Take the old vectors of queries and gallery from those stored."""
    source = place.images.training()
    allocation = Allocation.load(place.validation if validation else place.allocation, source)
    for side in SIDES:
        ids = source.ids[allocation.rows(side)]  # type: ignore[arg-type]
        target = place.vectors("old", f"validation-{side}" if validation else side)
        stored.subset(stored.rows_of(ids)).save(target)


def pair(place: Workplace, name: str, *, validation: bool = False) -> tuple[VectorSet, VectorSet]:
    """Queries and gallery of a model."""
    sides = [VectorSet.load(place.vectors(name, f"validation-{side}" if validation else side)) for side in SIDES]
    return sides[0], sides[1]


def certify(
    place: Workplace,
    metrics: Sequence[str],
    *,
    prefix: bool,
    notes: Sequence[str],
    report: Path,
    recipe: Path,
    live: bool,
) -> Certificate:
    """Check the successor on the certified classes, and write certificate and report.

    Advice names `recipe`, the successor's; `live` says whether the old side is a model.
    """
    old, new = pair(place, "old"), pair(place, "new")
    certificate = check_pair(old, new, pair(place, "paragon"), metrics, prefix=prefix)
    sides = [
        ("the new model", place.vectors("new", "queries"), new[0]),
        ("the old model", place.vectors("old", "gallery"), old[1]),
    ]
    certificate = replace(certificate, notes=(*certificate.notes, *provenance_notes(sides), *notes))
    diagnosis = tuple(
        replace(cause, commands=tuple(of_recipe(each, recipe, place.run(""), live=live) for each in cause.commands))
        for cause in certificate.diagnosis
    )
    certificate = replace(certificate, diagnosis=diagnosis)
    source = place.images.training()
    write_report(certificate, report, images=image_lookup(source))
    return certificate


def check_pair(
    old: tuple[VectorSet, VectorSet],
    new: tuple[VectorSet, VectorSet],
    paragon: tuple[VectorSet, VectorSet] | None,
    metrics: Sequence[str],
    **options: Any,
) -> Certificate:
    """Check queries and gallery by a new model against those by the old one."""
    return check(
        queries=new[0],
        gallery=old[1],
        baseline=old[0],
        new_gallery=new[1],
        paragon=paragon,
        metrics=list(metrics),
        **options,
    )
