"""From what a user writes to a source of images."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from samespace.data.arrays import ArraySource
from samespace.data.folder import FolderSource
from samespace.data.glyphs import GlyphSource
from samespace.data.pixels import as_size
from samespace.data.source import ImageSource
from samespace.errors import InputError, suggest

GLYPH_OPTIONS = ("classes", "images", "size", "seed", "difficulty")
LEGAL = "a folder of root/class/image, an .npz file, or glyphs[:classes=300,images=40,size=32,seed=0,difficulty=0.5]"


def open_source(
    spec: str | Path,
    *,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    broken: Literal["refuse", "skip"] = "refuse",
) -> ImageSource:
    """Open images by what a user writes.

    Args:
        spec: a folder of `root/class/image`, an `.npz` file, or `glyphs`, with options as in
            `glyphs:classes=300,images=40,size=32,seed=0,difficulty=0.5`.
        image_size: side, or (height, width), to bring images to; needed for a folder of unlike sizes.
        channels: 1 (grey) or 3 (RGB); a folder is RGB by default, the others are what they are.
        broken: refuse or skip images of a folder that cannot be read.

    Raises:
        InputError: nothing of the kind is there, or it cannot be used; the message says what is legal.

    Example:
        >>> source = open_source("glyphs:classes=5,images=2,size=16")
        >>> len(source), source.image_shape, source.classes[4]
        (10, (1, 16, 16), 'glyph-0-00004')
    """
    text = str(spec)
    kind, _, options = text.partition(":")
    if kind == "glyphs" and not isinstance(spec, Path):
        return _glyphs(options, image_size, channels)
    path = Path(spec)
    if path.is_dir():
        return FolderSource(path, image_size=image_size, channels=channels, broken=broken)
    if path.is_file() or path.suffix == ".npz":
        return ArraySource.from_npz(path, image_size=image_size, channels=channels)
    hint = " did you mean 'glyphs'?" if suggest(kind, ["glyphs"]).startswith("did") else ""
    raise InputError(f"{text!r} does not exist;{hint} expected {LEGAL}")


def open_for_model(
    spec: str | Path,
    size: int | None,
    *,
    channels: int | None = None,
    broken: Literal["refuse", "skip"] = "refuse",
) -> ImageSource:
    """Open images at the size a network sees, the same way for training and for embedding.

    Folders and arrays are resized as they are read; glyphs are drawn at their own size and left to the model.
    """
    drawn = str(spec).partition(":")[0] == "glyphs" and not isinstance(spec, Path)
    return open_source(spec, image_size=None if drawn else size, channels=channels, broken=broken)


def _glyphs(options: str, image_size: int | tuple[int, int] | None, channels: int | None) -> GlyphSource:
    given: dict[str, str] = {}
    for part in filter(None, options.split(",")):
        name, equals, value = part.partition("=")
        if name not in GLYPH_OPTIONS:
            raise InputError(f"glyphs have no option {name!r}; {suggest(name, GLYPH_OPTIONS)}")
        if not equals or name in given:
            raise InputError(f"glyphs: give {name!r} once, as {name}=NUMBER, got {part!r}")
        given[name] = value
    whole = {name: _whole(name, value) for name, value in given.items() if name != "difficulty"}
    size = as_size(image_size)
    if size is not None and (size[0] != size[1] or whole.setdefault("size", size[0]) != size[0]):
        raise InputError(
            f"glyphs are square; image_size {image_size} and size={whole.get('size', 'N')} exclude each other"
        )
    return GlyphSource(
        **whole,
        difficulty=_real("difficulty", given.get("difficulty", "0.5")),
        channels=1 if channels is None else channels,
    )


def _whole(name: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise InputError(f"glyphs: {name} must be a whole number, got {value!r}") from None


def _real(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise InputError(f"glyphs: {name} must be a number, got {value!r}") from None
