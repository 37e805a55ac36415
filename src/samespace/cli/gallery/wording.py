"""What a gallery's messages name, as commands and options."""

from __future__ import annotations

from collections.abc import Mapping
from shlex import quote
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from samespace.gallery import Gallery

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
    plain = quote(location) == location or any(character in '$`"\\!' for character in location)
    place = quote(location) if plain else f'"{location}"'

    def call(method: str, given: Mapping[str, str]) -> str:
        command, *options = _COMMANDS.get(method, method).split()
        for name, value in given.items():
            options.append(_option(name, value, _FILLED_IN.get(name, "")) if value else name.upper())
        return f"'{' '.join(['samespace gallery', command, place, *options])}'"

    return reworded(text, call=call, argument=_option)


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
