"""`samespace gallery doctor`."""

from __future__ import annotations

import click

from samespace.cli.gallery.options import console, gallery_argument, shown_bar
from samespace.cli.gallery.wording import in_commands
from samespace.cli.output import device_option, json_option, quiet_option, write_result


@click.command()
@gallery_argument
@click.option("--models", is_flag=True, help="Embed the canary images again with the remembered models.")
@click.option("--repair", is_flag=True, help="Bring the indexes up to date; the database is never changed.")
@device_option
@quiet_option
@json_option
def doctor(location: str, models: bool, repair: bool, device: str, quiet: bool, json_to: str | None) -> int:
    """Look at everything, every stored vector included, and say what to do.

    Exit status: 0 nothing is wrong, 1 something is, 2 the gallery cannot be opened.
    """
    from samespace.gallery import Gallery
    from samespace.report.gallery import print_diagnosis

    with Gallery.open(location) as gallery:
        total = sum(one.vectors for one in gallery.status().spaces)
        with shown_bar("reading", total, "vectors", quiet=quiet) as advance:
            found = in_commands(gallery.doctor(models=models, repair=repair, device=device, advance=advance), gallery)
    if write_result(found.to_dict(), json_to):
        print_diagnosis(found, console())
    return 0 if found.healthy else 1
