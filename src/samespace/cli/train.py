"""`samespace train`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from samespace.cli.output import PATH, json_option, quiet_option, write_result


@click.command()
@click.argument("recipe", type=PATH)
@click.option("--out", required=True, type=PATH, help="Folder of this training and its model.")
@click.option(
    "--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Override a recipe key, such as optim.epochs=20."
)
@click.option(
    "--dry-run", is_flag=True, help="Check the recipe and print it with every value written out; train nothing."
)
@quiet_option
@json_option
def train(recipe: Path, out: Path, overrides: tuple[str, ...], dry_run: bool, quiet: bool, json_to: str | None) -> None:
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
    from samespace.progress import clock
    from samespace.train import dump_recipe, flushed_denormals, load_recipe, run
    from samespace.train.validation import validation_lines

    parsed = load_recipe(recipe, overrides)
    if dry_run:
        click.echo(dump_recipe(parsed.resolved()), nl=False)
        return
    method = parsed.resolved().compatibility.method
    if parsed.compatibility.method == "auto" and method != "none" and not quiet:
        click.echo(f"compatibility.method: auto takes {method}", err=True)
    with flushed_denormals():
        trained = run(parsed, out, quiet=quiet)
    if os.environ.get("RANK", "0") != "0":
        return
    result = {"model": str(trained.model), "fresh": trained.fresh, "seconds": trained.seconds}
    write_result(result | ({} if trained.validation is None else {"validation": trained.validation}), json_to)
    if json_to != "-":
        done = f"trained in {clock(trained.seconds)}" if trained.fresh else "already trained; nothing to do"
        click.echo(f"{trained.model}: {done}")
        for line in validation_lines(trained.validation):
            click.echo(line)
