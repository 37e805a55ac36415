"""`start`: look at images and an old side, and write the project file that fits them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import torch

from samespace.errors import InputError
from samespace.files import write_text
from samespace.names import as_argument
from samespace.progress import bar, silent_bar
from samespace.project.build import overview
from samespace.project.make import stages_of
from samespace.project.old import OldModel, OldVectors, match_old_vectors, read_old_model
from samespace.project.plan import Plan, make_plan
from samespace.project.settings import folder_of
from samespace.project.start.look import Look, look
from samespace.project.start.propose import project_text, propose


@dataclass(frozen=True, eq=False)
class Started:
    """What `start` found and wrote.

    Attributes:
        path: of the project file.
        text: what it holds.
        look: what the images look like.
        plan: what a build would make.
        overview: its stages and their cost, JSON-ready.
    """

    path: Path
    text: str
    look: Look
    plan: Plan
    overview: dict[str, Any]


def start(
    images: str,
    path: Path,
    *,
    old: str | None = None,
    old_vectors: str | None = None,
    force: bool = False,
    seed: int = 0,
    quiet: bool = False,
) -> Started:
    """Write a project file for these images.

    Args:
        images: a source, as a user names it.
        path: of the file to write.
        old: folder of the old model, or another encoder of images by its name.
        old_vectors: its stored vectors, in its place.
        force: replace a file that is there.
        seed: of the split and the trainings.
        quiet: show no progress.

    Raises:
        InputError: the file is there, images or old side cannot be used, or there are too few classes.
    """
    if path.exists() and not force:
        raise InputError(
            f"{path} exists; build it with 'samespace build {as_argument(path)}', or write it anew with --force"
        )
    if old is not None and old_vectors is not None:
        raise InputError("give --old or --old-vectors, not both: a model makes any vectors that are needed")
    model = None if old is None else read_old_model(old)
    with (silent_bar if quiet else bar)("looking at the images", None) as advance:
        seen = look(images, seed=seed, advance=advance)
    side: OldModel | OldVectors | None = model
    if old_vectors is not None:
        side = match_old_vectors(old_vectors, seen.source)
    given = {key: value for key, value in (("old", old), ("old_vectors", old_vectors)) if value}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    proposal = propose(images, seen, old=side, given=given, device=device, seed=seed)
    plan = make_plan(proposal.project, folder_of(proposal.project, path), quiet=quiet)
    pace = plan.pace()
    text = project_text(proposal, plan.shares, f"samespace start {quote(images)}")
    write_text(path, text)
    return Started(path, text, seen, plan, overview(plan, stages_of(plan, pace), pace))
