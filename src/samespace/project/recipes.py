"""The recipes of a project, as a user would write them for `samespace train`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from samespace.data import Augment
from samespace.project.settings import Project

# arcface needs a larger scale the more classes there are to tell apart (ArcFace, section 2.2; CosFace, section 3.3)
_SCALES = ((3_000, 16.0), (20_000, 32.0))
_LARGEST_SCALE = 64.0
_SEEDS = {"old": 1, "paragon": 2, "new": 3}


def recipe(
    project: Project,
    name: str,
    *,
    allocation: Path,
    classes: int,
    compatibility: dict[str, Any] | None = None,
    validation: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The recipe of one training: `old`, `paragon`, or `new`, with how it is kept compatible.

    Args:
        project: what is wanted.
        name: of the training; `new-METHOD` counts as `new`.
        allocation: the file that says which images are whose.
        classes: how many the training images have.
        compatibility: the section of that name.
        validation: likewise.
    """
    scale = next((scale for most, scale in _SCALES if classes <= most), _LARGEST_SCALE)
    role = name.partition("-")[0]
    data: dict[str, Any] = {
        "source": project.images,
        "allocation": str(allocation),
        "part": "old" if role == "old" else "new",
    }
    if project.network.channels is not None:
        data["channels"] = project.network.channels
    if project.broken != "refuse":
        data["broken"] = project.broken
    model: dict[str, Any] = {
        "backbone": project.network.backbone,
        "embedding_dim": project.network.dim,
        "batch_norm": True,
        "name": name,
    }
    if project.size is not None:
        model["image_size"] = project.size
    plain = asdict(Augment())
    made: dict[str, Any] = {
        "data": data,
        "model": model,
        "head": {"margin": "arcface", "scale": scale, "margin_value": 0.2},
        "optim": {
            "epochs": project.budget.epochs,
            "batch_size": project.budget.batch_size,
            "lr": 0.1,
            "weight_decay": 5e-4,
            "schedule": "cosine",
        },
        "augment": {key: value for key, value in asdict(project.augment).items() if value != plain[key]},
        "compatibility": compatibility or {"method": "none"},
        # trainings of one seed would start from the same weights, and be half way to compatible
        "seed": 10 * project.seed + _SEEDS[role],
    }
    if validation is not None:
        made["validation"] = validation
    return made


def recipe_text(made: dict[str, Any], comment: str) -> str:
    """A recipe as YAML under a comment."""
    return f"# {comment}\n{yaml.safe_dump(made, sort_keys=False, allow_unicode=True)}"
