"""`samespace train`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from samespace.cli.output import NEW_FOLDER, PATH, json_option, quiet_option, say, write_result
from samespace.cli.sources import show_left_out, stand_in_lines

if TYPE_CHECKING:
    from samespace.train import Recipe


@click.command()
@click.argument("recipe", type=PATH)
@click.option("--out", type=NEW_FOLDER, help="Folder of this training and its model; a dry run may go without.")
@click.option(
    "--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Override a recipe key, such as optim.epochs=20."
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Open and build everything, try twenty steps, print the recipe in full, memory and time; write nothing.",
)
@quiet_option
@json_option
def train(
    recipe: Path, out: Path | None, overrides: tuple[str, ...], dry_run: bool, quiet: bool, json_to: str | None
) -> None:
    """Train the model that RECIPE (a YAML file) describes.

    OUT receives the resolved recipe, metrics.jsonl, a checkpoint while training and model/ at the end. Run the same
    command again after a kill or Ctrl-C and it carries on exactly where it was. On several GPUs:

    \b
        torchrun --nproc-per-node 4 -m samespace train recipe.yaml --out runs/v2

    A recipe for a compatible successor of the model in runs/v1:

    \b
        data: {source: images/}
        model: {backbone: iresnet50, embedding_dim: 512, image_size: 112}
        compatibility: {old_model: runs/v1/model}

    Every key with its meaning and default: docs/recipes.md.
    """  # noqa: D301
    from samespace.data.describe import left_out_of
    from samespace.progress import clock
    from samespace.train import flushed_denormals, load_recipe, run
    from samespace.train.old_side import seed_warning
    from samespace.train.run import open_training_source
    from samespace.train.validation import validation_lines

    if out is None and not dry_run:
        raise click.UsageError("Missing option '--out', the folder of this training; a dry run alone goes without.")
    parsed = load_recipe(recipe, overrides)
    if dry_run:
        _dry_run(parsed, out, quiet, json_to)
        return
    assert out is not None
    method = parsed.resolved().compatibility.method
    if parsed.compatibility.method == "auto" and method != "none" and not quiet:
        click.echo(f"compatibility.method: auto takes {method}", err=True)
    if warning := seed_warning(parsed):
        click.echo(f"warning: {warning}", err=True)
    with flushed_denormals():
        source = open_training_source(parsed.data, parsed.model.image_size)
        left_out = left_out_of(source)
        if not quiet and os.environ.get("RANK", "0") == "0":
            show_left_out(left_out, size=source.image_shape[1:], err=True)
        trained = run(parsed, out, source=source, quiet=quiet)
    if os.environ.get("RANK", "0") != "0":
        return
    result = {"model": str(trained.model), "fresh": trained.fresh, "seconds": trained.seconds, **left_out.to_dict()}
    result["unreadable"] = [{"path": name, "reason": why} for name, why in trained.unreadable.items()]
    write_result(result | ({} if trained.validation is None else {"validation": trained.validation}), json_to)
    if json_to != "-":
        done = f"trained in {clock(trained.seconds)}" if trained.fresh else "already trained; nothing to do"
        click.echo(f"{trained.model}: {done}")
        for line in stand_in_lines(trained.unreadable):
            say(line)
        for line in validation_lines(trained.validation):
            click.echo(line)


def _dry_run(recipe: Recipe, out: Path | None, quiet: bool, json_to: str | None) -> None:
    """Print the recipe as YAML, and what it would take as comments below it."""
    from samespace.train import dump_recipe, flushed_denormals
    from samespace.train.dry_run import dry_run

    with flushed_denormals():
        found = dry_run(recipe, out, quiet=quiet)
    write_result({"finished": True} if found is None else {"finished": False, **found.to_dict()}, json_to)
    if json_to == "-":
        return
    click.echo(dump_recipe(recipe.resolved(), whole=True), nl=False)
    for line in [f"{out} holds this training, finished"] if found is None else found.lines():
        click.echo(f"# {line}")
