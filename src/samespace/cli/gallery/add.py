"""`samespace gallery add`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from samespace.cli.gallery.options import declared_by, declared_options, gallery_argument, shown_bar
from samespace.cli.output import PATH, device_option, json_option, quiet_option, say, write_result
from samespace.cli.sources import passed_over_lines, skipped_lines
from samespace.errors import GalleryError, counted

if TYPE_CHECKING:
    from samespace.data.sources.kinds import Kind
    from samespace.gallery import Added
    from samespace.gallery.metadata import MetadataFile


@click.command()
@gallery_argument
@click.argument("vectors", type=PATH, required=False)
@declared_options
@click.option(
    "--also",
    multiple=True,
    type=PATH,
    metavar="VECTORS",
    help="Vectors of the same items in another space: an earlier one, so that a rollback finds them, or the one that "
    "is filled behind; repeat.",
)
@click.option(
    "--images",
    metavar="SOURCE",
    help="Without VECTORS: images, embedded by the remembered models.  [default: the remembered images]",
)
@click.option(
    "--metadata",
    type=PATH,
    metavar="FILE",
    help="What searches may filter on: JSON lines or a CSV, with 'id' and columns.",
)
@click.option("--update", is_flag=True, help="Replace items that are there with another content.")
@click.option("--batch-size", type=click.IntRange(1), default=256, show_default=True, help="Images embedded at once.")
@device_option
@quiet_option
@json_option
def add(
    location: str,
    vectors: Path | None,
    space_name: str | None,
    revision: str | None,
    also: tuple[Path, ...],
    images: str | None,
    metadata: Path | None,
    update: bool,
    quiet: bool,
    json_to: str | None,
    **options: Any,
) -> None:
    """Add items by their vectors, or by their images.

    VECTORS is a folder made by 'samespace embed', or any form of vectors, of the space that queries use now; during an
    upgrade --behind of either space. Items are named by their ids; one that is there with the same content is passed
    over, so after a kill the same command carries on. During an upgrade images get a vector of the new model and one of
    the old.
    """
    from samespace.gallery import Gallery
    from samespace.gallery.metadata import read_metadata_file
    from samespace.gallery.models import NoModelError
    from samespace.vectors import VectorSet

    if vectors is not None and images is not None:
        raise click.UsageError("Give VECTORS or --images SOURCE, and not both.")
    if vectors is None and also:
        raise click.UsageError("--also goes with VECTORS; images get vectors of the earlier model by themselves.")
    declared = declared_by(vectors, space_name, revision)
    described = None if metadata is None else read_metadata_file(metadata)
    values = None if described is None else described.items
    with Gallery.open(location) as gallery:
        if vectors is not None:
            given, others = (
                VectorSet.load(vectors, declared, mapped=True),
                [VectorSet.load(path, mapped=True) for path in also],
            )
            with shown_bar(f"adding {given.name}", len(given), "items", quiet=quiet) as advance:
                found = gallery.add(given, also=others, metadata=values, update=update, advance=advance)
        else:
            with shown_bar("adding images", None, quiet=quiet) as advance:
                try:
                    found = gallery.add_images(images, metadata=values, update=update, advance=advance, **options)
                except NoModelError as error:
                    raise GalleryError(f"{error.lacking}: give VECTORS of that space") from None
        items = len(gallery)
    result = {"gallery": gallery.location, "items": items, **asdict(found)}
    result["passed_over"] = [asdict(kind) for kind in _passed_over(found)]
    if described is not None:
        result["metadata"] = dict(described.columns)
    if write_result(result, json_to):
        _show(gallery.location, found, items)
        if described is not None:
            _show_columns(described)


def _show(location: str, found: Added, items: int) -> None:
    say(
        f"{location}: {found.added:,} added, {found.updated:,} replaced, {found.present:,} there before; "
        f"{counted(items, 'item')} in all"
    )
    if found.filled:
        say(f"{found.filled:,} of those there before were given a vector of a space in which they had none")
    for space, count in found.listed.items():
        say(f"note: {count:,} of them have no vector of {space} yet; they are on the work list of 'gallery backfill'")
    if found.only_new:
        say(
            f"note: {found.only_new:,} of them have no vector of the earlier space; a rollback hides them until its "
            "model has embedded them"
        )
    for line in (*skipped_lines(tuple(found.skipped.items())), *passed_over_lines(_passed_over(found))):
        say(line)
    for note in found.notes:
        say(f"note: {note}")


def _passed_over(found: Added) -> tuple[Kind, ...]:
    if not found.passed_over:
        return ()
    from samespace.data.sources.kinds import counted

    return counted(found.passed_over)


def _show_columns(described: MetadataFile) -> None:
    """Say what each column was taken as."""
    kinds = ", ".join(f"{name} {kind}" for name, kind in described.columns.items())
    say(f"metadata of {counted(len(described.items), 'item')}: {kinds or 'no columns'}")
    for note in described.notes:
        say(f"note: {note}")
