"""What adopting gives, and whose vectors it takes those of an application for, whatever store they lie in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from samespace.errors import InputError, SpaceError
from samespace.space import Space

GivenSpace = Space | tuple[str, str]
"""A space, or the name and revision of a model."""


@dataclass(frozen=True)
class Adopted:
    """A table or collection that a gallery serves now.

    Attributes:
        location: of the gallery, without secrets.
        ledger: where it lies, in words.
        table: name of the table, schema included, or of the collection.
        space: of its vectors.
        items: rows or points that were listed.
        without: those that have no vector, and become items when they get one.
        index: the store's own index that searches walk, in words; None where they look at every row.
        bytes: that the ledger takes.
    """

    location: str
    ledger: str
    table: str
    space: Space
    items: int
    without: int
    index: str | None
    bytes: int


def given_space(space: GivenSpace | None, model: str | Path | None) -> tuple[GivenSpace, Path | str | None]:
    """The space that a user names, or that of the model, and the model's folder where it was opened.

    Raises:
        InputError: neither is given, or the model cannot be opened.
    """
    if space is not None:
        return space, None
    if model is None:
        raise InputError("say which model made the vectors: its space, its name, or the model itself")
    from samespace.encoders import open_encoder
    from samespace.models import resolve_model

    folder = resolve_model(model)
    return open_encoder(folder, device="cpu").space, folder


def fitting_space(given: GivenSpace, dim: int, *, normalized: bool, where: str) -> Space:
    """The space of vectors of `dim` dimensions that lie at `where`, all of unit length or not.

    Raises:
        SpaceError: they cannot be of the space that is given.
    """
    if not isinstance(given, Space):
        return Space.declared(given[0], dim, given[1], normalized=normalized)
    if given.dim != dim:
        raise SpaceError(f"{where} has vectors of {dim} dimensions, the space {given} has {given.dim}")
    if given.normalized and not normalized:
        raise SpaceError(f"{where} has vectors that are not of unit length, and the space {given} says they are")
    return given
