"""`samespace build`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from samespace.cli.output import PATH, json_option, quiet_option, say, write_result
from samespace.errors import escaped
from samespace.names import as_argument

if TYPE_CHECKING:
    from samespace.project.build import Built
    from samespace.project.plan import Plan


@click.command()
@click.argument("project", type=PATH)
@click.option("--dry-run", is_flag=True, help="Print the stages, their cost and the commands they stand for.")
@click.option("--methods", metavar="A,B", help="Train by each, and certify the one that is best on validation classes.")
@click.option("--anyway", is_flag=True, help="Go on where the paragon is not ahead of the old model.")
@quiet_option
@json_option
def build(project: Path, dry_run: bool, methods: str | None, anyway: bool, quiet: bool, json_to: str | None) -> int:
    """Make what PROJECT (a file of 'samespace start') says: models, vectors, certificate, report.

    Killed at any moment, the same command carries on. A project file that was changed makes anew what the change
    affects. Exit status: 0 the certificate says yes, 1 it says no or the paragon is not ahead of the old model.
    """
    from dataclasses import replace

    from samespace.project.build import build as run_build
    from samespace.project.build import overview, write_inputs
    from samespace.project.make import stages_of
    from samespace.project.plan import make_plan
    from samespace.project.settings import folder_of, load_project

    read = load_project(project)
    if methods is not None:
        read = replace(read, methods=tuple(name.strip() for name in methods.split(",") if name.strip()))
    plan = make_plan(read, folder_of(read, project), quiet=quiet)
    pace = plan.pace(plan.place.out / "pace.json")
    coming = overview(plan, stages_of(plan, pace), pace)
    to_stdout = json_to == "-"
    if not to_stdout:
        show_cost(coming)
    if dry_run:
        write_inputs(plan)
        if write_result(coming, json_to):
            _show_commands(coming)
        return 0
    built = run_build(plan, pace, anyway=anyway, say=lambda line: click.echo(escaped(line), err=to_stdout))
    certificate = None if built.certificate is None else built.certificate.to_dict()
    result = {**coming, "done": built.done, "model": str(built.model), "certificate": certificate}
    outlook = None if built.outlook is None else {"ahead": built.outlook.ahead, "text": built.outlook.sentence}
    if write_result({**result, "outlook": outlook, "report": str(built.report)}, json_to):
        _show(built, plan, project)
    return 0 if built.compatible else 1


def show_cost(coming: dict[str, Any]) -> None:
    """The stages of a build with their time, and its notes."""
    from samespace.progress import clock

    to_do = [stage for stage in coming["stages"] if not stage["there"]]
    for note in coming["notes"]:
        say(f"note: {note}")
    if not to_do:
        say(f"{coming['out']}: everything is there, nothing to do")
        return
    longest = ", ".join(f"{stage['name']} {clock(stage['seconds'])}" for stage in to_do if stage["seconds"] >= 1)
    say(
        f"cost: about {clock(coming['seconds'])} on this machine ({longest or 'seconds'}), "
        f"{coming['bytes'] / 2**20:,.0f} MB in {coming['out']}"
    )


def _show_commands(coming: dict[str, Any]) -> None:
    for number, stage in enumerate(coming["stages"], start=1):
        there = ", there already" if stage["there"] else ""
        say(f"[{number}/{len(coming['stages'])}] {stage['what']}{there}")
        for command in stage["commands"]:
            say(f"  {command}")
    say("split and recipes are written, so that these commands work as they stand")


def _show(built: Built, plan: Plan, project: Path) -> None:
    import sys

    from rich.console import Console

    from samespace.report import print_certificate

    if built.outlook is not None and not built.outlook.ahead:
        say(_not_ahead(built, plan, project))
    if built.certificate is None:
        return
    print_certificate(built.certificate, Console(file=sys.stdout))
    say(f"model:  {built.model}")
    say(f"report: {built.report}")
    if built.compatible:
        say(f"next: samespace gallery upgrade live --from {as_argument(project)}")


def _not_ahead(built: Built, plan: Plan, project: Path) -> str:
    assert built.outlook is not None
    stopped = built.certificate is None
    begun = "Stopped: the" if stopped else "The"
    end = f" or go on all the same with 'samespace build {as_argument(project)} --anyway'." if stopped else "."
    return (
        f"{begun} paragon, the best that this network and budget can give, is not ahead of the old model on "
        f"{built.outlook.identities:,} validation classes: {built.outlook.sentence}. A compatible successor comes "
        f"close to the paragon at most, so it could not pass either. Raise budget.epochs (now "
        f"{plan.project.budget.epochs}), take a larger network.backbone (now {plan.project.network.backbone}) or size "
        f"(now {plan.project.size}), or more images;{end}"
    )
