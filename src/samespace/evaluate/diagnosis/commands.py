"""The commands that a diagnosis suggests, with the user's own file names where they are known."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from samespace.names import as_argument
from samespace.vectors import VectorSet


@dataclass(frozen=True)
class Files:
    """Where the vectors of a check came from; the capitals of the manual where that is not known."""

    queries: str = "NEW_Q"
    gallery: str = "OLD_G"
    baseline: str = "OLD_Q"
    new_gallery: str = "NEW_G"
    paragon_queries: str = "P_Q"
    paragon_gallery: str = "P_G"
    baseline_gallery: str = "BASELINE_G"

    @classmethod
    def of(cls, **sets: VectorSet | None) -> Files:
        """The files of vector sets by their role; a set that was made in memory has none."""
        known = {role: one.name for role, one in sets.items() if one is not None and one.name}
        return cls(**{role: name for role, name in known.items() if Path(name).exists()})

    def exchanged(self) -> Files:
        """Queries and baseline in each other's place."""
        return replace(self, queries=self.baseline, baseline=self.queries)

    def reversed(self) -> Files:
        """The old model given as the new one, and the new one as the old one."""
        return replace(
            self,
            queries=self.baseline,
            gallery=self.new_gallery,
            baseline=self.queries,
            new_gallery=self.gallery,
        )


def check_again(
    files: Files,
    *,
    baseline_gallery: bool = False,
    new_gallery: bool = False,
    paragon: bool = False,
    metrics: Sequence[str] = (),
    more: str = "",
) -> str:
    """`samespace check` with these files."""
    parts = ["samespace check", _option("queries", files.queries), _option("gallery", files.gallery)]
    parts.append(_option("baseline", files.baseline))
    if baseline_gallery:
        parts.append(_option("baseline-gallery", files.baseline_gallery))
    if new_gallery:
        parts.append(_option("new-gallery", files.new_gallery))
    if paragon:
        parts.append(_option("paragon-queries", files.paragon_queries))
        parts.append(_option("paragon-gallery", files.paragon_gallery))
    return " ".join([*parts, *(_option("metric", name) for name in metrics), *([more] if more else [])])


def fit_bridge(files: Files) -> str:
    """`samespace bridge fit` from the gallery's vectors by both models."""
    return f"samespace bridge fit {shlex.quote(files.gallery)} {shlex.quote(files.new_gallery)} --out bridge"


def train(out: str, **settings: str) -> str:
    """`samespace train` with keys of the recipe; `section__key` stands for `section.key`."""
    changed = [f"--set {key.replace('__', '.')}={value}" for key, value in settings.items()]
    return " ".join([f"samespace train recipe.yaml --out {out}", *changed])


def of_recipe(command: str, recipe: Path, runs: Path, *, live: bool) -> str:
    """A command of `train` for a recipe that names its old side already; `live` where this is a model."""
    own = f"samespace train {as_argument(recipe)} --out {as_argument(runs)}/"
    changed = command.replace("samespace train recipe.yaml --out runs/", own)
    if changed == command:
        return command
    changed = changed.replace(" --set compatibility.old_model=runs/v1/model", "")
    return changed if live else changed.replace(" --set compatibility.views=live", "")


def _option(name: str, value: str) -> str:
    return f"--{name} {shlex.quote(value)}"
