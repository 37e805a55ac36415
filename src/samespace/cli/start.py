"""`samespace start`."""

from __future__ import annotations

from pathlib import Path

import click

from samespace.cli.build import show_cost
from samespace.cli.output import NEW_FILE, PATH, json_option, quiet_option, say, write_result
from samespace.names import as_argument


@click.command()
@click.argument("images")
@click.option(
    "--old",
    type=PATH,
    metavar="MODEL",
    help="The model in use: a folder of 'samespace train', or an encoder of images as 'samespace embed' takes it.",
)
@click.option(
    "--old-vectors",
    type=PATH,
    metavar="VECTORS",
    help="Instead of the model: its stored vectors, whose ids name the images.",
)
@click.option(
    "--out", type=NEW_FILE, default=Path("project.yaml"), show_default=True, help="The project file to write."
)
@click.option("--force", is_flag=True, help="Write it anew where it is there already.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the split and all trainings.")
@quiet_option
@json_option
def start(
    images: str,
    old: Path | None,
    old_vectors: Path | None,
    out: Path,
    force: bool,
    seed: int,
    quiet: bool,
    json_to: str | None,
) -> None:
    """Look at IMAGES and write project.yaml: how to upgrade the model that searches them.

    The file holds the split, the size of the images, the network and the budget, each with its reason; change any
    line. Then 'samespace build project.yaml' makes all of it. Without --old or --old-vectors a stand-in for the old
    model is trained first: a rehearsal of the upgrade.
    """
    from samespace.project.start.start import start as run_start

    if not images:
        raise click.UsageError("IMAGES is empty; name a folder or file, '.' for the working folder.")

    started = run_start(
        images,
        out,
        old=None if old is None else str(old),
        old_vectors=None if old_vectors is None else str(old_vectors),
        force=force,
        seed=seed,
        quiet=quiet,
    )
    if write_result({"project": str(out), "text": started.text, **started.overview}, json_to):
        for line in started.text.splitlines():
            say(line)
        say("")
        show_cost(started.overview)
        say(f"wrote {out}")
        say(f"next: samespace build {as_argument(out)}")
