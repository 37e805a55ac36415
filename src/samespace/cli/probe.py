"""`samespace probe`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from samespace.cli.output import PATH, json_option, quiet_option, write_result

if TYPE_CHECKING:
    from rich.console import Console

    from samespace.evaluate.probe import Advice, Gain, Measure, Probe, Strength


@click.command()
@click.argument("old_vectors", type=PATH)
@click.option("--new", type=PATH, metavar="NEW_VECTORS", help="The same items by a new model.")
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME",
    help="Beside rank@1: rank@K, mAP, MAP@R, R-precision, TAR@FAR=1e-4, TPIR@FPIR=1e-2, TPIR-merged@FPIR=1e-2; "
    "repeat for several.",
)
@click.option("--held-out", type=float, default=0.5, show_default=True, help="Share of the classes to search for.")
@click.option("--confidence", type=float, default=0.95, show_default=True, help="Of every interval.")
@click.option("--replicates", type=click.IntRange(100), default=2000, show_default=True, help="Bootstrap resamples.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the split and the resamples.")
@quiet_option
@json_option
def probe(
    old_vectors: Path,
    new: Path | None,
    metrics: tuple[str, ...],
    held_out: float,
    confidence: float,
    replicates: int,
    seed: int,
    quiet: bool,
    json_to: str | None,
) -> None:
    """Say how strong the old model is and which way of upgrading fits.

    OLD_VECTORS are labelled, best of classes that no model was trained on. With NEW_VECTORS of the same items, by a new
    model trained without regard to the old one, the lead of re-embedding is measured too.
    """
    from samespace.evaluate import probe as run_probe
    from samespace.progress import working
    from samespace.vectors import VectorSet

    with working("probing", quiet=quiet):
        found = run_probe(
            VectorSet.load(old_vectors),
            None if new is None else VectorSet.load(new),
            metrics=list(metrics) or None,
            held_out=held_out,
            confidence=confidence,
            replicates=replicates,
            seed=seed,
        )
    if write_result(found.to_dict(), json_to):
        _print(found)


def _print(found: Probe) -> None:
    from rich.console import Console

    from samespace.report.tables import say
    from samespace.report.terminal import plain

    out = Console(file=sys.stdout)
    data = found.data
    say(
        plain(
            f"{data.items:,} items of {data.classes:,} classes, {data.fewest} to {data.most} each (median "
            f"{data.median:g}); held out: {data.held_out:,} classes, {data.unmated:,} of them without a mate, "
            f"{data.queries:,} queries, {data.gallery:,} gallery items"
        ),
        out,
    )
    out.print()
    _print_table(found, out)
    for name, one in (("old", found.old), ("new", found.new)):
        if one is not None:
            say(plain(f"{name} scores, {_scores(one)}"), out)
    _print_near_copies(found, out)
    for place, advice in enumerate(found.ways, 1):
        out.print()
        for line in _advice(place, advice):
            say(plain(line), out)
        out.print(plain(f"   next: {advice.command}"), soft_wrap=True)
    if found.notes:
        out.print()
    for note in found.notes:
        say(plain(f"note: {note}"), out)


def _scores(one: Strength) -> str:
    genuine, impostor = (f"{part.mean:.3f} ({part.std:.3f})" for part in (one.genuine, one.impostor))
    share = f"{100 * one.near_duplicates:.1f} % of queries"
    return f"mean (standard deviation): genuine {genuine}, impostor {impostor}; near duplicates: {share}"


def _print_table(found: Probe, out: Console) -> None:
    from samespace.report.tables import Column, print_table
    from samespace.report.terminal import plain

    rows: dict[str, dict[str, Measure]] = {"old": found.old.metrics}
    if found.new is not None and found.lead is not None:
        rows |= {"new": found.new.metrics, "new - old": found.lead}
    if found.mapped is not None:
        rows["rotated - old"] = found.mapped
    level = f"{100 * found.confidence:g} % interval"
    columns = (Column("in %"), Column(""), Column("value", "right"), Column(level, "right"))
    cells = []
    for metric in found.old.metrics:
        for name, measures in rows.items():
            one, sign = measures[metric], "+" if " - " in name else ""
            value, low, high = (f"{100 * part:{sign}.1f}" for part in (one.value, *one.interval))
            row = (metric if name == "old" else "", name, value, f"{low} … {high}")
            cells.append([plain(cell) for cell in row])
    print_table(columns, cells, out)


def _print_near_copies(found: Probe, out: Console) -> None:
    from samespace.report.tables import Column, print_table, say
    from samespace.report.terminal import plain

    witness = "old" if found.new is None else "new"
    whole, *without = found.near_copies
    if not any(one.share for one in without):
        say(plain(f"near copies: no query has a mate at a cosine of {without[-1].cosine} by the {witness} model"), out)
        return
    measured = [(metric, model) for metric in whole.values["old"] for model in whole.values]
    columns = [Column("without mates at"), Column("queries with one", "right")]
    columns += [Column(f"{metric} {model}", "right") for metric, model in measured]
    cells = []
    for one in found.near_copies:
        first = ["(all mates)", ""] if one.cosine is None else [f"{one.cosine:g}", f"{100 * one.share:.1f}"]
        values = [f"{100 * one.values[model][metric]:.1f}" if one.values else "–" for metric, model in measured]
        cells.append([plain(cell) for cell in (*first, *values)])
    out.print()
    say(
        plain(f"near copies, mates at a cosine or nearer by the {witness} model; in %, of queries with a mate left"),
        out,
    )
    print_table(columns, cells, out)


def _advice(place: int, advice: Advice) -> list[str]:
    method = f", method {advice.method}" if advice.method else ""
    return [
        f"{place}. {advice.way}{method}: {advice.reason}",
        *(f"   expect {_gain(gain)}" for gain in advice.gains),
    ]


def _gain(gain: Gain) -> str:
    metrics = ", ".join(f"{name} {100 * low:+.1f} … {100 * high:+.1f}" for name, (low, high) in gain.metrics.items())
    return f"{metrics} ({gain.basis}{f'; {gain.source}' if gain.source else ''})"
