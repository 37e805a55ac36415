"""`samespace gallery switch`."""

from __future__ import annotations

from pathlib import Path

import click

from samespace.cli.gallery.options import console, expect_option, gallery_argument
from samespace.cli.gallery.wording import in_commands
from samespace.cli.output import NEW_FILE, PATH, json_option, write_result
from samespace.errors import InputError


@click.command()
@gallery_argument
@click.option(
    "--share",
    type=click.FloatRange(0, 1, min_open=True),
    metavar="S",
    help="Switch once this share of the items has a new vector, such as 0.98; with --drop.",
)
@click.option("--drop", is_flag=True, help="Leave the others out of searches, by name; the seal removes them.")
@click.option(
    "--dropped", "listing", type=NEW_FILE, metavar="FILE", help="Write the ids of those left out here, one a line."
)
@click.option(
    "--queries",
    nargs=2,
    type=PATH,
    metavar="OLD_Q NEW_Q",
    help="The same labelled queries by both models, to measure the quality with.  [default: the labelled items]",
)
@click.option("--accept-worse", is_flag=True, help="Switch although the new side is measurably worse; recorded.")
@click.option("--grace", is_flag=True, help="Answer queries of the old model, too, until the seal.")
@expect_option
@json_option
def switch(
    location: str,
    share: float | None,
    drop: bool,
    listing: Path | None,
    queries: tuple[Path, Path] | None,
    accept_worse: bool,
    grace: bool,
    expect: int | None,
    json_to: str | None,
) -> None:
    """Let queries use the model that 'gallery upgrade --behind' has filled the gallery for.

    Refused while items lack a new vector, and where the new side is measurably worse. Nothing is deleted: until the
    seal 'gallery rollback' brings everything back as it was.
    """
    from samespace.files import write_text
    from samespace.gallery import Gallery
    from samespace.report.gallery import print_behind_switch
    from samespace.vectors import VectorSet

    if (share is not None) != drop:
        raise click.UsageError(
            "--share and --drop go together: once S of the items have a new vector, drop the others."
        )
    if listing is not None and not listing.absolute().parent.is_dir():
        raise InputError(f"{listing} cannot be written: there is no folder {listing.parent}")
    given = None if queries is None else (VectorSet.load(queries[0]), VectorSet.load(queries[1]))
    with Gallery.open(location) as gallery:
        found = in_commands(
            gallery.switch(share=share, queries=given, accept_worse=accept_worse, grace=grace, expect=expect), gallery
        )
        place = gallery.location
    if listing is not None:
        write_text(listing, "".join(f"{name}\n" for name in found.dropped))
    if write_result(found.to_dict(), json_to):
        print_behind_switch(found, console(), place)
