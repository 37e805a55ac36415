"""`samespace gallery`: search across model versions, upgrade without re-embedding, backfill, roll back."""

from __future__ import annotations

from typing import Any

import click

from samespace.cli.gallery.add import add
from samespace.cli.gallery.adopt import adopt, sync
from samespace.cli.gallery.backfill import backfill
from samespace.cli.gallery.calibrate import calibrate
from samespace.cli.gallery.create import create
from samespace.cli.gallery.doctor import doctor
from samespace.cli.gallery.options import NAMED
from samespace.cli.gallery.plan import plan
from samespace.cli.gallery.remove import remove
from samespace.cli.gallery.seal import seal
from samespace.cli.gallery.search import search
from samespace.cli.gallery.status import status
from samespace.cli.gallery.steps import pause, resume, rollback
from samespace.cli.gallery.switch import switch
from samespace.cli.gallery.upgrade import upgrade
from samespace.cli.gallery.wording import as_commands
from samespace.errors import SamespaceError


class _InOrder(click.Group):
    """Lists its commands in the order of an item's life, not of the alphabet; hints name the gallery that was given."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SamespaceError as error:
            location = ctx.meta.get(NAMED, "GALLERY")
            raise type(error)(as_commands(str(error), location)) from error


@click.group(cls=_InOrder)
def gallery() -> None:
    """Search across model versions, upgrade without re-embedding, backfill gradually, roll back.

    GALLERY is a folder, or postgresql://…?schema=NAME. All commands may run at the same time; every one can be killed
    at any moment and loses nothing that it has acknowledged.

    \b
    The day before:  gallery plan G --model runs/v2 --certificate report/certificate.json
    The switch:      gallery upgrade G
    Then:            gallery backfill G        gallery status G
    Back:            gallery rollback G        until  gallery seal G
    A model that is not compatible:  gallery upgrade G --behind --model DIR, backfill, then  gallery switch G

    Exit status: 0 done, 1 a check said no (doctor, plan), 2 wrong use or bad input.
    """  # noqa: D301


for command in (
    create, adopt, add, remove, sync, search, calibrate, plan, upgrade, backfill, switch, status, pause, resume,
    rollback, seal, doctor,
):  # fmt: skip
    gallery.add_command(command)
