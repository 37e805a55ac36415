"""`samespace gallery plan`."""

from __future__ import annotations

from pathlib import Path

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
@click.option(
    "--order",
    type=click.Choice(ORDERS),
    help="Of the backfill.  [default: the best of the certificate's sweep]",
)
@click.option("--images", metavar="SOURCE", help="The items' images, to measure the rate.  [default: the remembered]")
@accept_option
@device_option
@json_option
def plan(
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
    read = load_certificates(certificates)
    with Gallery.open(location) as gallery:
        location = gallery.ledger.location  # without a password
        if pairs:
            register(gallery, given, read, accept_uncertified)
            calibrate_pairs(gallery, pairs)
        found = gallery.plan(
            given, read, order=order, images=images, accept_uncertified=accept_uncertified, device=device  # type: ignore[arg-type]
        )  # fmt: skip
    write_result(found.to_dict(), json_to)
    if json_to != "-":
        print_plan(found, console(), location)
    return 1 if found.missing else 0
