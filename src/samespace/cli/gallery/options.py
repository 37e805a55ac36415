"""Options that several gallery commands have, and what goes with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from samespace.cli.output import PATH, device_option, json_option
from samespace.errors import SamespaceError

if TYPE_CHECKING:
    from rich.console import Console

    from samespace.evaluate.certificate import Certificate
    from samespace.gallery import Gallery
    from samespace.progress import Bar
    from samespace.space import Space
    from samespace.vectors.declared import Declared

# as in gallery.backfill.order, which the command line need not load for its help
ORDERS = ("random", "centre", "distance", "traffic", "both")

NAMED = "samespace.gallery"
"""Where the context of a command keeps the gallery that it was given."""


def _named(ctx: click.Context, _: click.Parameter, location: str) -> str:
    ctx.meta[NAMED] = location
    return location


gallery_argument = click.argument("location", metavar="GALLERY", callback=_named)
calibrate_option = click.option(
    "--calibrate",
    "pairs",
    multiple=True,
    nargs=2,
    type=PATH,
    metavar="QUERIES ITEMS",
    help="Two labelled vector sets that no model was trained on, to learn what scores mean; only where the "
    "certificate holds no calibrations. Repeat for each pair of spaces.",
)

Pairs = Sequence[tuple[Path, Path]]
Command = Callable[..., Any]


def space_options(model_help: str) -> Callable[[Command], Command]:
    """The options --model and --space, which name a space by its model or by vectors."""
    model = click.option("--model", type=PATH, metavar="DIR", help=model_help)
    space = click.option(
        "--space",
        "space_of",
        type=PATH,
        metavar="VECTORS",
        help="Instead of a model: a vector set that declares the space.",
    )
    return lambda command: model(space(command))


def declared_options(command: Command) -> Command:
    """The options --space-name and --revision, which say what vectors are whose file declares no space."""
    name = click.option(
        "--space-name",
        metavar="NAME",
        help="Where the file of vectors declares no space, such as a bare .npz: the model that made them.",
    )
    revision = click.option("--revision", metavar="R", help="With --space-name: the revision of that model.")
    return name(revision(command))


def declared_by(
    vectors: Path | None, name: str | None, revision: str | None, dim: int | None = None
) -> Declared | None:
    """What --space-name and --revision say of the vectors."""
    from samespace.vectors.declared import Declared

    if name is None:
        if revision is not None or dim is not None:
            raise click.UsageError("--revision and --dim go with --space-name.")
        return None
    if not name:
        raise click.UsageError("--space-name is empty; name the model that made the vectors.")
    if vectors is None:
        raise click.UsageError("--space-name says which model made VECTORS: give these too.")
    return Declared(name, revision or "", dim)


expect_option = click.option(
    "--expect",
    type=click.IntRange(0),
    metavar="N",
    help="Refuse where another number of steps was taken: steps_taken of 'gallery status --json -'.",
)


def upgrade_options(*, order: str, images: str) -> Callable[[Command], Command]:
    """What `plan` and `upgrade` both take; `order` and `images` say what these two are for."""
    options = (
        space_options("Folder of the new model; it is remembered."),
        click.option(
            "--certificate",
            "certificates",
            multiple=True,
            type=PATH,
            metavar="FILE",
            help="certificate.json of 'samespace check'; one for each space that the gallery holds, repeat.",
        ),
        calibrate_option,
        click.option("--order", type=click.Choice(ORDERS), help=order),
        click.option("--images", metavar="SOURCE", help=images),
        click.option(
            "--accept-uncertified",
            is_flag=True,
            help="Go on although no certificate allows it; said aloud and recorded.",
        ),
        device_option,
        json_option,
    )
    return lambda command: reduce(lambda wrapped, option: option(wrapped), reversed(options), command)


def console() -> Console:
    """Standard output, as wide as the terminal, without colour in a pipe."""
    import sys

    from rich.console import Console

    return Console(file=sys.stdout, highlight=False)


@contextmanager
def shown_bar(
    title: str, total: int | None, unit: str = "images", *, quiet: bool = False, summary: bool = True
) -> Iterator[Bar]:
    """A progress bar, or nothing where the user wants quiet; `summary` as in `samespace.progress.bar`."""
    from samespace.progress import bar, silent

    if quiet:
        yield silent
        return
    with bar(title, total, unit, summary=summary) as advance:
        yield advance


def model_or_space(
    model: Path | None, space_of: Path | None, space_name: str | None = None, revision: str | None = None
) -> str | Space | None:
    """What --model and --space say, with --space-name where the vectors declare none: a folder, a space, or nothing."""
    from samespace.space import undeclared
    from samespace.vectors import VectorSet

    if model is not None and space_of is not None:
        raise click.UsageError("--model and --space exclude each other: the model has its space.")
    declared = declared_by(space_of, space_name, revision)
    if space_of is None:
        return None if model is None else str(model)
    vectors = VectorSet.load(space_of, declared)
    if vectors.space is None:
        raise undeclared(str(space_of))
    return vectors.space


def calibrate_pairs(gallery: Gallery, pairs: Pairs) -> None:
    """Learn what scores mean from each pair of vector sets."""
    from samespace.vectors import VectorSet

    for queries, items in pairs:
        try:
            gallery.calibrate(VectorSet.load(queries), VectorSet.load(items))
        except SamespaceError as error:
            raise type(error)(f"--calibrate {queries} {items}: {error}") from None


def prepare_upgrade(
    gallery: Gallery, given: str | Space | None, certificates: Sequence[Path], pairs: Pairs, accept: bool
) -> list[Certificate]:
    """The certificates from their files; and scores of the new space calibrated where the user gives pairs for it."""
    from samespace.evaluate.certificate import Certificate
    from samespace.gallery.ingest.images import load_embedder
    from samespace.space import Space

    read = [Certificate.load(path) for path in certificates]
    if given is not None and pairs:
        space = given if isinstance(given, Space) else load_embedder(given, "cpu").space
        if gallery.state.generation_of(space) is None:
            # it must be known before its scores can be calibrated
            gallery.plan(space, read, accept_uncertified=accept)
        calibrate_pairs(gallery, pairs)
    return read
