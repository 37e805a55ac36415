"""`Plan`: a project file with its images and its old side opened, and the split drawn; before anything is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from samespace.data import ImageSource, part
from samespace.errors import InputError, suggest
from samespace.files import read_json, write_json
from samespace.project.cost import Pace, measure
from samespace.project.old import OldModel, OldVectors, match_old_vectors, read_old_model
from samespace.project.recipes import recipe
from samespace.project.settings import Project
from samespace.project.split import Shares, share_out
from samespace.project.stages import key_of
from samespace.project.work import Images, Workplace
from samespace.scoring.mates import Mates
from samespace.scoring.metric_names import choose_metrics
from samespace.train.compatibility import METHODS
from samespace.typed import read

# what is measured on validation classes, whatever the certificate judges: to judge more retrains nothing
WATCHED = ("rank@1", "mAP")
_STRANGERS = 0.2


@dataclass(frozen=True, eq=False)
class Plan:
    """All that a build follows from.

    Attributes:
        project: what the file says.
        place: where everything goes.
        source: the images as they are trained on.
        old: the old side; None where a stand-in is trained first.
        shares: which images are for what.
        notes: what was found about the inputs, a sentence each.
    """

    project: Project
    place: Workplace
    source: ImageSource
    old: OldModel | OldVectors | None
    shares: Shares
    notes: tuple[str, ...]

    @property
    def trainings(self) -> tuple[str, ...]:
        """Names of the compatible trainings: `new`, or one for each of several methods."""
        methods = self.project.methods
        return ("new",) if len(methods) == 1 else tuple(f"new-{method}" for method in methods)

    @property
    def prefix(self) -> bool:
        """Whether the new vectors are wider than the old ones, whose dimensions then lead them."""
        return self.old is not None and self.project.network.dim > self.old.dim

    @property
    def old_model(self) -> Path | None:
        """The old model or its stand-in, as `OldModel.place`; None where only its vectors are there."""
        if isinstance(self.old, OldVectors):
            return None
        return self.place.run("old") if self.old is None else self.old.place

    @property
    def stored(self) -> Path:
        """The old vectors of all images, where they were given."""
        return self.place.out / "vectors" / "old"

    def recipe(self, name: str) -> dict[str, Any]:
        """The recipe of one training."""
        allocation = self.shares.allocation
        classes = len(allocation.old_classes) if name == "old" else self.shares.trained_classes
        side = {"old_model": str(self.old_model)} if self.old_model else {"old_vectors": str(self.stored)}
        term: dict[str, Any] | None = None
        if name in self.trainings:
            method = self.project.methods[self.trainings.index(name)]
            term = {"method": method, **side, **({"prefix": True} if self.prefix else {})}
        validation: dict[str, Any] | None = None
        if name != "old" and self.shares.validation_classes:
            validation = {"classes": self.shares.validation_classes, "metrics": list(WATCHED)}
            validation |= {"seed": self.project.seed, **(side if term is None else {})}
        return recipe(
            self.project,
            name,
            allocation=self.place.allocation,
            classes=classes,
            compatibility=term,
            validation=validation,
        )

    def pace(self, kept: Path | None = None) -> Pace:
        """How fast this machine is at it, from real steps; or as `kept` in a file, for the same recipe and images."""
        made, training = {**self.recipe("paragon"), "validation": {}}, part(self.source, self.shares.allocation, "new")
        key = key_of(made, training.fingerprint(), torch.cuda.is_available(), torch.get_num_threads())
        if kept is not None and kept.is_file():
            value = read_json(kept, "the pace of a machine")
            if value.pop("key") == key:
                return read(Pace, value, str(kept))
        given = self.old if isinstance(self.old, OldModel) else None
        pace = measure(made, training, given, live=not isinstance(self.old, OldVectors))
        if kept is not None:
            write_json(kept, {"key": key, **asdict(pace)})
        return pace


def foreign_to(stored: Path) -> Path:
    """Where the stored vectors that belong to no image are kept, beside those of the images."""
    return stored.with_name("old-without-image")


def make_plan(project: Project, out: Path, *, quiet: bool = False) -> Plan:
    """Open everything that a project names, and draw its split.

    Raises:
        InputError: something is missing or does not fit the rest: classes, dimensions, channels, ids, methods.
    """
    for method in project.methods:
        if method not in METHODS and method != "auto":
            raise InputError(f"methods: unknown method '{method}'; {suggest(method, ['auto', *METHODS])}")
        if method == "none":
            raise InputError("methods: 'none' trains the paragon, which every build does; name a compatible method")
    images = Images(project)
    source = images.training()
    old: OldModel | OldVectors | None = None
    notes: list[str] = []
    if project.old is not None:
        old = read_old_model(project.old)
        if old.classes is None:
            _refuse_methods(project, {"classifier": "its classifier"}, f"{project.old} has none beside it")
    elif project.old_vectors is not None:
        old = match_old_vectors(project.old_vectors, source)
        notes += old.notes
        needs = {"classifier": "its classifier", "model": "the model itself"}
        _refuse_methods(project, needs, "old_vectors has its vectors only")
    if old is not None and project.network.dim < old.dim:
        raise InputError(
            f"network.dim is {project.network.dim}, but the old model's vectors have {old.dim} dimensions; set "
            f"network.dim to {old.dim}, or more for leading dimensions that are compatible"
        )
    prepared = old.preprocessing if isinstance(old, OldModel) else None
    if prepared is not None and prepared.channels != source.image_shape[0]:
        raise InputError(
            f"the old model takes images of {prepared.channels} channel(s), but network.channels makes them "
            f"{source.image_shape[0]}; set network.channels to {prepared.channels}"
        )
    if project.size is None and source.image_shape[1] != source.image_shape[2]:
        raise InputError(
            f"{source.name} holds images that are not square; give the side the network sees as size, "
            "or its [height, width]"
        )
    shares = share_out(
        source,
        project.split,
        seed=project.seed,
        rows=old.rows if isinstance(old, OldVectors) else None,
        known=old.classes if isinstance(old, OldModel) else None,
        stand_in=old is None,
        open_set=_STRANGERS if any(name.startswith("TPIR") for name in project.metrics) else 0.0,
    )
    choose_metrics(list(project.metrics), _mates(source, shares))
    return Plan(project, Workplace(out, images, quiet), source, old, shares, tuple(notes))


def _mates(source: ImageSource, shares: Shares) -> Mates:
    """Queries and gallery of the certificate, to see before any training whether its metrics can be measured."""
    queries, gallery = shares.allocation.query_rows, shares.allocation.gallery_rows
    return Mates(
        query_codes=source.labels[queries],
        gallery_codes=np.sort(source.labels[gallery]),
        self_place=np.full(len(queries), -1, dtype=np.int64),
        identities=len(source.classes),
    )


def _refuse_methods(project: Project, lacking: Mapping[str, str], why: str) -> None:
    """Refuse methods that need of the old model what it lacks."""
    for method in project.methods:
        needs = METHODS[method].needs if method != "auto" else ()
        if need := next((named for what, named in lacking.items() if what in needs), None):
            raise InputError(f"methods: '{method}' needs {need}, and {why}; take auto")
