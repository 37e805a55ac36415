"""`samespace gallery adopt`, `sync`: the vectors that an application has in its own table or collection."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from samespace.cli.gallery.options import gallery_argument, shown_bar
from samespace.cli.output import json_option, quiet_option, write_result
from samespace.errors import counted
from samespace.names import as_argument

if TYPE_CHECKING:
    from samespace.gallery.adoption.adopted import Adopted


@click.command()
@click.argument("address", metavar="ADDRESS")
@click.argument("table", metavar="TABLE|COLLECTION")
@click.option("--id", "id_column", metavar="COLUMN|KEY", help="The column of ids, or the key of the payload; unique.")
@click.option("--vector", metavar="COLUMN|NAME", help="The column of vectors, vector or halfvec, or their name.")
@click.option("--label", metavar="COLUMN|KEY", help="The column of classes.")
@click.option("--metadata", multiple=True, metavar="COLUMN|KEY,...", help="Columns that searches may filter on.")
@click.option("--ledger", metavar="FOLDER", help="Of a collection: where the ledger goes; the gallery from then on.")
@click.option("--space-name", metavar="NAME", help="Declare which model made the vectors.")
@click.option("--revision", default="", metavar="R", help="With --space-name: the revision of that model.")
@click.option("--model", metavar="ENCODER", help="Instead: the model itself; it is remembered.")
@click.option("--images", metavar="SOURCE", help="The items' images, remembered for backfills.")
@click.option(
    "--score",
    type=click.Choice(["cosine", "ip", "l2"]),
    help="What searches go by.  [default: what the index sorts by]",
)
@quiet_option
@json_option
def adopt(
    address: str,
    table: str,
    id_column: str | None,
    vector: str | None,
    label: str | None,
    metadata: tuple[str, ...],
    ledger: str | None,
    space_name: str | None,
    revision: str,
    model: str | None,
    images: str | None,
    score: Any,
    quiet: bool,
    json_to: str | None,
) -> None:
    """Make a gallery of the vectors in an application's TABLE or COLLECTION, where they are; none is copied.

    Nothing is written to it before 'seal', and the application goes on as before: searches see at once what it adds,
    changes and deletes.

    In PostgreSQL ADDRESS is postgresql://USER@HOST/DATABASE of the table, and of the gallery from then on; the ledger
    lies beside the table in a schema of its own, 'samespace' or ?schema=NAME. Needed are --id, --vector, SELECT on the
    table and CREATE on the database.

    In Qdrant ADDRESS is http(s)://HOST:6333, its key in QDRANT_API_KEY, or qdrant:FOLDER of its client; the ledger goes
    to --ledger FOLDER. Without --id items go by the points' own ids; --vector is needed where a point has several.
    """
    if (space_name is None) == (model is None):
        raise click.UsageError("Say which model made the vectors: --space-name NAME, perhaps --revision R, or --model.")
    if model is not None and revision:
        raise click.UsageError("--revision goes with --space-name.")
    names = tuple(name.strip() for part in metadata for name in part.split(",") if name.strip())
    qdrant = address.startswith(("http://", "https://", "qdrant:"))
    if qdrant and ledger is None:
        raise click.UsageError("--ledger FOLDER says where the ledger of a collection goes.")
    if not qdrant and (id_column is None or vector is None):
        raise click.UsageError("Name the columns of a table: --id COLUMN --vector COLUMN.")
    if not qdrant and ledger is not None:
        raise click.UsageError("--ledger is for collections of Qdrant; that of a table lies beside it, ?schema=NAME.")
    rows = "points" if qdrant else "rows"
    space = None if space_name is None else (space_name, revision)
    given: dict[str, Any] = {"space": space, "model": model, "images": images, "score": score}
    with shown_bar(f"listing {rows}", None, rows, quiet=quiet, summary=False) as advance:
        if qdrant:
            from samespace.gallery.adoption.collection import Keys, adopt_collection

            keys = Keys(vector, id_column, label, names)
            found = adopt_collection(address, table, str(ledger), keys, **given, advance=advance)
        else:
            from samespace.gallery.adoption.adopt import adopt_table
            from samespace.gallery.adoption.inspect import Columns

            columns = Columns(str(id_column), str(vector), label, names)
            found = adopt_table(address, table, columns, **given, advance=advance)
    _print(found, rows, address if qdrant else None, json_to)


def _print(found: Adopted, rows: str, server: str | None, json_to: str | None) -> None:
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
        where = as_argument(found.location)
        click.echo(f"{found.location}: {found.items:,} {rows} of {found.table} are items now, no vector was copied")
        click.echo(f"space: {found.space}, {'unit length' if found.space.normalized else 'of any length'}")
        walked = "look at every row: the table has no index that they could walk"
        click.echo(f"searches {walked if found.index is None else f'walk its own index, {found.index}'}")
        click.echo(f"the ledger takes {found.bytes / 2**20:.1f} MiB in {found.ledger}")
        if found.without:
            click.echo(f"note: {found.without:,} {rows} have no vector; they become items when they get one")
        if server is not None:
            click.echo(f"later commands connect only where you name it: export SAMESPACE_INDEX={quote(server)}")
        click.echo(f"next: samespace gallery plan {where} --model NEW --certificate FILE")


@click.command()
@gallery_argument
@quiet_option
@json_option
def sync(location: str, quiet: bool, json_to: str | None) -> None:
    """List what the application has added, changed or deleted where it was adopted, and what is to be embedded for it.

    Searches need it not: they compare with what is there itself. A backfill does it at its start and while it runs.
    """
    from dataclasses import asdict

    from samespace.gallery import Gallery

    with Gallery.open(location) as gallery:
        location = gallery.location
        with shown_bar("listing rows", None, "rows", quiet=quiet, summary=False) as advance:
            found = gallery.sync(advance=advance)
    if write_result(asdict(found), json_to):
        click.echo(
            f"{location}: {counted(found.added, 'row')} added, {found.changed:,} changed, {found.gone:,} gone; listed"
        )
