"""`samespace gallery seal`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from samespace.cli.gallery.options import expect_option, gallery_argument, shown_bar
from samespace.cli.gallery.wording import as_commands
from samespace.cli.output import json_option, quiet_option, write_result
from samespace.errors import InputError, counted

if TYPE_CHECKING:
    from samespace.gallery import Gallery


@click.command()
@gallery_argument
@click.option("--partial", is_flag=True, help="Seal although some items have no new vector; they keep their old one.")
@click.option(
    "--unused-for",
    type=click.FloatRange(0),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="Where queries of an earlier model are answered (--grace): seal only if none came for so long.",
)
@click.option("--end-grace", is_flag=True, help="Seal although such queries still come; they are refused from then on.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Of an adopted table: show the SQL that the seal runs in it, and end.")
@click.option(
    "--drop-index",
    is_flag=True,
    help="Of an adopted table: drop the index on the old vectors first; quicker, but its queries are slow meanwhile.",
)
@expect_option
@quiet_option
@json_option
def seal(
    location: str,
    partial: bool,
    unused_for: float,
    end_grace: bool,
    yes: bool,
    dry_run: bool,
    drop_index: bool,
    expect: int | None,
    quiet: bool,
    json_to: str | None,
) -> None:
    """Delete the old vectors, after counting and checking the new ones. From then on there is no way back.

    Killed half way, the same command carries on.

    In an adopted table nothing is deleted: the new vectors get a column of their own there, and the indexes that the
    old ones have; then the two columns change names, and the application reads new vectors. Let it embed its queries
    and its new rows by the new model from then on.
    """
    from samespace.gallery import Gallery

    with Gallery.open(location) as gallery:
        location = gallery.location
        lines = gallery.release_sql(drop_index=drop_index)
        if sql := [as_commands(line, location) if line.startswith("--") else line for line in lines]:
            how: dict[str, Any] = {
                "unused_for": unused_for, "end_grace": end_grace, "drop_index": drop_index, "expect": expect,
            }  # fmt: skip
            _hand_over(gallery, sql, how, yes=yes, dry_run=dry_run, quiet=quiet, json_to=json_to)
            return
        if dry_run or drop_index:
            option = "--dry-run shows" if dry_run else "--drop-index is about"
            raise InputError(f"{location} has adopted no table; {option} what is done to one")
        status = gallery.status()
        older = [one for one in status.spaces if one.role in ("serving", "kept")]
        doomed = sum(one.vectors - one.served for one in older)
        lost = f" and the {counted(status.dropped, 'item')} that the switch dropped" if status.dropped else ""
        if older and not yes:
            if sys.stdin is None or not sys.stdin.isatty():
                raise InputError(
                    f"a seal deletes {counted(doomed, 'old vector')} of {location}{lost}, and there is no "
                    "way back; say --yes"
                )
            click.confirm(
                f"delete {counted(doomed, 'old vector')} of {location}{lost}? there is no way back", abort=True
            )
        with shown_bar("seal", doomed, "vectors", quiet=quiet) as advance:
            found = gallery.seal(
                partial=partial, unused_for=unused_for, end_grace=end_grace, expect=expect, advance=advance
            )
    value = {
        "space": found.space.to_dict(),
        "deleted": found.deleted,
        "kept": found.kept,
        "retired": [space.to_dict() for space in found.retired],
        "removed": found.removed,
        "freed_bytes": found.freed,
        "advice": found.advice,
    }
    if write_result(value, json_to):
        click.echo(f"{location}: sealed; {counted(found.deleted, 'old vector')} deleted, {found.space} serves")
        if found.freed >= 2**20:
            click.echo(f"given back to the file system: {found.freed / 2**20:,.1f} MiB")
        if found.advice:
            click.echo(f"note: {found.advice}")
        if found.removed:
            click.echo(f"removed: {counted(found.removed, 'item')} that the switch had dropped")
        if found.kept:
            click.echo(
                f"note: {counted(found.kept, 'item keeps its', 'items keep their')} old vector; backfill "
                "what is left, then seal again"
            )


def _hand_over(
    gallery: Gallery,
    sql: Sequence[str],
    how: Mapping[str, Any],
    *,
    yes: bool,
    dry_run: bool,
    quiet: bool,
    json_to: str | None,
) -> None:
    """Show what a seal does in an application's table, and do it."""
    adopted = gallery.status().adopted
    assert adopted is not None
    table = adopted.table
    if json_to != "-":
        for line in sql:
            click.echo(line)
    if dry_run:
        write_result({"sql": list(sql)}, json_to)
        return
    if not yes:
        if sys.stdin is None or not sys.stdin.isatty():
            raise InputError(f"a seal alters {table} as above, and there is no way back by the gallery; say --yes")
        click.confirm(f"run this in {table}? there is no way back by the gallery", abort=True)
    with shown_bar("copy", len(gallery), "vectors", quiet=quiet) as advance:
        found = gallery.seal(advance=advance, **how)
    if write_result({"space": found.space.to_dict(), "table": table, "sql": list(sql)}, json_to):
        click.echo(
            f"{gallery.location}: sealed; {table} has vectors of {found.space} now, the old ones are kept beside"
        )
