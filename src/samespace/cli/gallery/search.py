"""`samespace gallery search`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from samespace.cli.gallery.options import console, gallery_argument, shown_bar
from samespace.cli.output import PATH, device_option, json_option, quiet_option, write_result


@click.command()
@gallery_argument
@click.argument("queries", type=click.Path(path_type=Path), required=False)
@click.option("--images", metavar="SOURCE", help="Instead of vectors: images, embedded by the remembered model.")
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
    help="raw sorts by cosine across spaces, for comparison only.",
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
    help="Search items of the older space with normalised (1 - ALPHA) old + ALPHA new queries.",
)
@click.option("--old-queries", type=PATH, metavar="OLD_Q", help="For --fuse: the same queries by the older model.")
@click.option("--no-count", is_flag=True, help="Do not count the hits as traffic.")
@device_option
@quiet_option
@json_option
def search(
    location: str,
    queries: Path | None,
    images: str | None,
    depth: int | None,
    old_queries: Path | None,
    no_count: bool,
    device: str,
    quiet: bool,
    json_to: str | None,
    **options: Any,
) -> None:
    """Find the items most similar to each query, over all spaces that serve.

    QUERIES is a vector set of the space that queries use now. The table shows the first few queries; --json has all.
    With --fuse and --images both remembered models embed the queries, for as long as older items are served.
    """
    from samespace.gallery import Gallery
    from samespace.gallery.search.queries import embed_queries, older_serving
    from samespace.report.gallery import answer_values, print_answer
    from samespace.vectors import VectorSet

    if (queries is None) == (images is None):
        raise click.UsageError("Give QUERIES, or --images SOURCE, and not both.")
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
    if old_queries is not None and options["fuse"] is None:
        raise click.UsageError("--old-queries is for --fuse.")
    with Gallery.open(location) as gallery:
        before = None if old_queries is None else VectorSet.load(old_queries)
        if queries is not None:
            asked = VectorSet.load(queries)
        else:
            with shown_bar("embedding queries", None, quiet=quiet) as advance:
                asked = embed_queries(gallery.state, str(images), device=device, advance=advance)
            older = None if options["fuse"] is None else older_serving(gallery.source)
            if older is not None and before is None:
                with shown_bar("embedding queries by the older model", None, quiet=quiet) as advance:
                    before = embed_queries(gallery.state, str(images), generation=older, device=device, advance=advance)
        if depth is not None:
            chosen = {name: options[name] for name in ("k", "where", "scale")}
            answer = gallery.rerank(asked, depth=depth, device=device, **chosen)
        else:
            answer = gallery.search(asked, count=not no_count, old_queries=before, **options)
    if write_result(answer_values(answer, asked.ids.tolist()), json_to):
        print_answer(answer, asked.ids.tolist(), console())
