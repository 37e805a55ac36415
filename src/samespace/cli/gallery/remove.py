"""`samespace gallery remove`."""

from __future__ import annotations

from pathlib import Path

import click

from samespace.cli.gallery.options import gallery_argument
from samespace.cli.output import PATH, json_option, write_result
from samespace.errors import counted


@click.command()
@gallery_argument
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--ids", "listed", type=PATH, metavar="FILE", help="A text file, one id per line.")
@json_option
def remove(location: str, ids: tuple[str, ...], listed: Path | None, json_to: str | None) -> None:
    """Remove items by id: all of them, or none where one is unknown.

    A backfill that has one in hand cannot bring it back.
    """
    from samespace.gallery import Gallery
    from samespace.text import lines

    names = list(ids)
    if listed is not None:
        names += [line for _, line in lines(listed, "item ids, one per line")]
    if not names:
        raise click.UsageError("Name items to remove, or give --ids FILE.")
    with Gallery.open(location) as gallery:
        removed = gallery.remove(names)
        items = len(gallery)
    if write_result({"gallery": gallery.location, "removed": removed, "items": items}, json_to):
        click.echo(f"{gallery.location}: {removed:,} removed; {counted(items, 'item is', 'items are')} left")
