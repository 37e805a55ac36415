"""`samespace gallery create`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click

from samespace.cli.gallery.options import (
    calibrate_option,
    calibrate_pairs,
    declared_by,
    declared_options,
    gallery_argument,
    model_or_space,
    shown_bar,
    space_options,
)
from samespace.cli.output import PATH, json_option, quiet_option, say, write_result
from samespace.errors import InputError, SamespaceError, SpaceError, counted
from samespace.names import as_argument

if TYPE_CHECKING:
    from samespace.space import Score, Space
    from samespace.vectors import VectorSet


@click.command()
@gallery_argument
@click.argument("vectors", type=PATH, required=False)
@space_options("Folder of the model in use; it is remembered.")
@declared_options
@click.option("--dim", type=click.IntRange(1), metavar="D", help="With --space-name: the dimensions of its vectors.")
@click.option("--images", metavar="SOURCE", help="The items' images, remembered for adding and backfilling.")
@click.option(
    "--scale",
    type=click.Choice(["logistic", "fmr"]),
    default="logistic",
    show_default=True,
    help="Unit of scores: log-odds of a match, or -log10 of the false-match rate.",
)
@click.option(
    "--score",
    type=click.Choice(["cosine", "ip", "l2"]),
    default="cosine",
    show_default=True,
    help="What searches go by: cosine, inner product or L2 distance, the latter two of vectors as they are given.",
)
@click.option(
    "--index",
    metavar="URL",
    help="A Qdrant server for the search index; its API key is taken from QDRANT_API_KEY, and stored nowhere.",
)
@calibrate_option
@quiet_option
@json_option
def create(
    location: str,
    vectors: Path | None,
    model: Path | None,
    space_of: Path | None,
    space_name: str | None,
    revision: str | None,
    dim: int | None,
    images: str | None,
    scale: str,
    score: Score,
    index: str | None,
    pairs: tuple[tuple[Path, Path], ...],
    quiet: bool,
    json_to: str | None,
) -> None:
    """Make a gallery for the vectors of one model: empty, or of the items of VECTORS.

    GALLERY is a folder that is new or empty, or postgresql://…?schema=NAME. VECTORS is a folder made by 'samespace
    embed', or any form of vectors; one that declares no space, such as a bare .npz, goes with --space-name.
    """
    from samespace.gallery import Gallery
    from samespace.scoring.score import SCORE_NAMES
    from samespace.space import Space
    from samespace.vectors import VectorSet

    given = model_or_space(model, space_of)
    declared = declared_by(vectors, space_name, revision, dim)
    items = None if vectors is None else VectorSet.load(vectors, declared, mapped=True)
    if items is not None:
        _require_fit(items, given)
    elif given is None:
        raise click.UsageError(
            "Name the model with --model, or vectors that declare their space with --space; or give VECTORS, where "
            "need be with --space-name."
        )
    made = Gallery.create(
        location,
        given if isinstance(given, Space) else None if items is None else items.space,
        model=given if isinstance(given, str) else None,
        images=images,
        scale=scale,  # type: ignore[arg-type]
        score=score,
        index=index,
    )
    if index is not None:
        say(f"every later command needs SAMESPACE_INDEX={quote(index)} in its environment")
    with made as gallery:
        location = gallery.location
        if items is not None:
            with _carry_on(f"samespace gallery add {as_argument(location)} VECTORS"):  # noqa: SIM117
                with shown_bar(f"adding {items.name}", len(items), "items", quiet=quiet) as advance:
                    gallery.add(items, advance=advance)
        with _carry_on(f"samespace gallery calibrate {as_argument(location)} QUERIES ITEMS"):
            calibrate_pairs(gallery, pairs)
        about = {"gallery": location, "space": gallery.space.to_dict(), "scale": scale, "score": score}
        what = f"a gallery of {counted(len(items), 'item')} with" if items else "an empty gallery for"
        what = f"{what} vectors of space {gallery.space}" + (
            f", searched by {SCORE_NAMES[score]}" if score != "cosine" else ""
        )
    if write_result(about if items is None else {**about, "items": len(items)}, json_to):
        click.echo(f"{location}: {what}")


def _require_fit(items: VectorSet, given: str | Space | None) -> None:
    """Refuse what a gallery of the given space would refuse once it is made."""
    from samespace.space import Space, undeclared

    if items.space is None:
        raise undeclared(items.name)
    if isinstance(given, Space) and items.space != given:
        raise SpaceError(f"{items.name} is of space {items.space}, not of {given}")
    if not items.has_ids:
        raise InputError(f"{items.name} has no ids; items of a gallery need names: add 'ids' to the file")


@contextmanager
def _carry_on(command: str) -> Iterator[None]:
    """Say in an error that the gallery is there, and how to go on."""
    try:
        yield
    except SamespaceError as error:
        raise type(error)(f"{error}; the gallery itself is made, carry on with '{command}'") from None
