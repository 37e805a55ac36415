"""`samespace gallery pause`, `resume`, `rollback`: one row each."""

from __future__ import annotations

import click

from samespace.cli.gallery.options import console, expect_option, gallery_argument
from samespace.cli.gallery.wording import backfill_command, in_commands
from samespace.cli.output import json_option, write_result
from samespace.names import as_argument


@click.command()
@gallery_argument
@expect_option
@json_option
def pause(location: str, expect: int | None, json_to: str | None) -> None:
    """Let the workers of the backfill wait: what they have in hand is finished, nothing more is claimed."""
    from samespace.gallery import Gallery

    with Gallery.open(location) as gallery:
        found = gallery.pause(expect=expect)
    if write_result({"gallery": gallery.location, "upgrade": found.number, "paused": True}, json_to):
        where = gallery.location
        click.echo(f"{where}: workers wait; 'samespace gallery resume {as_argument(where)}' lets them go on")


@click.command()
@gallery_argument
@expect_option
@json_option
def resume(location: str, expect: int | None, json_to: str | None) -> None:
    """Let waiting workers go on; where none is running, start 'samespace gallery backfill'."""
    from samespace.gallery import Gallery

    with Gallery.open(location) as gallery:
        found = gallery.resume(expect=expect)
        workers = len(gallery.status().workers)
        start = backfill_command(gallery.state, gallery.location)
    where = gallery.location
    if write_result({"gallery": where, "upgrade": found.number, "paused": False, "workers": workers}, json_to):
        hint = f"{workers} at it" if workers else f"none is running, start '{start}'"
        click.echo(f"{where}: workers may go on; {hint}")


@click.command()
@gallery_argument
@expect_option
@json_option
def rollback(location: str, expect: int | None, json_to: str | None) -> None:
    """Let queries use the model from before the upgrade again. Nothing is lost: 'gallery upgrade' rolls forward.

    Possible at any moment before the seal, also after a complete backfill. Of an upgrade --behind it undoes the switch;
    before the switch it gives the upgrade up. A second one goes a step further back; a script that may run it twice
    says --expect.
    """
    from samespace.gallery import Gallery
    from samespace.report.gallery import print_switched

    with Gallery.open(location) as gallery:
        found = in_commands(gallery.rollback(expect=expect), gallery)
        state, status = gallery.state, gallery.status()
    left = state.generation_of(found.before)
    accepted = state.filling is None and any(
        link.query == left and link.certificate is None for link in state.links.values()
    )
    if write_result(found.to_dict(), json_to):
        given_up = found.query == found.before
        options = " --accept-uncertified" if accepted else " --behind" if given_up else ""
        again = f"forward again: samespace gallery upgrade {as_argument(gallery.location)}{options}"
        if state.filling is not None:
            share = int(10_000 * status.backfilled) / 10_000
            options = f" --share {share:g} --drop" if 0 < share < 1 else ""
            options += " --accept-worse" if status.quality is not None and status.quality.worse else ""
            again = f"forward again: samespace gallery switch {as_argument(gallery.location)}{options}"
        print_switched(found, console(), again)
