"""`samespace gallery search`."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from samespace.cli.gallery.options import console, declared_by, declared_options, gallery_argument, shown_bar
from samespace.cli.output import PATH, device_option, json_option, quiet_option, write_result
from samespace.errors import InputError, counted

if TYPE_CHECKING:
    from samespace.gallery import Gallery
    from samespace.vectors import VectorSet
    from samespace.vectors.declared import Declared

_QUERIES_SHOWN, _IMAGES_SHOWN = 5, 20


@click.command()
@gallery_argument
@click.argument("queries", type=click.Path(path_type=Path), required=False)
@declared_options
@click.option(
    "--image",
    "files",
    multiple=True,
    metavar="FILE",
    help="Instead of vectors: an image file, file:// address, folder, or - for standard input; repeat for several.",
)
@click.option("--images", metavar="SOURCE", help="Instead of vectors: a source of images, as 'samespace embed' takes.")
@click.option(
    "--model", type=PATH, metavar="DIR", help="For images: the model of the queries.  [default: the remembered one]"
)
@click.option(
    "--old-model",
    type=PATH,
    metavar="DIR",
    help="For images that are fused: the model of the older items.  [default: the remembered one]",
)
@click.option("-k", type=click.IntRange(1), default=10, show_default=True, help="Items per query, at most.")
@click.option(
    "--where",
    multiple=True,
    metavar="CONDITION",
    help="On label and metadata: shop=berlin, year>=2020, colour=red|blue; repeat, all must hold.",
)
@click.option("--min-score", type=float, metavar="X", help="Least calibrated score.")
@click.option(
    "--max-fmr",
    type=float,
    metavar="F",
    help="Largest false-match rate, such as 1e-4; it means the same before, during and after an upgrade.",
)
@click.option("--scale", type=click.Choice(["logistic", "fmr"]), help="Unit of scores.  [default: the gallery's]")
@click.option(
    "--merge",
    type=click.Choice(["calibrated", "raw"]),
    default="calibrated",
    show_default=True,
    help="raw sorts by raw score across spaces, for comparison only.",
)
@click.option("--exact", is_flag=True, help="Look at every vector, also where there is an approximate index.")
@click.option(
    "--rerank",
    "depth",
    type=click.IntRange(1),
    metavar="DEPTH",
    help="Re-embed the images of the best DEPTH items with the model of the queries, store and re-rank them.",
)
@click.option(
    "--fuse",
    type=click.FloatRange(0, 1),
    metavar="ALPHA",
    help="Search items of the older space with normalised (1 - ALPHA) old + ALPHA new queries.  [default: as their "
    "certificate asks]",
)
@click.option("--old-queries", type=PATH, metavar="OLD_Q", help="To be fused: the same queries by the older model.")
@click.option("--no-count", is_flag=True, help="Do not count the hits as traffic.")
@device_option
@quiet_option
@json_option
def search(
    location: str,
    queries: Path | None,
    space_name: str | None,
    revision: str | None,
    files: tuple[str, ...],
    images: str | None,
    model: Path | None,
    old_model: Path | None,
    depth: int | None,
    old_queries: Path | None,
    no_count: bool,
    device: str,
    quiet: bool,
    json_to: str | None,
    **options: Any,
) -> None:
    """Find the items most similar to each query, over all spaces that serve.

    QUERIES is a vector set of the space that queries use now. Images are embedded by the model that the gallery
    remembers for that space. The table shows the first few queries, with --image the first 20; --json has all. With
    --fuse, or a certificate of fused queries, both remembered models embed the images, for as long as older items are
    served.
    """
    from samespace.gallery import Gallery
    from samespace.report.gallery import answer_values, print_answer

    _require_legal(queries, files, images, model, old_model, depth, no_count, options)
    declared = declared_by(queries, space_name, revision)
    with Gallery.open(location) as gallery:
        fuse = options["fuse"]
        asked = _asked(gallery, queries, declared, files, images, model, old_model, old_queries, fuse, device, quiet)
        names = asked.new.ids.tolist()
        if depth is not None:
            chosen: dict[str, Any] = {name: options[name] for name in ("k", "where", "scale")}
            answer = gallery.rerank(asked.new, depth=depth, old_queries=asked.old, device=device, **chosen)
        else:
            answer = gallery.search(asked.new, count=not no_count, old_queries=asked.old, **options)
    answer = replace(answer, notes=(*answer.notes, *asked.notes))
    if write_result(answer_values(answer, names), json_to):
        print_answer(answer, names, console(), shown=_IMAGES_SHOWN if files else _QUERIES_SHOWN)


@dataclass(frozen=True, eq=False)
class _Asked:
    """Queries of the space that the gallery is asked in, those of the older model where both are needed, and notes."""

    new: VectorSet
    old: VectorSet | None
    notes: tuple[str, ...] = ()


def _require_legal(
    queries: Path | None,
    files: tuple[str, ...],
    images: str | None,
    model: Path | None,
    old_model: Path | None,
    depth: int | None,
    no_count: bool,
    options: dict[str, Any],
) -> None:
    """Refuse options that do not go together."""
    if (queries is not None) + bool(files) + (images is not None) != 1:
        raise click.UsageError("Give QUERIES, or --image FILE, or --images SOURCE: one of the three.")
    named = "--model" if model is not None else "--old-model" if old_model is not None else None
    if named is not None and queries is not None:
        raise click.UsageError(f"{named} embeds images: it goes with --image or --images.")
    unused = [
        name
        for name, given in (
            ("--min-score", options["min_score"] is not None),
            ("--max-fmr", options["max_fmr"] is not None),
            ("--merge raw", options["merge"] == "raw"),
            ("--exact", options["exact"]),
            ("--fuse", options["fuse"] is not None),
            ("--no-count", no_count),
        )
        if given
    ]
    if depth is not None and unused:
        raise click.UsageError(f"{unused[0]} does not go with --rerank.")


def _asked(
    gallery: Gallery,
    queries: Path | None,
    declared: Declared | None,
    files: tuple[str, ...],
    images: str | None,
    model: Path | None,
    old_model: Path | None,
    old_queries: Path | None,
    fuse: float | None,
    device: str,
    quiet: bool,
) -> _Asked:
    """The queries: as given, or made of images."""
    from samespace.gallery.search.queries import embed_by_older, embed_queries, older_needed
    from samespace.vectors import VectorSet

    before = None if old_queries is None else VectorSet.load(old_queries)
    if queries is not None:
        return _Asked(VectorSet.load(queries, declared), before)
    picked = None
    if files:
        from samespace.data.sources.picked import pick

        picked = pick(files, sys.stdin.buffer.read)
    given = str(images) if picked is None else picked.listing
    with shown_bar("embedding queries", None, quiet=quiet) as advance:
        made = embed_queries(
            gallery.state, given, model=None if model is None else str(model), device=device, advance=advance
        )
    for name, reason in made.skipped:
        if picked is not None and name in picked.named:
            raise InputError(f"{'standard input' if name == '-' else name} cannot be read as an image: {reason}")
    older = None if before is not None else older_needed(gallery.source, gallery.state, made.space, fuse)
    if older is not None:
        by = None if old_model is None else str(old_model)
        with shown_bar("embedding queries by the older model", None, quiet=quiet) as advance:
            before = embed_by_older(gallery.state, given, older, model=by, device=device, advance=advance)
    return _Asked(made.vectors, before, (*(() if picked is None else picked.notes), *_left_out(made.skipped)))


def _left_out(skipped: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    if not skipped:
        return ()
    first = f"{skipped[0][0]}: {skipped[0][1]}"
    images = counted(len(skipped), "image cannot be read and was", "images cannot be read and were")
    return (f"{images} not searched, such as {first}",)
