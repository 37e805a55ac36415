"""`samespace gallery adopt`, `sync`: the vectors that an application has in its own table."""

from __future__ import annotations

from shlex import quote
from typing import Any

import click

from samespace.cli.gallery.options import gallery_argument, shown_bar
from samespace.cli.output import json_option, quiet_option, write_result


@click.command()
@click.argument("location", metavar="ADDRESS")
@click.argument("table", metavar="TABLE")
@click.option("--id", "id_column", required=True, metavar="COLUMN", help="The column of ids; it must be unique.")
@click.option("--vector", required=True, metavar="COLUMN", help="The column of vectors, vector or halfvec.")
@click.option("--label", metavar="COLUMN", help="The column of classes.")
@click.option("--metadata", multiple=True, metavar="COLUMN,...", help="Columns that searches may filter on.")
@click.option("--space-name", metavar="NAME", help="Declare which model made the vectors.")
@click.option("--revision", default="", metavar="R", help="With --space-name: the revision of that model.")
@click.option("--model", metavar="ENCODER", help="Instead: the model itself; it is remembered.")
@click.option("--images", metavar="SOURCE", help="The items' images, remembered for backfills.")
@click.option(
    "--score",
    type=click.Choice(["cosine", "ip", "l2"]),
    help="What searches go by.  [default: what the table's index sorts by]",
)
@quiet_option
@json_option
def adopt(
    location: str,
    table: str,
    id_column: str,
    vector: str,
    label: str | None,
    metadata: tuple[str, ...],
    space_name: str | None,
    revision: str,
    model: str | None,
    images: str | None,
    score: Any,
    quiet: bool,
    json_to: str | None,
) -> None:
    """Make a gallery of the vectors in an application's TABLE, where they are; none is copied.

    ADDRESS is postgresql://USER@HOST/DATABASE of the table, and of the gallery from then on; the ledger lies beside the
    table in a schema of its own, 'samespace' or ?schema=NAME. Nothing is written to the table before 'seal', and the
    application goes on as before: searches see at once what it adds, changes and deletes. Needed are SELECT on the
    table and CREATE on the database.
    """
    from samespace.gallery.adoption.adopt import adopt_table
    from samespace.gallery.adoption.inspect import Columns

    if (space_name is None) == (model is None):
        raise click.UsageError("Say which model made the vectors: --space-name NAME, perhaps --revision R, or --model.")
    if model is not None and revision:
        raise click.UsageError("--revision goes with --space-name.")
    names = tuple(name.strip() for part in metadata for name in part.split(",") if name.strip())
    with shown_bar("listing rows", None, "rows", quiet=quiet, summary=False) as advance:
        found = adopt_table(
            location, table, Columns(id_column, vector, label, names),
            space=None if space_name is None else (space_name, revision), model=model, images=images,
            score=score, advance=advance,
        )  # fmt: skip
    value = {
        "gallery": found.location,
        "table": found.table,
        "space": found.space.to_dict(),
        "items": found.items,
        "without_vector": found.without,
        "index": found.index,
        "bytes": found.bytes,
    }
    if write_result(value, json_to):
        where = quote(found.location)
        click.echo(f"{found.location}: {found.items:,} rows of {found.table} are items now, no vector was copied")
        click.echo(f"space: {found.space}, {'unit length' if found.space.normalized else 'of any length'}")
        walked = "look at every row: the table has no index that they could walk"
        click.echo(f"searches {walked if found.index is None else f'walk its own index, {found.index}'}")
        click.echo(f"the ledger takes {found.bytes / 2**20:.1f} MiB in the schema {found.schema}")
        if found.without:
            click.echo(f"note: {found.without:,} rows have no vector; they become items when they get one")
        click.echo(f"next: samespace gallery plan {where} --model NEW --certificate FILE")


@click.command()
@gallery_argument
@quiet_option
@json_option
def sync(location: str, quiet: bool, json_to: str | None) -> None:
    """List what the application has added, changed or deleted in an adopted table, and what is to be embedded for it.

    Searches need it not: they compare with the table itself. A backfill does it at its start and while it runs.
    """
    from dataclasses import asdict

    from samespace.gallery import Gallery

    with Gallery.open(location) as gallery:
        location = gallery.location
        with shown_bar("listing rows", None, "rows", quiet=quiet, summary=False) as advance:
            found = gallery.sync(advance=advance)
    if write_result(asdict(found), json_to):
        click.echo(f"{location}: {found.added:,} rows added, {found.changed:,} changed, {found.gone:,} gone; listed")
