"""`samespace gallery create`."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

import click

from samespace.cli.gallery.options import (
    calibrate_option,
    calibrate_pairs,
    gallery_argument,
    model_or_space,
    space_options,
)
from samespace.cli.output import json_option, write_result
from samespace.errors import SamespaceError


@click.command()
@gallery_argument
@space_options("Folder of the model in use; it is remembered.")
@click.option("--images", metavar="SOURCE", help="The items' images, remembered for adding and backfilling.")
@click.option(
    "--scale",
    type=click.Choice(["logistic", "fmr"]),
    default="logistic",
    show_default=True,
    help="Unit of scores: log-odds of a match, or -log10 of the false-match rate.",
)
@calibrate_option
@json_option
def create(
    location: str,
    model: Path | None,
    space_of: Path | None,
    images: str | None,
    scale: str,
    pairs: tuple[tuple[Path, Path], ...],
    json_to: str | None,
) -> None:
    """Make an empty gallery for the vectors of one model.

    GALLERY is a folder that is new or empty, or postgresql://…?schema=NAME.
    """
    from samespace.gallery import Gallery
    from samespace.space import Space

    given = model_or_space(model, space_of)
    if given is None:
        raise click.UsageError("Name the model with --model, or vectors that declare their space with --space.")
    made = Gallery.create(
        location,
        given if isinstance(given, Space) else None,
        model=None if isinstance(given, Space) else given,
        images=images,
        scale=scale,  # type: ignore[arg-type]
    )
    with made as gallery:
        location = gallery.location
        try:
            calibrate_pairs(gallery, pairs)
        except SamespaceError as error:
            raise type(error)(
                f"{error}; the gallery itself is made, carry on with "
                f"'samespace gallery calibrate {quote(location)} QUERIES ITEMS'"
            ) from None
        space = gallery.space
    if write_result({"gallery": location, "space": space.to_dict(), "scale": scale}, json_to):
        click.echo(f"{location}: an empty gallery for vectors of space {space}")
