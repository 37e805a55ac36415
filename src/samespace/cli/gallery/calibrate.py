"""`samespace gallery calibrate`."""

from __future__ import annotations

from pathlib import Path

import click

from samespace.cli.gallery.options import gallery_argument
from samespace.cli.output import PATH, json_option, write_result


@click.command()
@gallery_argument
@click.argument("queries", type=PATH)
@click.argument("items", type=PATH)
@json_option
def calibrate(location: str, queries: Path, items: Path, json_to: str | None) -> None:
    """Learn what scores of QUERIES on ITEMS mean, from pairs that no model was trained on.

    Both are labelled vector sets of spaces that the gallery knows; labels say what shows the same thing. Needed only
    for a pair of spaces whose certificate brought no calibration. A new one takes the place of the last: thresholds
    in use keep their meaning, but not their effect.
    """
    from samespace.gallery import Gallery
    from samespace.vectors import VectorSet

    asked, stored = VectorSet.load(queries), VectorSet.load(items)
    with Gallery.open(location) as gallery:
        found = gallery.calibrate(asked, stored)
    if write_result({"queries": str(queries), "items": str(items), "calibration": found.to_dict()}, json_to):
        click.echo(
            f"queries of {asked.space} on {stored.space}: learnt from {found.genuine:,} genuine and "
            f"{found.impostor:,} impostor pairs; good for false-match rates down to {found.band.rate:.1e}"
        )
