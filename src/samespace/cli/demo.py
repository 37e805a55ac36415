"""`samespace demo`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from samespace.cli.output import NEW_FOLDER, json_option, write_result


@click.command()
@click.option(
    "--out", type=NEW_FOLDER, default=Path("samespace-demo"), show_default=True, help="Folder that receives everything."
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Of the characters, the allocation and the trainings.",
)
@click.option("--quiet", is_flag=True, help="Show no progress bars.")
@json_option
def demo(out: Path, seed: int, quiet: bool, json_to: str | None) -> None:
    """See the whole job on made-up data: minutes on two cores, no download.

    Trains an old model on 30 % of the characters, then two successors on all of them: one independent, one compatible.
    Checks both on held-out characters and writes a certificate and a report. Then upgrades a live gallery to the
    compatible one: switches queries, re-embeds in steps, rolls back half way, finishes.
    """
    from rich.console import Console

    from samespace.demo.run import DemoSettings, run_demo, summary
    from samespace.report import print_certificate, print_comparison

    to_stdout = json_to == "-"
    result = run_demo(
        out,
        DemoSettings(seed=seed),
        say=lambda line: click.echo(line, err=to_stdout),
        quiet=quiet,
    )
    values = {name: certificate.to_dict() for name, certificate in result.certificates.items()}
    write_result({**values, "gallery": result.upgrade.to_dict()}, json_to)
    if to_stdout:
        return
    console = Console(file=sys.stdout)
    print_comparison(result.certificates, console)
    print_certificate(list(result.certificates.values())[-1], console)
    click.echo(summary(result))
