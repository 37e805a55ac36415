"""`samespace gallery pause`, `resume`, `rollback`: one row each."""

from __future__ import annotations

from shlex import quote

import click

from samespace.cli.gallery.options import console, expect_option, gallery_argument
from samespace.cli.gallery.wording import in_commands
from samespace.cli.output import json_option, write_result


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
        click.echo(
            f"{gallery.location}: workers wait; 'samespace gallery resume {quote(gallery.location)}' lets them go on"
        )


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
    where = gallery.location
    if write_result({"gallery": where, "upgrade": found.number, "paused": False, "workers": workers}, json_to):
        hint = f"{workers} at it" if workers else f"none is running, start 'samespace gallery backfill {quote(where)}'"
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
        state = gallery.state
    left = state.generation_of(found.before)
    accepted = state.filling is None and any(
        link.query == left and link.certificate is None for link in state.links.values()
    )
    if write_result(found.to_dict(), json_to):
        given_up = found.query == found.before
        options = " --accept-uncertified" if accepted else " --behind" if given_up else ""
        again = f"forward again: samespace gallery upgrade {quote(gallery.location)}{options}"
        if state.filling is not None:
            again = f"forward again: samespace gallery switch {quote(gallery.location)}"
        print_switched(found, console(), again)
