"""Settings of a study: on which images, with which networks and schedules, and how models are checked."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml

from samespace.errors import InputError, suggest
from samespace.scoring.metric_aliases import suggest_metric
from samespace.scoring.metric_names import parse
from samespace.strict import build, override, read_yaml
from samespace.studies.bct import bct
from samespace.studies.beyond import beyond
from samespace.studies.study import Model, Study
from samespace.studies.unibct import unibct
from samespace.train.recipe import Recipe
from samespace.train.recipe_file import parse_recipe

_READY = resources.files("samespace.studies") / "ready"
_SECTIONS = ("model", "head", "optim", "augment", "compatibility", "run", "data")

BenchmarkName = Literal["ijbb", "ijbc", "market1501", "msmt17"]


@dataclass(frozen=True)
class CheckSection:
    """What models are checked on: classes held out of the training images, or a published benchmark.

    Attributes:
        classes: name of an array of the .npz, one boolean per class, that marks the classes to check on.
        groups: name of an array of the .npz, one value per class; whole groups of classes are held out.
        fraction: share of the classes, or of the groups, to hold out.
        open_set: share of the check classes that are queries without a mate.
        queries_per_class: share of a check class's images that are queries, or a whole number of them.
        benchmark: a published benchmark instead of held-out classes.
        files: its files, as `samespace benchmark` takes them.
        images: its images, as `samespace embed` takes them, named as the benchmark names them.
        replicates: bootstrap resamples.
    """

    classes: str | None = None
    groups: str | None = None
    fraction: float = 0.3
    open_set: float = 0.1
    queries_per_class: float = 0.5
    benchmark: BenchmarkName | None = None
    files: str | None = None
    images: str | None = None
    replicates: int = 2000

    def __post_init__(self) -> None:
        if self.benchmark is None and (self.files or self.images):
            raise InputError(
                "check.files and check.images belong to check.benchmark: name the benchmark or remove them"
            )
        if self.benchmark is not None and not (self.files and self.images):
            raise InputError(f"check.benchmark={self.benchmark} needs check.files and check.images")
        if self.benchmark is not None and (self.classes or self.groups):
            raise InputError("check.benchmark holds out no classes: remove check.classes and check.groups")
        if self.classes and self.groups:
            raise InputError("check.classes and check.groups exclude each other: give one")
        if self.replicates < 100:
            raise InputError(f"check.replicates should be at least 100, got {self.replicates}")
        if not 0 < self.fraction < 1 or not 0 <= self.open_set < 1 or not self.queries_per_class > 0:
            raise InputError(
                "check.fraction lies between 0 and 1, check.open_set from 0 to below 1 and check.queries_per_class "
                f"above 0, got {self.fraction}, {self.open_set} and {self.queries_per_class}"
            )


@dataclass(frozen=True)
class Settings:
    """How a study is carried out.

    Attributes:
        about: one sentence for people.
        source: the training images, as `samespace train` takes them; null leaves it to `--data`.
        recipe: sections of a recipe that hold for every model.
        variants: overrides of the recipe by the name that a study gives a change, such as `deeper`.
        check: what models are checked on.
        metrics: the metric to measure in place of one of the paper's; null leaves its column empty.
        seeds: of allocations, weights and orders, one run of the study each.
    """

    about: str
    source: str | None = None
    recipe: dict[str, Any] = field(default_factory=dict)
    variants: dict[str, tuple[str, ...]] = field(default_factory=dict)
    check: CheckSection = field(default_factory=CheckSection)
    metrics: dict[str, str | None] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        for section in self.recipe:
            if section not in _SECTIONS:
                raise InputError(f"unknown settings key 'recipe.{section}'; {suggest(section, _SECTIONS)}")
            if not isinstance(self.recipe[section], dict | None):
                raise InputError(f"recipe.{section} should hold keys and values, got {self.recipe[section]!r}")
        published = {name for study in (bct(), unibct(), beyond()) for name in study.metrics()}
        for metric in self.metrics:
            if metric not in published:
                raise InputError(
                    f"metrics: the papers measure no '{metric}'; {suggest_metric(metric, sorted(published))}"
                )
        if not self.seeds or min(self.seeds) < 0 or len(set(self.seeds)) != len(self.seeds):
            raise InputError(f"seeds should be whole numbers from 0, each once, got {list(self.seeds)}")
        for name in self.metrics.values():
            # a benchmark has metrics of its own, which its files decide
            if name is not None and self.check.benchmark is None:
                parse(name)

    def metric(self, published: str) -> str | None:
        """The metric measured for one of the paper's; None where it is not."""
        return self.metrics.get(published, published)

    def recipe_of(
        self,
        study: Study,
        model: Model,
        *,
        source: str,
        seed: int,
        old: Path | None,
        earlier: Sequence[Path] = (),
    ) -> Recipe:
        """The recipe of one model of a study.

        Args:
            study: whose compatibility keys hold where the settings say nothing.
            model: which model.
            source: the training images, for the record.
            seed: of this run of the study.
            old: folder of the old model, where the model has one.
            earlier: folders of those before it, to which the model is tied as well.

        Raises:
            InputError: the settings lack a variant that the study asks for, or the recipe is not legal.
        """
        tree: dict[str, Any] = copy.deepcopy(self.recipe)
        compatibility = {**study.compatibility, **(tree.pop("compatibility", None) or {})}
        tree["data"] = {**(tree.get("data") or {}), "source": source}
        tree["seed"] = 10 * seed + model.generation
        tree["model"] = {**(tree.get("model") or {}), "name": model.name}
        if model.old is not None:
            tree["compatibility"] = {
                **compatibility,
                **model.compatibility,
                "method": model.method,
                "old_model": str(old),
                "earlier": [{"old_model": str(folder)} for folder in earlier],
            }
        for variant in self._variants_of(model):
            if variant not in self.variants:
                raise InputError(
                    f"the settings lack the variant '{variant}' that model '{model.name}' of {study.name} asks for; "
                    f"add it under variants, such as {variant}: [model.backbone=convnet32]"
                )
            for assignment in self.variants[variant]:
                if model.old is not None or not assignment.startswith("compatibility."):
                    override(tree, assignment)
        return parse_recipe(tree)

    def _variants_of(self, model: Model) -> tuple[str, ...]:
        # models that are replaced see fewer images than their successors: `old` makes up for it where it is given
        longer = ("old",) if model.generation == 0 and "old" in self.variants else ()
        return (*model.variants, *longer)


def shipped() -> tuple[str, ...]:
    """Names of the settings that come with the library."""
    names = (item.name for item in _READY.iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml")))


def load_settings(name: str, overrides: Iterable[str] = ()) -> Settings:
    """Read settings by the name of shipped ones or from a YAML file.

    Args:
        name: one of `shipped()`, or the path of a file that ends in `.yaml` or `.yml`.
        overrides: `section.key=value` for `recipe` sections (`optim.epochs=2`), `check.key=value`, or a top-level key.

    Raises:
        InputError: there are no such settings, or they are not legal.
    """
    if name.endswith((".yaml", ".yml")):
        tree = read_yaml(Path(name), "settings of a study (YAML)", "keys such as 'about:' and 'recipe:'")
    elif name in shipped():
        tree = yaml.safe_load((_READY / f"{name}.yaml").read_text(encoding="utf-8"))
    else:
        raise InputError(f"no settings '{name}'; {suggest(name, shipped())}, or a file ending in .yaml")
    for assignment in overrides:
        section = assignment.partition(".")[0].partition("=")[0]
        recipe = tree.setdefault("recipe", {})
        inside = section in _SECTIONS
        override(recipe if inside and isinstance(recipe, dict) else tree, assignment)
    return build(Settings, tree, "settings")
