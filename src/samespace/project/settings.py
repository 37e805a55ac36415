"""`Project`: the few lines of project.yaml that decide a whole upgrade."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from samespace.data import Augment
from samespace.data.holdout import require_seed, require_share
from samespace.errors import InputError
from samespace.strict import build, read_yaml


@dataclass(frozen=True)
class Split:
    """Which classes are for what.

    Attributes:
        check: share of all classes that are kept for the certificate; no model is trained on them, nothing is chosen
            by them.
        validation: share of the other classes that are kept from training too, to choose by; 0 for none.
    """

    check: float = 0.3
    validation: float = 0.1

    def __post_init__(self) -> None:
        require_share("split.check", self.check)
        if self.validation != 0:
            require_share("split.validation", self.validation)


@dataclass(frozen=True)
class Network:
    """The network of every model that is trained.

    Attributes:
        backbone: as in a recipe: convnet32, iresnet50, timm:NAME, package.module:callable.
        dim: dimensions of the vectors.
        channels: 1 for grey, 3 for colour; null takes what the images have.
    """

    backbone: str = "convnet32"
    dim: int = 128
    channels: Literal[1, 3] | None = None


@dataclass(frozen=True)
class Budget:
    """How long each training lasts.

    Attributes:
        epochs: passes over the training images.
        batch_size: images per step.
    """

    epochs: int = 20
    batch_size: int = 128

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2:
            raise InputError(
                f"budget: epochs should be at least 1 and batch_size at least 2, got {self.epochs} and "
                f"{self.batch_size}"
            )


@dataclass(frozen=True)
class Project:
    """All that `samespace build` is told; paths are taken from the working folder, as in recipes.

    Attributes:
        images: a source of images, as `samespace.data.open_source` takes it.
        size: side, or [height, width], in pixels that the network sees; null takes the images' own.
        old: folder of the old model, or another encoder of images by its name, as in a recipe; null, without
            `old_vectors`, trains a stand-in first.
        old_vectors: instead of the old model, its stored vectors with the images' ids.
        split: which classes are for what.
        network: what is trained.
        budget: how long.
        augment: random changes of training images.
        methods: compatibility methods to train by; the best on the validation classes is certified.
        metrics: what the certificate judges.
        broken: refuse or skip images that cannot be read.
        seed: of the split and of all trainings.
        out: folder of everything that is made; null takes the name of the file without its suffix.
    """

    images: str
    size: int | tuple[int, int] | None = None
    old: str | None = None
    old_vectors: str | None = None
    split: Split = field(default_factory=Split)
    network: Network = field(default_factory=Network)
    budget: Budget = field(default_factory=Budget)
    augment: Augment = field(default_factory=Augment)
    methods: tuple[str, ...] = ("auto",)
    metrics: tuple[str, ...] = ("rank@1", "mAP")
    broken: Literal["refuse", "skip"] = "refuse"
    seed: int = 0
    out: str | None = None

    def __post_init__(self) -> None:
        require_seed(self.seed)
        if self.old is not None and self.old_vectors is not None:
            raise InputError("old and old_vectors are both given; keep the model, which makes any vectors it needs")
        if not self.methods or len(set(self.methods)) < len(self.methods):
            raise InputError(f"methods should name each method once, such as [auto], got {list(self.methods)}")
        if len(self.methods) > 1 and not self.split.validation:
            raise InputError("several methods are chosen between by split.validation, which is 0; give it a share")
        if not self.metrics:
            raise InputError("metrics is empty; name what the certificate judges, such as [rank@1, mAP]")


def load_project(path: str | Path) -> Project:
    """Read a project file.

    Raises:
        InputError: the file is missing or not YAML, a key is unknown (the right one is suggested), a value has the
            wrong type or is out of range; the message names the file.
    """
    path = Path(path)
    tree = read_yaml(path, "a project file, as 'samespace start IMAGES' writes it", "keys such as 'images:'")
    try:
        _require_size(tree)
        project = build(Project, tree, "project")
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return project


def _require_size(tree: Any) -> None:
    size = tree.get("size") if isinstance(tree, Mapping) else None
    sides = size if isinstance(size, list) and len(size) == 2 else [size]
    if size is not None and not all(type(side) is int and side > 0 for side in sides):
        raise InputError(
            f"size should be a side in pixels, a whole number of 1 or more, or [height, width] of such, got {size!r}"
        )


def _require_outside(out: Path, project: Project, path: Path) -> None:
    """Refuse a folder that would be read as images of the project."""
    images = Path(project.images)
    if project.images == "glyphs" or not images.is_dir() or not out.resolve().is_relative_to(images.resolve()):
        return
    given = f"the folder {out} that it takes from its name" if project.out is None else f"out: {out}"
    raise InputError(
        f"{path}: {given} is or lies in the folder of the images, {images}; what is made would be taken for images: "
        "name a folder outside of it with out:"
    )


def folder_of(project: Project, path: str | Path) -> Path:
    """Where everything of a project goes: `out`, or a folder named as its file.

    Raises:
        InputError: it is a file, or is or lies in the folder of the images.
    """
    path = Path(path)
    out = path.with_suffix("") if project.out is None else Path(project.out)
    _require_outside(out, project, path)
    if out == path or (out.exists() and not out.is_dir()):
        raise InputError(f"{out} is a file; name a folder for what is made, with out: in {path}")
    return out
