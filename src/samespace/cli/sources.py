"""Images of a command: opened where their size plays no part, and what of them was left out, said in lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from samespace.errors import escaped

if TYPE_CHECKING:
    from samespace.data import ImageSource
    from samespace.data.describe import LeftOut
    from samespace.data.sources.kinds import Kind

_NAMED = 20
_CHANGES = {
    "turned_upright": "turned upright, as their EXIF says",
    "first_frame": "of several frames or pages, of which the first is taken",
    "to_8_bits": "of 16 bits a value, brought to 8",
    "on_white": "with transparent parts, put on white",
    "grey_to_rgb": "grey, made RGB",
    "cmyk_to_rgb": "CMYK, made RGB",
    "rgb_to_grey": "of colour, made grey",
}


def open_at(source: str, encoded_pixels: int, broken: str) -> ImageSource:
    """Open a source; encoded images, which may differ in size, are brought to `encoded_pixels`."""
    from samespace.data import holds_encoded, open_source

    size = encoded_pixels if holds_encoded(source) else None
    return open_source(source, image_size=size, broken="skip" if broken == "skip" else "refuse")


def show_left_out(left_out: LeftOut, *, size: tuple[int, int] | None = None, err: bool = False) -> None:
    """Print what opening images left out, passed over and changed; nothing where there is nothing to say.

    `size` is the (height, width) that images were brought to, where that matters.
    """
    for line in _lines(left_out, size):
        click.echo(escaped(line), err=err)


def skipped_lines(skipped: Sequence[tuple[str, str]]) -> Iterator[str]:
    """What could not be read, by name, at most twenty of them."""
    if skipped:
        yield f"left out, because they cannot be read: {len(skipped):,}"
        yield from _named(skipped)


def stand_in_lines(unreadable: Mapping[str, str]) -> Iterator[str]:
    """Which training images could not be read once they were asked for, at most twenty of them."""
    if unreadable:
        yield f"cannot be read, so that other images of their classes stood in their place: {len(unreadable):,}"
        yield from _named(list(unreadable.items()))


def passed_over_lines(kinds: Sequence[Kind]) -> Iterator[str]:
    """What lies among the images and is none of the set, by kind."""
    if kinds:
        yield f"passed over, because they are no images of the set: {sum(kind.count for kind in kinds):,}"
        yield from (f"  {kind}" for kind in kinds)


def _named(images: Sequence[tuple[str, str]]) -> Iterator[str]:
    yield from (f"  {name}: {reason}" for name, reason in images[:_NAMED])
    if len(images) > _NAMED:
        yield f"  and {len(images) - _NAMED:,} more; --json - names all"


def _lines(left_out: LeftOut, size: tuple[int, int] | None) -> Iterator[str]:
    yield from skipped_lines(left_out.skipped)
    yield from passed_over_lines(left_out.passed_over)
    changes = [f"{_CHANGES.get(name, name)}: {count:,}" for name, count in left_out.changes.items()]
    if size is not None and left_out.resized:
        changes.append(f"brought to {size[1]}x{size[0]} pixels, whatever their proportions: {left_out.resized:,}")
    if changes:
        yield f"images {'; '.join(changes)}"
