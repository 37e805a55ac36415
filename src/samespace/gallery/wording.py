"""Messages of a gallery name its methods and arguments; whoever shows them elsewhere names what is called there.

In a message stand calls, such as `gallery.backfill(retry=True)`, and arguments alone, such as
`accept_uncertified=True`; `…` is a value for the reader to fill in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from samespace.gallery.ledger.state import State

T = TypeVar("T")
Say = Callable[[str], str]
"""A message in the words of another surface."""
ARGUMENTS = (
    "accept_uncertified", "accept_worse", "certificates", "drop_index", "end_grace", "fuse", "images", "merge", "model",
    "old_model", "old_queries", "epsilon", "partial", "share", "update", "also", "vectors", "retry", "repair", "vector",
)  # fmt: skip
"""All that messages name."""

_CALL = re.compile(r"\bgallery\.([a-z_]+)\(([^()]*)\)")
# a word by itself: as a part of a path or of a name it is the user's
_ARGUMENT = re.compile(rf"(?:(?<=[\s(])|^)({'|'.join(ARGUMENTS)})=(…|True|\"[a-z]+\"|\d+(?:\.\d+)?)(?![\w/])(?!\.\d)")
_EITHER = re.compile(f"{_CALL.pattern}|{_ARGUMENT.pattern}")
_FREE = ("metadata", "failed", "dropped", "location", "model", "name")  # hold words of users


def backfill_call(state: State, generation: int) -> str:
    """The call that fills a space: by its model and the images where the gallery remembers both, else by vectors."""
    known = state.spaces[generation].model is not None and state.settings.get("images") is not None
    return f"gallery.backfill({'' if known else 'vectors=…'})"


def reworded(text: str, *, call: Callable[[str, Mapping[str, str]], str], argument: Callable[[str, str], str]) -> str:
    """A message with its calls and its arguments written in another way.

    `call` gets the method and its arguments, each with its value as it stands there, those by position with "".
    """

    def one(found: re.Match[str]) -> str:
        if found[1] is None:
            return argument(found[3], found[4])
        parts = [part.partition("=") for part in found[2].split(", ") if part]
        return call(found[1], {name: value for name, _, value in parts})

    # at once: what is put in the place of a call, such as the gallery's own path, is not looked at again
    return _EITHER.sub(one, text)


def reworded_result(value: T, say: Say) -> T:
    """A result of a method, such as a `Plan`, with the sentences in it reworded."""
    reworded: T = _each(value, say)
    return reworded


def _each(value: Any, say: Say) -> Any:
    if isinstance(value, str):
        return say(value)
    if isinstance(value, (tuple, list)):
        return type(value)(_each(part, say) for part in value)
    if is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: getattr(value, field.name) for field in fields(value) if field.init}
        return replace(value, **{name: _each(part, say) for name, part in parts.items() if name not in _FREE})
    if isinstance(value, Mapping):
        return {name: part if name in _FREE else _each(part, say) for name, part in value.items()}
    return value
