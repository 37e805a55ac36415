"""Trainings of another study that are this one's as well: found by what they learnt from, taken with their vectors."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from samespace.data import ImageSource
from samespace.errors import InputError
from samespace.files import locked, read_json, replacing_folder
from samespace.studies.jobs import checked_images
from samespace.studies.plan import Job, Plan, is_done, open_training, training_images
from samespace.train import load_recipe
from samespace.train.recipe import Recipe

NOTHING_TO_TAKE = "has no training that is missing here: recipe, run.precision, images and old models must be the same"

_DECIDES_VALUES = ("precision", "compile")


@dataclass(frozen=True)
class Taken:
    """A finished training of another study that stands for one that is to be made.

    Attributes:
        job: the training to be made.
        study: folder of the other study.
        model: folder of its model.
        vectors: folders of the model's vectors, by part of the check.
    """

    job: Job
    study: Path
    model: Path
    vectors: Mapping[str, Path]


@dataclass(frozen=True)
class _Finished:
    study: Path
    model: Path
    images: str
    space: str
    weights: str
    tied_to: tuple[str | None, ...]


def takeable(plan: Plan, studies: Sequence[Path]) -> list[Taken]:
    """The trainings that a plan lacks and other studies have, each from the first that has it.

    It is the same training where the recipe is, but for the model's name and where images and old models lie; where it
    saw the same images; where the models it is tied to have the same weights; and where its vectors are of the images
    that this plan checks. Names play no part.

    Args:
        plan: what is to be trained.
        studies: folders of other studies.

    Raises:
        InputError: one of these is no study, or is this one.
    """
    for folder in studies:
        if not (folder / "settings.json").is_file():
            raise InputError(f"{folder} holds no study, it has no settings.json; give the --out of another study")
        if folder.resolve() == plan.out.resolve():
            raise InputError(f"{folder} is the folder of this study itself; give the --out of another one")
    if not studies:
        return []
    source = open_training(plan)
    return [one for seed in plan.seeds for one in _takeable(plan, source, seed, studies)]


def from_each(found: Sequence[Taken], studies: Sequence[Path]) -> dict[Path, int]:
    """How many trainings each study gives."""
    return {study: sum(one.study == study for one in found) for study in studies}


def take(plan: Plan, found: Sequence[Taken]) -> None:
    """Put trainings and their vectors in the plan's folder: by hard link, or copied where that cannot be."""
    for one in found:
        with locked(plan.lock(one.job)):
            if is_done(plan, one.job):
                continue
            # the model last, since a folder with a model counts as trained
            for part, folder in one.vectors.items():
                _link(folder, plan.vectors_folder(one.job.name, one.job.seed, part))
            _link(one.model, plan.model_folder(one.job.name, one.job.seed))


def _takeable(plan: Plan, source: ImageSource, seed: int, studies: Sequence[Path]) -> Iterator[Taken]:
    checked = {part: (images.fingerprint(), len(images)) for part, images in checked_images(plan, source, seed).items()}
    others = [one for study in studies for one in _finished(study, seed)]
    weights: dict[str, str] = {}
    for model in plan.shown.needed():
        job = Job("train", model.name, seed)
        if is_done(plan, job):
            weights[model.name] = _training(plan.model_folder(model.name, seed))["space"]["weights"]
            continue
        images = training_images(plan, source, model, seed).fingerprint()
        tied_to = tuple(weights.get(name) for name in model.tied_to)
        learnt = _learnt(plan.recipe(model, seed).resolved())
        for other in others:
            if None in tied_to or (images, tied_to) != (other.images, other.tied_to):
                continue
            vectors = {part: other.study / f"seed{seed}" / "vectors" / other.model.name / part for part in checked}
            same = learnt == _learnt(load_recipe(other.model / "recipe.yaml"))
            if same and all(_job(vectors[part]) == (other.space, *what) for part, what in checked.items()):
                weights[model.name] = other.weights
                yield Taken(job, other.study, other.model, vectors)
                break


def _finished(study: Path, seed: int) -> Iterator[_Finished]:
    """The finished trainings of a study's seed, with the weights of the models that each is tied to."""
    models = study / f"seed{seed}" / "models"
    for folder in sorted(models.glob("*")):
        if not (folder / "model" / "config.json").is_file():
            continue
        section = load_recipe(folder / "recipe.yaml").compatibility
        tied_to = [section.old_model, *(one.old_model for one in section.earlier)]
        # by their names, since a study that was moved has its old models elsewhere than its recipes say
        names = [Path(old).parent.name for old in tied_to if old is not None]
        about = _training(folder)
        yield _Finished(
            study=study,
            model=folder,
            images=about["source"],
            space=about["space"]["id"],
            weights=about["space"]["weights"],
            tied_to=tuple(_weights(models / name) for name in names),
        )


def _weights(folder: Path) -> str | None:
    return _training(folder)["space"]["weights"] if (folder / "model" / "config.json").is_file() else None


def _training(folder: Path) -> dict[str, Any]:
    return read_json(folder / "training.json", "a finished training")


def _learnt(recipe: Recipe) -> dict[str, Any]:
    """Everything of a recipe that decides weights and vectors; images and old models are compared by themselves."""
    tree = asdict(recipe)
    tree["model"].pop("name")
    for key in ("source", "workers"):
        tree["data"].pop(key)
    tree["run"] = {key: tree["run"][key] for key in _DECIDES_VALUES}
    for old in (tree["compatibility"], *tree["compatibility"]["earlier"]):
        old["old_model"] = old["old_model"] is not None
    return tree


def _job(folder: Path) -> tuple[str, str, int] | None:
    """Space, images and number of finished vectors; None where there are none."""
    if not (folder / "job.json").is_file():
        return None
    job = read_json(folder / "job.json", "finished vectors")
    return job["space"], job["source"], job["count"]


def _link(folder: Path, place: Path) -> None:
    with replacing_folder(place) as temporary:
        shutil.copytree(folder, temporary, copy_function=_link_file, dirs_exist_ok=True)


def _link_file(file: str, place: str) -> None:
    try:
        os.link(file, place)
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(file, place)
