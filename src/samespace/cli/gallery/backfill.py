"""`samespace gallery backfill`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from samespace.cli.gallery.options import ORDERS, console, declared_by, declared_options, gallery_argument, shown_bar
from samespace.cli.gallery.wording import in_commands
from samespace.cli.output import PATH, device_option, json_option, quiet_option, write_result

if TYPE_CHECKING:
    from samespace.gallery.backfill.order import Custom, Order
    from samespace.progress import Bar


@click.command()
@gallery_argument
@click.option(
    "--order",
    metavar="ORDER|FILE",
    help=f"{', '.join(ORDERS)}, or a file of ids and priorities (CSV or JSON).  [default: the upgrade's]",
)
@click.option("--vectors", type=PATH, metavar="VECTORS", help="Vectors made elsewhere, instead of the model.")
@declared_options
@click.option("--model", type=PATH, metavar="DIR", help="Its folder.  [default: the remembered]")
@click.option("--images", metavar="SOURCE", help="The items' images.  [default: the remembered]")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="How many work at the same time.")
@click.option(
    "--on",
    type=click.Choice(["processes", "ray"]),
    default="processes",
    show_default=True,
    help="What they are: processes of this machine, or actors of a Ray cluster.",
)
@click.option("--batch-size", type=click.IntRange(1), metavar="N",
              help="Items embedded at once.  [default: 256; 16 MiB of ready vectors]")  # fmt: skip
@click.option("--lease", type=float, default=300.0, show_default=True, metavar="SECONDS",
              help="After which other machines take over what a dead worker had claimed.")  # fmt: skip
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Embed N items, then end.")
@click.option("--seconds", type=float, metavar="S", help="End after so long.")
@click.option("--rate", type=float, metavar="N", help="At most N items per second.")
@click.option("--max-p95-ms", type=float, metavar="MS", help="Wait while the 95th percentile of searches takes longer.")
@click.option(
    "--until-gain",
    type=click.FloatRange(0),
    metavar="EPS",
    help="End when the gain that remains, by the certificate's check set, is below EPS, such as 0.002.",
)
@click.option("--retry", is_flag=True, help="Try again what could not be embedded before.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the random order.")
@device_option
@quiet_option
@json_option
def backfill(
    location: str,
    order: str | None,
    vectors: Path | None,
    space_name: str | None,
    revision: str | None,
    batch_size: int | None,
    lease: float,
    limit: int | None,
    seconds: float | None,
    rate: float | None,
    max_p95_ms: float | None,
    until_gain: float | None,
    quiet: bool,
    json_to: str | None,
    **options: Any,
) -> None:
    """Give items that lack a vector of the new model one.

    Can be interrupted or killed at any moment and called again, from as many processes and machines as wanted: the
    work list in the gallery is the checkpoint. Searches go on meanwhile.
    """
    from samespace.gallery import Gallery, Limits
    from samespace.report.gallery import print_backfilled
    from samespace.vectors import VectorSet

    limits = Limits(batch_size=batch_size, lease=lease, items=limit, seconds=seconds, rate=rate, p95=max_p95_ms)
    declared = declared_by(vectors, space_name, revision)
    given = None if vectors is None else VectorSet.load(vectors, declared, mapped=True)
    if given is not None and (options["model"] is not None or options["images"] is not None):
        raise click.UsageError("--vectors take the place of --model and --images.")
    with Gallery.open(location) as gallery:
        status = gallery.status()
        todo = round(status.items * (1 - status.backfilled))
        with shown_bar("backfill", min(todo, limit or todo), "items", quiet=quiet, summary=False) as advance:
            found = gallery.backfill(
                order=_order(order), vectors=given, limits=limits, epsilon=until_gain, advance=_with_notes(advance),
                **options,
            )  # fmt: skip
        found = in_commands(found, gallery)
    quality = {} if found.quality is None else {"quality": found.quality.to_dict()}
    if write_result({**asdict(found), "rate": found.rate, **quality}, json_to):
        print_backfilled(found, console(), gallery.location)


def _order(order: str | None) -> Order | Custom | None:
    from samespace.errors import InputError, suggest
    from samespace.gallery.backfill.order import read_order

    if order is None or order in ORDERS:
        return order  # type: ignore[return-value]
    if not Path(order).exists():
        raise InputError(f"there is no order and no file '{order}'; {suggest(order, ORDERS)}, or a file of priorities")
    return read_order(Path(order))


def _with_notes(advance: Bar) -> Bar:
    """A note stays on the bar until the worker goes on."""
    waiting = False

    def report(done: int, note: str = "") -> None:
        nonlocal waiting
        advance(done, note or ("embedding" if waiting and done else ""))
        waiting = bool(note) or (waiting and not done)

    return report
