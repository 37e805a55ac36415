"""From what a user writes to a source of images."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar
from weakref import WeakValueDictionary

from samespace.data.decoding.pixels import ImageSize, as_size
from samespace.data.listed import ListedSource
from samespace.data.listing import Listing
from samespace.data.published.cub import cub_listing
from samespace.data.published.facepack import face_pack_listing
from samespace.data.published.gldv2 import landmark_listing
from samespace.data.published.products import inshop_listing, products_listing
from samespace.data.published.reid import reid_listing
from samespace.data.published.vehicles import vehicles_listing
from samespace.data.source import ImageSource
from samespace.data.sources.arrays import ArraySource
from samespace.data.sources.folder import FolderSource
from samespace.data.sources.glyphs import GlyphSource
from samespace.data.sources.huggingface import huggingface_listing
from samespace.data.sources.listfile import list_listing
from samespace.data.sources.recordio import record_listing
from samespace.errors import InputError, suggest

T = TypeVar("T", int, float)

GLYPH_OPTIONS = ("classes", "images", "size", "seed", "difficulty")
_GLYPHS: WeakValueDictionary[str, GlyphSource] = WeakValueDictionary()
"""Those in use, by fingerprint, so that one set is drawn once however often it is opened."""


@dataclass(frozen=True)
class Format:
    """A format of images that a user names before a colon.

    Attributes:
        usage: what follows the colon, with an example value for each option, such as `DIR[,part=train]`.
        read: `read(place, **options)` lists the images; options are text.
    """

    usage: str
    read: Callable[..., Listing]

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the options."""
        return tuple(re.findall(r"(\w+)=", self.usage))


def _landmarks(place: str, *, clean: str = "false", **options: str) -> Listing:
    if clean not in ("true", "false"):
        raise InputError(f"gldv2: clean must be true or false, got {clean!r}")
    return landmark_listing(place, clean=clean == "true", **options)


FORMATS: dict[str, Format] = {
    "rec": Format("DIR", record_listing),
    "list": Format("FILE[,root=DIR,path=COLUMN,label=COLUMN,part=NAME]", list_listing),
    "market1501": Format("DIR[,part=train]", partial(reid_listing, layout="market1501")),
    "msmt17": Format("DIR[,part=train]", partial(reid_listing, layout="msmt17")),
    "gldv2": Format("DIR[,part=train,clean=true]", _landmarks),
    "sop": Format("DIR[,part=train]", products_listing),
    "inshop": Format("DIR[,part=train]", inshop_listing),
    "cub": Format("DIR[,part=train-classes]", cub_listing),
    "vehicleid": Format("DIR[,part=train]", vehicles_listing),
    "facepack": Format("FILE", face_pack_listing),
    "hf": Format("NAME_OR_FOLDER[,split=train,image=image,label=label]", huggingface_listing),
}
"""The one table of formats: a new one is a file with a function that makes a `Listing`, and a line here."""


def legal_sources() -> str:
    """What a user may write for a source of images, for messages."""
    *most, last = [f"{kind}:{each.usage}" for kind, each in FORMATS.items()]
    return (
        "a folder of root/class/image, an .npz or .rec file, glyphs[:classes=300,images=40,size=32,seed=0,"
        f"difficulty=0.5], {', '.join(most)} or {last}"
    )


def open_source(
    spec: str | Path,
    *,
    image_size: ImageSize | None = None,
    channels: int | None = None,
    broken: Literal["refuse", "skip"] = "refuse",
) -> ImageSource:
    """Open images by what a user writes.

    | `spec` | images |
    |---|---|
    | a folder | `root/class/image` |
    | an `.npz` file | `images` and `labels` |
    | `glyphs:classes=300,images=40,size=32,seed=0,difficulty=0.5` | made-up characters, any option left out |
    | `rec:DIR`, or a `.rec` file | RecordIO, `train.rec` with `train.idx` |
    | `list:FILE,root=DIR` | a text file of paths and labels, relative to the file or to `root`; `part=query` |
    | `market1501:DIR,part=train` | Market-1501 or DukeMTMC-reID: `train`, `query`, `gallery` or both, `test` |
    | `msmt17:DIR,part=train` | MSMT17, likewise |
    | `gldv2:DIR,part=train,clean=true` | Google Landmarks v2: `train`, cleaned or not, `index` or `test` |
    | `sop:DIR,part=train` | Stanford Online Products: `train` or `test` |
    | `inshop:DIR,part=train` | In-Shop Clothes: `train`, `query`, `gallery` or the last two, `test` |
    | `cub:DIR,part=train-classes` | CUB-200-2011 by halves of its classes; `train`, `test` by its own list |
    | `vehicleid:DIR,part=train` | VehicleID: `train`, or a test list, `800` |
    | `facepack:FILE` | a face verification pack, such as `cfp_fp.bin` |
    | `hf:NAME_OR_FOLDER,split=train,image=image,label=label` | Hugging Face data set, needs the extra `huggingface` |

    Only `hf:` with a name that is no folder uses the network.

    Args:
        spec: one of the above; a `Path` is a folder or file, whatever it is called.
        image_size: side, or (height, width), to bring images to, or a `Fit`; needed for encoded images of unlike sizes.
        channels: 1 (grey) or 3 (RGB); encoded images are RGB by default, arrays and glyphs what they are.
        broken: refuse or skip encoded images that cannot be read.

    Raises:
        InputError: nothing of the kind is there, or it cannot be used; the message says what is legal.

    Example:
        >>> source = open_source("glyphs:classes=5,images=2,size=16")
        >>> len(source), source.image_shape, source.classes[4]
        (10, (1, 16, 16), 'glyph-0-00004')
    """
    text, kind = str(spec), _kind(spec)
    if kind == "glyphs":
        return _glyphs(text.partition(":")[2], image_size, channels)
    path = Path(spec)
    if kind is not None or path.suffix == ".rec":
        if kind is None:
            listing = record_listing(path)
        else:
            place, given = _options(kind, text.partition(":")[2])
            listing = FORMATS[kind].read(place, **given)
        return ListedSource(listing, image_size=image_size, channels=channels, broken=broken)
    if path.is_dir():
        return FolderSource(path, image_size=image_size, channels=channels, broken=broken)
    if path.is_file() or path.suffix == ".npz":
        return ArraySource.from_npz(path, image_size=image_size, channels=channels)
    if text in FORMATS:
        _options(text, "")
    hint = suggest(text.partition(":")[0], ["glyphs", *FORMATS])
    meant = f" {hint.partition('?')[0]}?" if hint.startswith("did") else ""
    raise InputError(f"{text!r} does not exist;{meant} expected {legal_sources()}")


def open_for_model(
    spec: str | Path,
    size: ImageSize | None,
    *,
    channels: int | None = None,
    broken: Literal["refuse", "skip"] = "refuse",
) -> ImageSource:
    """Open images at the size a network sees, the same way for training and for embedding.

    Encoded images and arrays are resized as they are read; glyphs are drawn at their own size and left to the model.
    """
    return open_source(spec, image_size=None if _kind(spec) == "glyphs" else size, channels=channels, broken=broken)


def holds_encoded(spec: str | Path) -> bool:
    """Whether a source is one of encoded images, which may differ in size, rather than of arrays or glyphs."""
    kind = _kind(spec)
    return kind != "glyphs" if kind else Path(spec).is_dir() or Path(spec).suffix == ".rec"


def _kind(spec: str | Path) -> str | None:
    """The word before the colon, where it is one of ours."""
    kind, colon, _ = str(spec).partition(":")
    known = kind == "glyphs" or (kind in FORMATS and colon)
    return kind if known and not isinstance(spec, Path) else None


def _options(kind: str, text: str) -> tuple[str, dict[str, str]]:
    """A place and the options after it; the place itself may hold commas."""
    place, *parts = [text] if text and Path(text).exists() else re.split(r",(?=\w+=)", text)
    legal, given = FORMATS[kind].options, dict[str, str]()
    if not place:
        raise InputError(f"{kind}: names no place; expected {kind}:PLACE{''.join(f'[,{name}=…]' for name in legal)}")
    for part in parts:
        name, _, value = part.partition("=")
        if name not in legal:
            raise InputError(f"{kind}: has no option {name!r}; {suggest(name, legal) if legal else 'it takes none'}")
        if not value or name in given:
            raise InputError(f"{kind}: give {name!r} once, as {name}=VALUE, got {part!r}")
        given[name] = value
    return place, given


def _glyphs(options: str, image_size: ImageSize | None, channels: int | None) -> GlyphSource:
    given: dict[str, str] = {}
    for part in filter(None, options.split(",")):
        name, equals, value = part.partition("=")
        if name not in GLYPH_OPTIONS:
            raise InputError(f"glyphs have no option {name!r}; {suggest(name, GLYPH_OPTIONS)}")
        if not equals or name in given:
            raise InputError(f"glyphs: give {name!r} once, as {name}=NUMBER, got {part!r}")
        given[name] = value
    whole = {name: _number(name, value, int) for name, value in given.items() if name != "difficulty"}
    size = as_size(image_size)
    if size is not None and (size[0] != size[1] or whole.setdefault("size", size[0]) != size[0]):
        raise InputError(
            f"glyphs are square; image_size {image_size} and size={whole.get('size', 'N')} exclude each other"
        )
    source = GlyphSource(
        **whole,
        difficulty=_number("difficulty", given.get("difficulty", "0.5"), float),
        channels=1 if channels is None else channels,
    )
    return _GLYPHS.setdefault(source.fingerprint(), source)


def _number(name: str, value: str, kind: type[T]) -> T:
    try:
        return kind(value)
    except ValueError:
        raise InputError(f"glyphs: {name} must be a {'whole ' * (kind is int)}number, got {value!r}") from None
