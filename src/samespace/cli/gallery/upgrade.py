"""`samespace gallery upgrade`."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Any

import click

from samespace.cli.gallery.options import (
    Pairs,
    console,
    gallery_argument,
    model_or_space,
    prepare_upgrade,
    upgrade_options,
)
from samespace.cli.output import write_result


@click.command()
@gallery_argument
@upgrade_options(
    order="Of the backfill to come.  [default: the plan's]",
    images="The items' images, for canaries.  [default: the remembered]",
)
def upgrade(
    location: str,
    model: Path | None,
    space_of: Path | None,
    certificates: tuple[Path, ...],
    pairs: Pairs,
    json_to: str | None,
    **options: Any,
) -> None:
    """Let queries use the new model from now on; nothing is re-embedded.

    Without --model the planned upgrade, or the one that was rolled back, is taken. Each pair of spaces needs a
    certificate that says yes. Where images are at hand, some are embedded to see that the model is what it claims.
    """
    from samespace.gallery import Gallery
    from samespace.report.gallery import print_switched

    given = model_or_space(model, space_of)
    if given is None and pairs:
        raise click.UsageError("--calibrate goes with --model or --space.")
    with Gallery.open(location) as gallery:
        read = prepare_upgrade(gallery, given, certificates, pairs, options["accept_uncertified"])
        found = gallery.upgrade(given, read, **options)
    if write_result(found.to_dict(), json_to):
        print_switched(found, console(), f"next: samespace gallery backfill {quote(gallery.location)}")
