"""`samespace gallery calibrate`."""

from __future__ import annotations

from pathlib import Path

import click

from samespace.cli.gallery.options import gallery_argument
from samespace.cli.output import PATH, json_option, quiet_option, write_result


@click.command()
@gallery_argument
@click.argument("queries", type=PATH)
@click.argument("items", type=PATH)
@click.option(
    "--fuse",
    type=click.FloatRange(0, 1),
    metavar="ALPHA",
    help="Learn scores of normalised (1 - ALPHA) old + ALPHA new queries, for searches with the same ALPHA.",
)
@click.option("--old-queries", type=PATH, metavar="OLD_Q", help="For --fuse: QUERIES by the model of ITEMS.")
@quiet_option
@json_option
def calibrate(
    location: str,
    queries: Path,
    items: Path,
    fuse: float | None,
    old_queries: Path | None,
    quiet: bool,
    json_to: str | None,
) -> None:
    """Learn what scores of QUERIES on ITEMS mean, from pairs that no model was trained on.

    Both are labelled vector sets of spaces that the gallery knows; labels say what shows the same thing. Needed only
    for a pair of spaces whose certificate brought no calibration. A new one takes the place of the last: thresholds
    in use keep their meaning, but not their effect.
    """
    if (fuse is None) != (old_queries is None):
        raise click.UsageError("--fuse and --old-queries go together.")
    from samespace.gallery import Gallery
    from samespace.progress import working
    from samespace.vectors import VectorSet

    asked, stored = VectorSet.load(queries), VectorSet.load(items)
    before = None if old_queries is None else VectorSet.load(old_queries)
    with Gallery.open(location) as gallery, working("comparing queries and items", quiet=quiet):
        found = gallery.calibrate(asked, stored, fuse=fuse, old_queries=before)
    of = f"queries of {asked.space}" if fuse is None else f"queries fused with share {fuse:g} of {asked.space}"
    if write_result({"queries": str(queries), "items": str(items), "calibration": found.to_dict()}, json_to):
        click.echo(
            f"{of} on {stored.space}: learnt from {found.genuine:,} genuine and "
            f"{found.impostor:,} impostor pairs; good for false-match rates down to {found.band.rate:.1e}"
        )
