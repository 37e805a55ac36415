"""`samespace bridge`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from samespace.cli.output import (
    ALREADY,
    NEW_FOLDER,
    PATH,
    device_option,
    force_option,
    json_option,
    quiet_option,
    require_new,
    write_result,
)
from samespace.errors import counted
from samespace.files import read_json
from samespace.names import as_argument

if TYPE_CHECKING:
    from samespace.bridge import Bridge, Direction, Method, Support


class _FitUnlessNamed(click.Group):
    """A group whose first subcommand need not be named: `bridge OLD NEW` is `bridge fit OLD NEW`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["fit", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_FitUnlessNamed)
def bridge() -> None:
    """Map old vectors to the new space, or new ones to the old, without images.

    \b
    Learn a map:      samespace bridge OLD_VECTORS NEW_VECTORS --out DIR
    Map a vector set: samespace bridge apply DIR VECTORS --out DIR
    """  # noqa: D301


@bridge.command()
@click.argument("old_vectors", type=PATH)
@click.argument("new_vectors", type=PATH)
@click.option("--out", required=True, type=NEW_FOLDER, help="Folder of the bridge to write.")
@click.option(
    "--direction",
    type=click.Choice(["gallery", "query"]),
    default="gallery",
    show_default=True,
    help="gallery maps old vectors to the new space, query new vectors to the old space.",
)
@click.option(
    "--method",
    type=click.Choice(["auto", "mean-shift", "procrustes", "affine", "residual"]),
    default="auto",
    show_default=True,
    help="auto takes the simplest that does as well as the best on held-out classes.",
)
@click.option("--held-out", type=float, default=0.2, show_default=True, help="Share of the classes that judge.")
@click.option(
    "--steps", type=click.IntRange(1), default=1050, show_default=True, help="Of the residual map's training."
)
@click.option("--replicates", type=click.IntRange(100), default=2000, show_default=True, help="Bootstrap resamples.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@force_option
@device_option
@quiet_option
@json_option
def fit(
    old_vectors: Path,
    new_vectors: Path,
    out: Path,
    direction: Direction,
    method: Method | Literal["auto"],
    held_out: float,
    steps: int,
    replicates: int,
    seed: int,
    force: bool,
    device: str,
    quiet: bool,
    json_to: str | None,
) -> None:
    """Learn a map between two spaces from the vectors of the same training items in both.

    Each item of NEW_VECTORS must be in OLD_VECTORS. Items that are checked later must not be among them. 'fit' may be
    left out.
    """
    from samespace.bridge import Bridge
    from samespace.bridge import fit as learn
    from samespace.bridge.bridge import read_config
    from samespace.models.extract import pick_device
    from samespace.vectors import VectorSet

    options: dict[str, Any] = {
        "direction": direction,
        "method": method,
        "held_out": held_out,
        "steps": steps,
        "replicates": replicates,
        "seed": seed,
    }
    made_from = _made_from({"old": old_vectors, "new": new_vectors}, options)
    found = read_config(out) if out.exists() else {}
    there = not force and made_from is not None and found.get("made_from") == made_from
    if there:
        made = Bridge.load(out)
    else:
        require_new(out, "a bridge", force=force)
        sets = VectorSet.load(old_vectors), VectorSet.load(new_vectors)
        made = learn(*sets, **options, device=pick_device(device), quiet=quiet)
        made.save(out, made_from=made_from)
    write_result(_to_dict(out, made), json_to)
    if json_to != "-":
        if made.support is not None:
            _print_support(made.support, made.method)
        into = ("old vectors", "the new space") if made.direction == "gallery" else ("new vectors", "the old space")
        click.echo(
            f"{out}: {made.method}, maps {into[0]} to {into[1]}; mapped vectors are of space {made.space}"
            f"{ALREADY if there else ''}"
        )
        if made.support is not None:
            click.echo(_advice(made.support, made.method, out))


@bridge.command()
@click.argument("bridge_folder", metavar="BRIDGE", type=PATH)
@click.argument("vectors", type=PATH)
@click.option("--out", required=True, type=NEW_FOLDER, help="Folder of the vector set to write.")
@force_option
@device_option
@quiet_option
@json_option
def apply(
    bridge_folder: Path, vectors: Path, out: Path, force: bool, device: str, quiet: bool, json_to: str | None
) -> None:
    """Map VECTORS with a BRIDGE; ids, labels and templates stay.

    The vectors are read and written in blocks. Keep the originals: a rollback needs them.
    """
    from samespace.bridge import Bridge
    from samespace.models.extract import pick_device
    from samespace.progress import bar, silent
    from samespace.vectors import VectorSet

    made = Bridge.load(bridge_folder)
    made_from = _made_from({"vectors": vectors}, {"bridge": made.space.id})
    found = read_json(about, "the space of a vector set") if (about := out / "space.json").is_file() else {}
    there = not force and made_from is not None and found.get("made_from") == made_from
    if not there and not (out.exists() and vectors.exists() and out.samefile(vectors)):
        require_new(out, "a vector set", sign="vectors.npy", force=force)
    given, place = VectorSet.load(vectors), pick_device(device)
    if there:
        mapped = VectorSet.load(out)
    elif quiet:
        mapped = made.apply_to(given, out, device=place, made_from=made_from, advance=silent)
    else:
        with bar(f"mapping {vectors}", len(given), "vectors") as advance:
            mapped = made.apply_to(given, out, device=place, made_from=made_from, advance=advance)
    write_result({"vectors": str(out), "count": len(mapped), "space": made.space.to_dict()}, json_to)
    if json_to != "-":
        click.echo(f"{out}: {counted(len(mapped), 'vector')} of space {made.space}{ALREADY if there else ''}")


def _made_from(sets: Mapping[str, Path], options: Mapping[str, Any]) -> dict[str, Any] | None:
    """What tells whether a command would do the same again; None where that cannot be known."""
    from samespace.vectors.arrays import stamp_of

    stamps = {name: stamp_of(place) for name, place in sets.items()}
    return None if None in stamps.values() else {**stamps, **options}


def _to_dict(out: Path, made: Bridge) -> dict[str, object]:
    return {
        "bridge": str(out),
        "method": made.method,
        "direction": made.direction,
        "space": made.space.to_dict(),
        "source": made.source.to_dict() if made.source else None,
        "target": made.target.to_dict() if made.target else None,
        "support": made.support.to_dict() if made.support else None,
    }


def _print_support(support: Support, taken: str) -> None:
    from rich.console import Console

    from samespace.report.tables import Column, print_table, say
    from samespace.report.terminal import plain

    out = Console(file=sys.stdout)
    counts = f"{support.classes} held-out classes, {support.queries:,} queries, {support.gallery:,} items"
    say(plain(f"{counts}; in %, gain over old"), out)
    columns = [Column("search"), *(Column(metric, "right") for metric in support.values["old"])]
    rows = []
    for name, values in support.values.items():
        cells = [f"{name} *" if name == taken else name]
        for metric, value in values.items():
            _, low, high = support.gains[name][metric]
            gain = "" if name == "old" else f" ({100 * low:+.1f} … {100 * high:+.1f})"
            cells.append(f"{100 * value:.1f}{gain}")
        rows.append([plain(cell) for cell in cells])
    print_table(columns, rows, out, gap=1)


def _advice(support: Support, taken: str, out: Path) -> str:
    lows = {metric: low for metric, (_, low, _) in support.gains[taken].items()}
    behind = ", ".join(metric for metric, low in lows.items() if low <= 0)
    if behind:
        return (
            f"no gain over searching with the old model is shown in {behind}; rather stay, or re-embed the gallery "
            "('samespace gallery upgrade GALLERY --behind --model NEW_MODEL')"
        )
    return (
        f"next: samespace bridge apply {as_argument(out)} VECTORS --out DIR, then samespace check on classes that "
        "neither model was trained on"
    )
