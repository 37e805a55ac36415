"""`samespace gallery plan`."""

from __future__ import annotations

from pathlib import Path
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
from samespace.cli.gallery.wording import in_commands
from samespace.cli.output import write_result


@click.command()
@gallery_argument
@click.option(
    "--behind", is_flag=True, help="To a model that need not be compatible, see 'gallery upgrade': what it would take."
)
@upgrade_options(
    order="Of the backfill.  [default: the best of the certificate's sweep]",
    images="The items' images, to measure the rate.  [default: the remembered]",
)
def plan(
    location: str,
    model: Path | None,
    space_of: Path | None,
    certificates: tuple[Path, ...],
    pairs: Pairs,
    json_to: str | None,
    **options: Any,
) -> int:
    """Say what an upgrade would take and bring, and write it down; nothing changes for searches.

    Images, time (measured on a sample where model and images are at hand), bytes, the expected quality over the
    backfill from the certificate's check set, what allows each pair of spaces, and what is missing.

    Exit status: 0 the upgrade can begin, 1 something is missing, 2 wrong use or bad input.
    """
    from samespace.gallery import Gallery
    from samespace.report.gallery import print_plan

    given = model_or_space(model, space_of)
    if given is None:
        raise click.UsageError("Name the new model with --model, or its vectors with --space.")
    with Gallery.open(location) as gallery:
        read = prepare_upgrade(gallery, given, certificates, pairs, options["accept_uncertified"])
        found = in_commands(gallery.plan(given, read, **options), gallery)
    if write_result(found.to_dict(), json_to):
        print_plan(found, console(), gallery.location, accept=options["accept_uncertified"])
    return 1 if found.missing else 0
