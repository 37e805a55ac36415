"""Classes kept out of a training, on which the model is compared with the old one while it trains."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from samespace.data import ImageSource, holdout, subset
from samespace.errors import InputError
from samespace.models import Classifier, resolve_model
from samespace.train.checkpoint import Best, best_of, save_best
from samespace.train.measurement import VECTORS_WITHOUT_DIRECTION, Measurement
from samespace.train.sections import ValidationSection
from samespace.train.task import CompatibleTask
from samespace.vectors import Floats, VectorSet

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ValidationSlice:
    """The images of a training split by class: some to train on, some to measure on.

    Attributes:
        training: the images that remain.
        images: those that are measured, queries first, then the gallery with its classes in order.
        queries: how many of `images` are queries.
        classes: names of all classes kept apart, in the source's order.
        apart: how many images these have in all.
    """

    training: ImageSource
    images: ImageSource
    queries: int
    classes: tuple[str, ...]
    apart: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready values: class names, and ids of the queries and of the gallery."""
        ids = self.images.ids.tolist()
        return {"classes": list(self.classes), "queries": ids[: self.queries], "gallery": ids[self.queries :]}

    def describe(self) -> str:
        """In one line."""
        few = len(self.images) < self.apart
        measured = f"{len(self.images):,} of their {self.apart:,}" if few else f"their {self.apart:,}"
        return f"{len(self.classes):,} classes are kept out of the training; {measured} images are measured"


def validation_slice(source: ImageSource, section: ValidationSection) -> ValidationSlice | None:
    """Split a training's images as its recipe says; None where it keeps no classes apart.

    The draw depends on the classes of `source`, on `section.classes` and on `section.seed` alone, so trainings with
    other seeds and methods on the same images have the same slice. Where its classes have more images than
    `section.images`, each gives as many, and only where one image for each side is too much some classes give none.

    Raises:
        InputError: fewer than two classes would remain on a side, or none of those apart has two images.
    """
    if section.classes is None:
        return None
    total = len(source.classes)
    share = section.classes if section.classes < 1 else section.classes / total
    count = round(share * total)
    if not 2 <= count <= total - 2:
        raise InputError(
            f"validation.classes={section.classes:g} keeps {count} of {total} classes apart; both sides need at least 2"
        )
    split = holdout(source, fraction=share, seed=section.seed)
    apart = np.setdiff1d(np.arange(len(source)), split.train_rows)
    queries, gallery = _measured(source.labels, split.query_rows, split.gallery_rows, section)
    if not len(queries):
        raise InputError(f"none of the {count} classes kept apart has two images: choose more in validation.classes")
    return ValidationSlice(
        training=subset(source, split.train_rows),
        images=subset(source, np.concatenate([queries, gallery])),
        queries=len(queries),
        classes=tuple(source.classes[label] for label in np.unique(source.labels[apart])),
        apart=len(apart),
    )


def _measured(
    labels: IntArray, queries: IntArray, gallery: IntArray, section: ValidationSection
) -> tuple[IntArray, IntArray]:
    """The queries and gallery rows to measure: first of every class one, then two, until there are enough."""
    random = np.random.default_rng(np.random.SeedSequence([section.seed, 3]))
    place = random.permutation(int(labels.max()) + 1)
    sides = []
    for rows, others in ((queries, gallery), (gallery, queries)):
        mated = random.permutation(rows[np.isin(labels[rows], labels[others])])
        mated = mated[np.argsort(labels[mated], kind="stable")]
        _, begin, size = np.unique(labels[mated], return_index=True, return_counts=True)
        turn = np.arange(len(mated)) - np.repeat(begin, size)
        sides.append(mated[np.lexsort((place[labels[mated]], turn))])
    asked = sides[0][: section.images // 2]
    stored = sides[1][: section.images - len(asked)]
    return np.sort(asked), stored[np.lexsort((stored, labels[stored]))]


@dataclass(eq=False)
class Validation:
    """Measures a model in training on the validation slice, and keeps the best where asked.

    Attributes:
        slice: the images.
        section: what the recipe says.
        out: the training's folder.
        old: the old model's vectors of `slice.images`, in their order; None where there is none.
        cross: whether the new model is meant to be comparable with the old one, so that the cross test is taken.
        dim: how many leading values of new vectors are compared with old ones; None for all.
        best: what was kept so far, where `section.keep_best`.
        last: what the last call of `measure` gave.
    """

    slice: ValidationSlice
    section: ValidationSection
    out: Path
    old: VectorSet | None = None
    cross: bool = False
    dim: int | None = None
    best: Best | None = None
    last: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._measurement = Measurement(
            self.slice.images.labels, self.section.metrics, self.slice.queries, self.old, self.cross, self.dim
        )

    @property
    def file(self) -> Path:
        """Where the best model is kept while training."""
        return self.out / "best.safetensors"

    @property
    def chosen_by(self) -> tuple[str, str]:
        """The test and the metric by which the best model is chosen."""
        return ("cross" if self.cross and self.old is not None else "new"), self.section.metrics[0]

    def due(self, step: int, steps: int, global_step: int, last: bool) -> bool:
        """Whether to measure after step `step` of the `steps` of an epoch; always after the last one of all."""
        if step == steps and (last or self.section.every == "epoch"):
            return True
        return self.section.every != "epoch" and global_step % self.section.every == 0

    def measure(self, vectors: Floats) -> dict[str, float]:
        """The metrics of the model that gave these vectors (N, D) of `slice.images`, as `Measurement.of` says."""
        values = self._measurement.of(vectors)
        if VECTORS_WITHOUT_DIRECTION not in values:
            self.last = values
        return values

    def note(self) -> str:
        """What the last measurement says, for a progress bar."""
        test, metric = self.chosen_by
        value = self.last.get(f"{metric}/{test}")
        if value is None:
            return ""
        old = self.last.get(f"{metric}/old")
        return f"{metric} {test} {value:.3f}" + ("" if old is None else f" (old {old:.3f})")

    def take_up(self, resumed: bool) -> None:
        """Find what an earlier call kept; a training from its start has kept nothing."""
        if resumed and self.file.exists():
            self.best = best_of(self.file)
        else:
            self.file.unlink(missing_ok=True)

    def keep(self, task: CompatibleTask, values: dict[str, float], epoch: int, step: int) -> None:
        """Keep the model where it is asked for and better than all before."""
        test, metric = self.chosen_by
        value = values.get(f"{metric}/{test}")
        if not self.section.keep_best or value is None or (self.best is not None and value <= self.best.value):
            return
        self.best = Best(metric=metric, test=test, value=value, epoch=epoch, step=step)
        save_best(self.file, task, self.best)

    def summary(self, old_model: str | None) -> dict[str, Any]:
        """What a finished training records: the classes, what they said, and what was chosen by them."""
        known = _known(self.slice.classes, old_model)
        return {
            "classes": list(self.slice.classes),
            "images": len(self.slice.images),
            "last": self.last,
            "kept": None if self.best is None else asdict(self.best),
            **({} if known is None else {"classes_known_to_old": known}),
        }


def _known(classes: tuple[str, ...], old_model: str | None) -> int | None:
    """How many of the classes the old model was trained on, by name; None where it does not say."""
    if old_model is None:
        return None
    file = resolve_model(old_model) / "classifier.safetensors"
    return len(set(classes) & set(Classifier.load(file).classes)) if file.exists() else None


def validation_lines(summary: dict[str, Any] | None) -> list[str]:
    """What a finished training says of its validation classes, from `Validation.summary`."""
    if summary is None or not summary["last"]:
        return []
    lines = [f"on {len(summary['classes']):,} validation classes, at the end: {_read_out(summary['last'])}"]
    if known := summary.get("classes_known_to_old"):
        lines.append(f"{known:,} of them are classes of the old model's training: its own values stand higher there")
    elif short := _what_is_short(summary["last"]):
        lines.append(short)
    if kept := summary["kept"]:
        lines.append(
            f"the model after step {kept['step']:,} of epoch {kept['epoch'] + 1} was kept: best by {kept['metric']} "
            f"{kept['test']}, {kept['value']:.3f}, chosen on these classes"
        )
    return lines


def _what_is_short(values: dict[str, float]) -> str | None:
    """What to do where new queries are not above the old ones by the first metric; None where they are."""
    metric = next(iter(values)).rpartition("/")[0]
    cross, new, old = (values.get(f"{metric}/{test}") for test in ("cross", "new", "old"))
    if cross is None or new is None or old is None or cross > old:
        return None
    if new <= old:
        return (
            f"the new model by itself is not above the old one in {metric}, so there is nothing to pass on yet: train "
            "longer, on more data or with a larger network"
        )
    return (
        f"in {metric} the new model is above the old one by itself, and its queries on the old gallery are not: train "
        "longer (twice optim.epochs), or raise compatibility.weight"
    )


def _read_out(values: dict[str, float]) -> str:
    metrics = dict.fromkeys(name.rpartition("/")[0] for name in values)
    return "; ".join(
        f"{metric} "
        + ", ".join(
            f"{test} {value:.3f}"
            for test in ("cross", "new", "old")
            if (value := values.get(f"{metric}/{test}")) is not None
        )
        for metric in metrics
    )
