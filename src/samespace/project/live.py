"""From a finished build to a gallery: filled with the old vectors where there is none, ready to be upgraded."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from samespace.encoders import open_image_model
from samespace.errors import GalleryError, InputError, SpaceError
from samespace.evaluate import Certificate
from samespace.files import read_json, require_place, write_json
from samespace.gallery import Gallery
from samespace.gallery.ledger.sqlite.file import FILE
from samespace.models import resolve_model
from samespace.models.extract import embed_to
from samespace.names import as_argument
from samespace.progress import Bar
from samespace.project.build import BUILT
from samespace.project.plan import foreign_to
from samespace.project.settings import Project, folder_of, load_project
from samespace.project.stages import changes
from samespace.project.work import Images
from samespace.typed import plain
from samespace.vectors import VectorSet

_FILLED = "galleries.json"
Progress = Callable[[str, int], AbstractContextManager[Bar]]


@dataclass(frozen=True)
class Finished:
    """What a finished build gives to a gallery.

    Attributes:
        project: the file's content.
        path: of the file.
        out: folder of the build.
        model: folder of the successor.
        certificate: the file.
        old_model: as `OldModel.place`; None where only its vectors are there.
        old_vectors: folder of its vectors, where that is all.
    """

    project: Project
    path: Path
    out: Path
    model: Path
    certificate: Path
    old_model: Path | None
    old_vectors: Path | None


def finished(path: Path) -> Finished:
    """What the last build of a project file left behind.

    Raises:
        InputError: it was not built, not to its end, or the file has changed since.
    """
    project = load_project(path)
    out = folder_of(project, path)
    again = f"first run: samespace build {as_argument(path)}"
    if not (out / BUILT).is_file():
        raise InputError(f"{path} is not built: {out} holds no finished build; {again}")
    value = read_json(out / BUILT, "a finished build")
    changed = changes(value["project"], plain(project))
    # which methods were tried may be said on the command line of the build alone
    changed = [one for one in changed if not one.startswith("methods:") or project.methods != ("auto",)]
    if changed:
        raise InputError(f"{path} has changed since it was built ({changed[0]}); {again}")
    places = {name: None if value[name] is None else Path(value[name]) for name in ("old_model", "old_vectors")}
    result = Finished(project, path, out, Path(value["model"]), Path(value["certificate"]), **places)
    for needed in (result.model, result.certificate):
        if not needed.exists():
            raise InputError(f"{needed} is gone since {path} was built; {again}")
    return result


def open_filled(location: str, build: Finished, *, progress: Progress) -> tuple[Gallery, int | None]:
    """Open a gallery; where there is none, make it of the old model's vectors of all images.

    Killed while it is being filled, the same call carries on.

    Returns:
        The gallery, and how many items were put in; None where it was there already.
    """
    if "://" not in location:
        require_place(Path(location))
    mark = build.out / _FILLED
    begun = read_json(mark, "the galleries of a build") if mark.is_file() else {}
    place = location if "://" in location else str(Path(location).absolute())
    there = _is_there(location)
    if there and begun.get(place, "filled") == "filled":
        return Gallery.open(location), None
    items = _old_items(build, progress)
    if not there:
        write_json(mark, {**begun, place: "begun"})
        Gallery.create(location, items[0].space, model=build.old_model, images=build.project.images).close()
    count = sum(map(len, items))
    gallery = Gallery.open(location)
    try:
        with progress("filling the gallery", count) as advance:
            for vectors in items:
                gallery.add(vectors, advance=advance)
    except BaseException:
        gallery.close()
        raise
    write_json(mark, {**begun, place: "filled"})
    return gallery, count


def require_yes(build: Finished) -> Certificate:
    """The certificate of a build.

    Raises:
        SpaceError: it says no.
    """
    certificate = Certificate.load(build.certificate)
    if not certificate.compatible:
        failed = ", ".join(name for name, result in certificate.metrics.items() if not result.compatible)
        raise SpaceError(
            f"the certificate of {build.path} says no ({failed}); {build.certificate.with_name('report.html')} shows "
            "how far it is; --accept-uncertified goes against it, and is recorded"
        )
    return certificate


def _is_there(location: str) -> bool:
    if "://" not in location:
        return (Path(location) / FILE).exists()
    try:
        Gallery.open(location, read_only=True).close()
    except GalleryError as error:
        if "holds no gallery" in str(error):
            return False
        raise
    return True


def _old_items(build: Finished, progress: Progress) -> list[VectorSet]:
    """The old vectors of everything: those stored, of images and of none, or all images by the old model."""
    if build.old_vectors is not None:
        foreign = foreign_to(build.old_vectors)
        return [VectorSet.load(place) for place in (build.old_vectors, foreign) if place.exists()]
    assert build.old_model is not None
    embedder = open_image_model(resolve_model(build.old_model))
    source = Images(build.project).of(embedder)
    folder = build.out / "vectors" / f"items-{embedder.space.id}-{source.fingerprint()[:12]}"
    with progress("old vectors of all images", len(source)) as advance:
        return [embed_to(embedder, source, folder, advance=advance)]
