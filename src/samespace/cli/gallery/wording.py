"""What a gallery's messages name, as commands and options."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from samespace.names import as_argument

if TYPE_CHECKING:
    from samespace.gallery import Gallery
    from samespace.gallery.ledger.state import State

T = TypeVar("T")
_COMMANDS = {"begin_behind": "upgrade --behind"}
_OPTIONS = {"certificates": "certificate", "epsilon": "until_gain"}
_FILLED_IN = {
    "certificates": "FILE", "model": "DIR", "vectors": "VECTORS", "old_queries": "OLD_QUERIES",
}  # fmt: skip


def as_commands(text: str, location: str) -> str:
    """A message of the gallery at a location, in the words of the command line."""
    from samespace.gallery.wording import reworded

    # commands stand in single quotes
    place = as_argument(location)
    if place.startswith("'") and not any(character in '$`"\\!' for character in location):
        place = f'"{place[1:-1]}"'

    def call(method: str, given: Mapping[str, str]) -> str:
        command, *options = _COMMANDS.get(method, method).split()
        for name, value in given.items():
            options.append(_option(name, value, _FILLED_IN.get(name, "")) if value else name.upper())
        return f"'{' '.join(['samespace gallery', command, place, *options])}'"

    def argument(name: str, value: str) -> str:
        # a gallery in a folder of that name
        given = f"{name}={value}"
        return given if given == str(Path(location)) else _option(name, value)

    return reworded(text, call=call, argument=argument)


def backfill_command(state: State, location: str) -> str:
    """The command that fills the space of the upgrade under way, without quotes around it."""
    from samespace.gallery.wording import backfill_call

    call = backfill_call(state, state.query if state.filling is None else state.filling.new)
    more = "" if call.endswith("()") else f" --vectors {_FILLED_IN['vectors']}"
    return f"samespace gallery backfill {as_argument(location)}{more}"


def in_commands(found: T, gallery: Gallery) -> T:
    """What a method of a gallery gave, with its sentences in the words of the command line."""
    from samespace.gallery.wording import reworded_result

    return reworded_result(found, lambda text: as_commands(text, gallery.location))


def _option(name: str, value: str, filled_in: str = "") -> str:
    if name == "share":
        return f"--share {value} --drop"
    option = f"--{_OPTIONS.get(name, name).replace('_', '-')}"
    shown = {"True": "", "…": filled_in}.get(value, value.strip('"'))
    return f"{option} {shown}".strip()
