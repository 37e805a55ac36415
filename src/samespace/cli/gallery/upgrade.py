"""`samespace gallery upgrade`."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

import click

from samespace.cli.gallery.options import (
    ORDERS,
    accept_option,
    calibrate_option,
    calibrate_pairs,
    certificates_option,
    console,
    device_option,
    gallery_argument,
    load_certificates,
    model_option,
    model_or_space,
    register,
    space_option,
)
from samespace.cli.output import json_option, write_result


@click.command()
@gallery_argument
@model_option
@space_option
@certificates_option
@calibrate_option
@click.option("--order", type=click.Choice(ORDERS), help="Of the backfill to come.  [default: the plan's]")
@click.option("--images", metavar="SOURCE", help="The items' images, for canaries.  [default: the remembered]")
@accept_option
@device_option
@json_option
def upgrade(
    location: str,
    model: Path | None,
    space_of: Path | None,
    certificates: tuple[Path, ...],
    pairs: tuple[tuple[Path, Path], ...],
    order: str | None,
    images: str | None,
    accept_uncertified: bool,
    device: str,
    json_to: str | None,
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
    read = load_certificates(certificates)
    with Gallery.open(location) as gallery:
        location = gallery.ledger.location  # without a password
        if given is not None and pairs:
            register(gallery, given, read, accept_uncertified)
            calibrate_pairs(gallery, pairs)
        found = gallery.upgrade(
            given, read, order=order, images=images, accept_uncertified=accept_uncertified, device=device  # type: ignore[arg-type]
        )  # fmt: skip
    write_result(found.to_dict(), json_to)
    if json_to != "-":
        print_switched(found, console(), f"next: samespace gallery backfill {quote(location)}")
