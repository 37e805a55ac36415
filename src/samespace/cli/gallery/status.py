"""`samespace gallery status`."""

from __future__ import annotations

import time

import click

from samespace.cli.gallery.options import console, gallery_argument
from samespace.cli.gallery.wording import in_commands
from samespace.cli.output import json_option, reader_left, write_result


@click.command()
@gallery_argument
@click.option(
    "--watch", type=click.FloatRange(min=0.1), metavar="SECONDS", help="Show it again and again, until Ctrl-C."
)
@json_option
def status(location: str, watch: float | None, json_to: str | None) -> None:
    """Spaces, items, the upgrade, the backfill with rate and time left, its workers, and what was done last."""
    from samespace.gallery import Gallery
    from samespace.report.gallery import print_status

    if watch is not None and json_to is not None:
        raise click.UsageError("--watch does not go with --json.")
    with Gallery.open(location) as gallery:
        found = in_commands(gallery.status(), gallery)
        if not write_result(found.to_dict(), json_to):
            return
        print_status(found, console())
        while watch is not None and not reader_left():
            time.sleep(watch)
            click.echo()
            print_status(in_commands(gallery.status(), gallery), console())
