"""From what a user writes to an encoder: the one place where a model is opened by name."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from samespace.encoders.encoder import Encoder
from samespace.errors import InputError, suggest

if TYPE_CHECKING:
    from samespace.models.image_model import ImageModel

FAMILIES = {
    "timm": "NAME[,weights=FILE]",
    "open_clip": "NAME,weights=TAG_OR_FILE[,part=image|text]",
    "sentence-transformers": "FOLDER_OR_NAME",
    "transformers": "FOLDER_OR_NAME[,modality=text|image,pooling=mean|cls|pooler]",
}
"""What follows each family's name and a colon, such as `NAME[,weights=FILE]`."""


def legal_encoders() -> str:
    """What a user may write for an encoder, for messages."""
    named = [f"{family}:{usage}" for family, usage in FAMILIES.items()]
    return ", ".join(["a folder made by 'samespace train'", "an .onnx file", *named]) + " or package.module:function"


def open_encoder(text: str | Path, *, device: str = "auto") -> Encoder:
    """Open an encoder by what a user writes.

    | `text` | encoder |
    |---|---|
    | a folder made by `samespace train`, or the `model/` in it | that `samespace.Embedder` |
    | an `.onnx` file that `samespace export` wrote | that network, by `from_onnx` |
    | `timm:NAME[,weights=FILE]` | `from_timm`: pretrained, or with weights from a file |
    | `open_clip:NAME,weights=TAG_OR_FILE[,part=image]` | `from_open_clip`, its image or text side |
    | `sentence-transformers:FOLDER_OR_NAME` | `from_sentence_transformers` |
    | `transformers:FOLDER_OR_NAME[,modality=text,pooling=mean]` | `from_transformers` |
    | `package.module:function` | what the user's own function, called without arguments, returns |

    Args:
        text: one of the above; what exists under this name is a folder or file, whatever it is called.
        device: where to put a model: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        InputError: nothing of the kind is there, its extra is not installed, or it cannot be used.
    """
    path = Path(text)
    if not path.exists() and ":" in (text := str(text)):
        family, _, rest = text.partition(":")
        if family in FAMILIES:
            return _of_family(family, rest, device)
        if re.fullmatch(r"[\w.]+", family) and rest.isidentifier():
            return _of_function(text)
        raise InputError(f"there is no encoder '{text}'; expected {legal_encoders()}")
    if path.suffix == ".onnx":
        from samespace.encoders.onnx import from_onnx

        return from_onnx(path, device=device)
    if (path / "modules.json").is_file():
        raise InputError(
            f"{path} is a model of sentence-transformers, an encoder of texts; name it sentence-transformers:{path}"
        )
    from samespace.models import Embedder, resolve_model
    from samespace.models.devices import pick_device

    return Embedder.load(resolve_model(path)).to(pick_device(device))


def open_image_model(text: str | Path, *, device: str = "auto") -> ImageModel:
    """Open an encoder of images as the rooms that work on batches of pixels take it; see `open_encoder`.

    Raises:
        InputError: also: the encoder takes something else than images.
    """
    return as_image_model(open_encoder(text, device=device), str(text))


def as_image_model(encoder: Encoder, name: str = "") -> ImageModel:
    """An encoder of images as an `ImageModel`; an `Embedder` is one already.

    Raises:
        InputError: the encoder takes something else than images.
    """
    if encoder.modality != "image":
        called = name or encoder.space.name or "the encoder"
        raise InputError(f"{called} takes items of modality '{encoder.modality}'; an encoder of images is needed here")
    if hasattr(encoder, "embed") and hasattr(encoder, "embed_unit"):
        return cast("ImageModel", encoder)
    from samespace.encoders.image_model import EncoderOfImages

    return EncoderOfImages(encoder)


def _of_family(family: str, rest: str, device: str) -> Encoder:
    """An encoder of a family by `PLACE[,option=value]…`."""
    place, *parts = re.split(r",(?=\w+=)", rest)
    legal = re.findall(r"(\w+)=", FAMILIES[family])
    options = dict(part.split("=", 1) for part in parts)
    if not place:
        raise InputError(f"{family}: names no model; expected {family}:{FAMILIES[family]}")
    for name in options:
        if name not in legal:
            raise InputError(f"{family}: has no option '{name}'; {suggest(name, legal) if legal else 'it takes none'}")
    module = importlib.import_module(f"samespace.encoders.{family.replace('-', '_')}")
    make = getattr(module, f"from_{family.replace('-', '_')}")
    return cast(Encoder, make(place, **options, device=device))


def _of_function(text: str) -> Encoder:
    from samespace.models.user_code import called, import_named

    function = import_named(text, "encoder", "package.module:function")
    made: Any = function
    if not isinstance(function, Encoder):
        made = called(function, what=f"the encoder '{text}', called without arguments,")
    if not isinstance(made, Encoder):
        raise InputError(
            f"the encoder '{text}' returned a {type(made).__name__}; expected an encoder, such as "
            "samespace.encoders.from_callable makes"
        )
    return made
