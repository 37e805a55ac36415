"""`samespace gallery upgrade`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from samespace.cli.gallery.options import (
    Pairs,
    console,
    declared_options,
    expect_option,
    gallery_argument,
    model_or_space,
    prepare_upgrade,
    upgrade_options,
)
from samespace.cli.gallery.wording import backfill_command, in_commands
from samespace.cli.output import PATH, quiet_option, say, write_result
from samespace.errors import counted
from samespace.names import as_argument

if TYPE_CHECKING:
    from samespace.space import Score, Space


@click.command()
@gallery_argument
@click.option(
    "--from",
    "project",
    type=PATH,
    metavar="FILE",
    help="A built project.yaml: its model and its certificate; a gallery that is not there is made of its old vectors.",
)
@click.option(
    "--behind",
    is_flag=True,
    help="To a model that need not be compatible: the gallery is filled for it first, 'gallery switch' follows.",
)
@declared_options
@click.option(
    "--score",
    type=click.Choice(["cosine", "ip", "l2"]),
    help="With --behind: what searches of the new vectors go by.  [default: as now]",
)
@click.option("--grace", is_flag=True, help="Answer queries of the present model, too, until the seal.")
@expect_option
@quiet_option
@upgrade_options(
    order="Of the backfill to come.  [default: the plan's]",
    images="The items' images, for canaries.  [default: the remembered]",
)
def upgrade(
    location: str,
    project: Path | None,
    behind: bool,
    model: Path | None,
    space_of: Path | None,
    space_name: str | None,
    revision: str | None,
    score: Score | None,
    certificates: tuple[Path, ...],
    pairs: Pairs,
    quiet: bool,
    json_to: str | None,
    **options: Any,
) -> None:
    """Let queries use the new model from now on; nothing is re-embedded.

    With --behind queries stay: vectors of the two models are never compared, so the gallery is filled for the new one
    first, and no certificate is needed.

    Without --model the planned upgrade, or the one that was rolled back, is taken. Each pair of spaces needs a
    certificate that says yes. Where images are at hand, some are embedded to see that the model is what it claims.
    """
    from samespace.gallery import Gallery
    from samespace.report.gallery import print_switched

    if project is not None:
        if behind:
            raise click.UsageError("--from has a certificate: leave out --behind.")
        if model is not None or space_of is not None or certificates or pairs:
            raise click.UsageError(
                "--from has the model and the certificate: leave out --model, --space, --certificate."
            )
        _from_project(location, project, quiet, json_to, options)
        return
    given = model_or_space(model, space_of, space_name, revision)
    if behind:
        _begin_behind(location, given, bool(certificates or pairs), json_to, {"score": score, **options})
        return
    if score is not None:
        raise click.UsageError("--score goes with --behind: spaces that are compared have one score.")
    if given is None and pairs:
        raise click.UsageError("--calibrate goes with --model or --space.")
    with Gallery.open(location) as gallery:
        read = prepare_upgrade(gallery, given, certificates, pairs, options["accept_uncertified"])
        found = in_commands(gallery.upgrade(given, read, **options), gallery)
        state = gallery.state
    if write_result(found.to_dict(), json_to):
        place = as_argument(gallery.location)
        step = f"next: {backfill_command(state, gallery.location)}"
        if not all(map(state.calibrated, state.servable)):
            step = f"next: samespace gallery calibrate {place} QUERIES ITEMS"
        print_switched(found, console(), step)


def _begin_behind(
    location: str, given: str | Space | None, linked: bool, json_to: str | None, options: dict[str, Any]
) -> None:
    from samespace.gallery import Gallery
    from samespace.report.gallery import print_begun

    if linked or options.pop("accept_uncertified"):
        raise click.UsageError(
            "--behind compares no pair of spaces: leave out --certificate, --calibrate, --accept-uncertified."
        )
    with Gallery.open(location) as gallery:
        found = in_commands(gallery.begin_behind(given, **options), gallery)
        step = backfill_command(gallery.state, gallery.location)
    if write_result(found.to_dict(), json_to):
        print_begun(found, console(), f"next: {step}")


def _from_project(location: str, project: Path, quiet: bool, json_to: str | None, options: dict[str, Any]) -> None:
    from samespace.evaluate import Certificate
    from samespace.progress import bar, silent_bar
    from samespace.project.live import finished, open_filled, require_yes
    from samespace.report.gallery import print_switched

    build = finished(project)
    certificate = Certificate.load(build.certificate) if options["accept_uncertified"] else require_yes(build)
    opened, filled = open_filled(location, build, progress=silent_bar if quiet else bar)
    with opened as gallery:
        if filled is not None and json_to != "-":
            say(f"{location}: made, with the old vectors of {counted(filled, 'item')}")
        found = in_commands(gallery.upgrade(str(build.model), [certificate], **options), gallery)
        place = as_argument(gallery.location)
    if write_result({**found.to_dict(), "filled": filled}, json_to):
        print_switched(found, console(), f"next: samespace gallery backfill {place}")
        say(f"search: samespace gallery search {place} --images {as_argument(build.project.images)}")
        say(f"back: samespace gallery rollback {place}")
