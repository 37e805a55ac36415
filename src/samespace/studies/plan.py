"""The plan of a study: which models on which images, which comparisons, what is there already."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from samespace.data import ImageSource, allocate, holdout, open_for_model, subset
from samespace.data.holdout import Holdout, IntArray
from samespace.errors import InputError
from samespace.files import read_npz
from samespace.models.backbones import build_backbone
from samespace.studies.settings import Settings
from samespace.studies.study import Model, Pair, Share, Study
from samespace.train.recipe import Recipe

Kind = Literal["train", "bridge", "check"]

# about as long as an embedding of so many images takes
_BRIDGE_COST = 400_000


@dataclass(frozen=True)
class Plan:
    """A study on given images in a given folder.

    Attributes:
        study: what is compared, whole, so that what is measured does not depend on which tables are asked for.
        settings: how.
        source: the training images, as `open_source` takes them.
        out: folder of the study.
        seeds: runs of it.
        tables: the tables asked for; empty means all.
        rows: words of the rows asked for; empty means all.
    """

    study: Study
    settings: Settings
    source: str
    out: Path
    seeds: tuple[int, ...]
    tables: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()

    @property
    def shown(self) -> Study:
        """The part of the study that was asked for."""
        study = self.study.only(self.tables).only_rows(self.rows)
        if self.settings.check.benchmark is None:
            return study
        # a benchmark has no gallery that is re-embedded class by class, mapped, or searched by fused queries
        tables = (replace(one, rows=tuple(row for row in one.rows if row.pair.as_trained)) for one in study.tables)
        return replace(study, figure=None, tables=tuple(tables))

    def pair(self, key: str) -> Pair:
        """The comparison of a key."""
        return next(pair for pair in self.study.pairs() if pair.key == key)

    def bridged(self, key: str) -> Pair:
        """One of the comparisons that use a map, by the map's key."""
        return next(pair for pair in self.study.pairs() if pair.bridge_key == key)

    def model_folder(self, model: str, seed: int) -> Path:
        """Folder of one model's training."""
        return self.out / f"seed{seed}" / "models" / model

    def vectors_folder(self, model: str, seed: int, name: str) -> Path:
        """Folder of a model's vectors of one part of the check."""
        return self.out / f"seed{seed}" / "vectors" / model / name

    def certificate(self, pair: Pair, seed: int) -> Path:
        """File of one comparison."""
        return self.out / f"seed{seed}" / "certificates" / f"{pair.key}.json"

    def replicates(self, pair: Pair, seed: int) -> Path:
        """File of one comparison's bootstrap replicates, from which intervals over several seeds are made."""
        return self.out / f"seed{seed}" / "replicates" / f"{pair.key}.npz"

    def lock(self, job: Job) -> Path:
        """What `locked` takes while a job is done."""
        return self.out / f"seed{job.seed}" / "locks" / f"{job.kind}-{job.name}"

    def bridge(self, pair: Pair, seed: int) -> Path:
        """Folder of the map of one comparison."""
        return self.out / f"seed{seed}" / "bridges" / str(pair.bridge_key)

    def recipe(self, model: Model, seed: int) -> Recipe:
        """The recipe of one model."""
        # absolute, so that a call from another folder carries on with what this one left half done
        tied_to = [(self.model_folder(name, seed) / "model").absolute() for name in model.tied_to]
        old, earlier = (tied_to[0], tied_to[1:]) if tied_to else (None, [])
        source = str(Path(self.source).absolute()) if Path(self.source).exists() else self.source
        return self.settings.recipe_of(self.study, model, source=source, seed=seed, old=old, earlier=earlier)

    def metrics(self) -> list[str]:
        """What is measured: the paper's metrics, or what stands in their place; searches before verifications."""
        names = [self.settings.metric(name) for name in self.study.metrics()]
        kept = dict.fromkeys(name for name in names if name is not None)
        return sorted(kept, key=lambda name: name.startswith("TAR"))


@dataclass(frozen=True)
class Job:
    """One training of a model with the vectors it is checked by, one map, or one check of a pair, named by its key.

    `needs` are the models and maps that must be there first, `cost` is how many images it looks at, about, for the time
    left.
    """

    kind: Kind
    name: str
    seed: int
    needs: tuple[str, ...] = ()
    cost: int = 1

    def __str__(self) -> str:
        model, *others = self.name.split("--")
        what = " on ".join([model, *others[:1]])
        how = others[1:] if self.kind == "bridge" else others[2:]
        return f"{self.kind} {', '.join([what, *how])} (seed {self.seed})"


def jobs(plan: Plan, source: ImageSource) -> list[Job]:
    """All jobs of a plan, in an order in which they can be done one after the other."""
    todo = []
    pairs = plan.shown.pairs()
    bridges = {pair.bridge_key: (pair.new, pair.old) for pair in pairs if pair.bridge_key is not None}
    for seed in plan.seeds:
        kept = held_out(plan, source, seed)
        for model in plan.shown.needed():
            epochs = plan.recipe(model, seed).optim.epochs
            cost = epochs * len(training_rows(source, kept, model.data, seed))
            todo.append(Job("train", model.name, seed, model.tied_to, cost))
        for key, models in bridges.items():
            todo.append(Job("bridge", key, seed, models, _BRIDGE_COST))
        for pair in pairs:
            needs = tuple(dict.fromkeys(filter(None, (pair.new, pair.old, pair.paragon, pair.bridge_key))))
            todo.append(Job("check", pair.key, seed, needs, len(source)))
    return todo


def require_legal(plan: Plan) -> None:
    """Refuse, before any training, what would be refused hours later.

    Raises:
        InputError: nothing is asked for, a backbone is unknown, dimensions do not fit, or no query is without a mate.
    """
    study, section = plan.shown, plan.settings.check
    if not study.pairs():
        raise InputError(f"nothing to compare: {plan.study.name} on a benchmark has tables, but no backfill curve")
    recipes = {model.name: plan.recipe(model, plan.seeds[0]) for model in study.needed()}
    for backbone in {recipe.model.backbone for recipe in recipes.values()}:
        with torch.device("meta"):
            build_backbone(backbone, 3)
    for model in study.needed():
        recipe = recipes[model.name]
        new, prefix = recipe.model.embedding_dim, recipe.compatibility.prefix
        old = recipes[model.old].model.embedding_dim if model.old else new
        if prefix != (new > old) or new < old:
            raise InputError(
                f"model '{model.name}' has {new} dimensions and its old model {old}: a wider variant says "
                "model.embedding_dim and compatibility.prefix=true, a narrower one cannot be"
            )
    searches = [name for name in plan.metrics() if name.startswith("TPIR@")]
    if section.benchmark is None and section.open_set == 0 and searches:
        raise InputError(
            f"check.open_set=0 leaves no query without a mate, which {searches[0]} needs; raise it, or set the "
            "metric to null under metrics"
        )


def is_done(plan: Plan, job: Job) -> bool:
    """Whether the result of a job is there."""
    if job.kind == "check":
        pair = plan.pair(job.name)
        # one seed's interval is that of its certificate
        files = [plan.certificate, *([plan.replicates] if len(plan.seeds) > 1 else [])]
        return all(file(pair, job.seed).is_file() for file in files)
    if job.kind == "bridge":
        return (plan.bridge(plan.bridged(job.name), job.seed) / "config.json").is_file()
    parts = ("images",) if plan.settings.check.benchmark else ("queries", "gallery")
    folders = [plan.vectors_folder(job.name, job.seed, part) for part in parts]
    return (plan.model_folder(job.name, job.seed) / "model" / "config.json").is_file() and all(
        (folder / "job.json").is_file() for folder in folders
    )


def trainings(plan: Plan) -> tuple[int, int]:
    """How many trainings a plan asks for, and how many of them are there; it needs no images."""
    wanted = [Job("train", model.name, seed) for seed in plan.seeds for model in plan.shown.needed()]
    return len(wanted), sum(is_done(plan, job) for job in wanted)


def open_training(plan: Plan) -> ImageSource:
    """The labelled images of which models are trained and, without a benchmark, checked."""
    section = plan.recipe(plan.study.models[0], plan.seeds[0])
    return open_for_model(plan.source, section.model.sees, channels=section.data.channels, broken=section.data.broken)


def held_out(plan: Plan, source: ImageSource, seed: int) -> Holdout | None:
    """The classes kept for the check; None where a benchmark takes their place.

    Raises:
        InputError: the images' file has no such array, or too few classes.
    """
    section = plan.settings.check
    if section.benchmark is not None:
        return None
    queries = section.queries_per_class
    return holdout(
        source,
        fraction=section.fraction,
        seed=seed,
        open_set=section.open_set,
        queries_per_class=int(queries) if queries >= 1 else queries,
        check_classes=_marked_classes(plan, source, seed),
    )


def training_rows(source: ImageSource, kept: Holdout | None, data: Share, seed: int) -> IntArray:
    """Rows of the training images that a model gets, sorted int64; shares of one seed are nested."""
    everything = np.arange(len(source), dtype=np.int64) if kept is None else kept.train_rows
    if data.by == "all":
        return everything
    kind: Literal["open-data", "open-class"] = "open-data" if data.by == "images" else "open-class"
    allocation = allocate(source, kind, fraction=data.fraction, seed=seed, holdout=kept)
    return allocation.new_rows if data.rest else allocation.old_rows


def training_images(plan: Plan, source: ImageSource, model: Model, seed: int) -> ImageSource:
    """The images that a model is trained on."""
    return subset(source, training_rows(source, held_out(plan, source, seed), model.data, seed))


def _marked_classes(plan: Plan, source: ImageSource, seed: int) -> IntArray | None:
    section = plan.settings.check
    name = section.classes or section.groups
    if name is None:
        return None
    marks = _class_array(Path(plan.source), name)
    if len(marks) != len(source.classes):
        raise InputError(
            f"{plan.source}: '{name}' should hold one value per class, {len(source.classes)}, got {len(marks)}"
        )
    if section.classes:
        if marks.dtype != np.bool_:
            raise InputError(
                f"{plan.source}: check.classes={name} should mark classes by true or false, got {marks.dtype}; "
                "for groups of classes use check.groups"
            )
        return np.flatnonzero(marks)
    groups = np.unique(marks)
    count = min(max(round(section.fraction * len(groups)), 1), len(groups) - 1)
    chosen = np.random.default_rng(np.random.SeedSequence([seed, 3])).permutation(groups)[:count]
    return np.flatnonzero(np.isin(marks, chosen))


def _class_array(path: Path, name: str) -> npt.NDArray[Any]:
    if not path.is_file():
        raise InputError(f"{path} cannot be read as .npz: no such file; check.classes and check.groups need one")
    arrays, held = read_npz(path, [name], "an .npz: check.classes and check.groups need one")
    if name not in arrays:
        raise InputError(
            f"{path} holds no array '{name}' for check.classes or check.groups; it holds {', '.join(held)}"
        )
    return np.asarray(arrays[name])


def identity(plan: Plan, source: ImageSource) -> dict[str, str]:
    """What the results in a folder depend on, for telling whether they may be kept: a digest for each part."""
    settings = plan.settings
    learnt = {key: value for key, value in settings.recipe.items() if key != "run"}
    return {
        "study": plan.study.name,
        "images": source.fingerprint(),
        "recipe": _digest(learnt),
        "variants": _digest(settings.variants),
        "check": _digest(asdict(settings.check)),
        "metrics": _digest(settings.metrics),
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
