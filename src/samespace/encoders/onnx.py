"""ONNX files as encoders of images (extra `onnx`)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from samespace.encoders.batched import BatchedEncoder
from samespace.errors import InputError
from samespace.files import require_file
from samespace.models import Preprocessing
from samespace.models.onnx import network_digest
from samespace.space import Space

_PROVIDERS = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}


def from_onnx(
    path: str | Path,
    *,
    preprocessing: Preprocessing | None = None,
    name: str = "",
    output: str | None = None,
    normalized: bool = True,
    device: str = "auto",
) -> BatchedEncoder:
    """An encoder of images made of an ONNX network from (B, C, H, W) float to (B, D).

    A file that `samespace export` wrote says how images are prepared, and its vectors are of the model's own space as
    long as its nodes and weights are those exported. Any other is told by the bytes of the file and of the weights kept
    beside it, and needs a `preprocessing`.

    Args:
        path: of the file.
        preprocessing: what happens to images first, mean and std included.
        name: what people call the model; by default the file's.
        output: which output holds the vectors; by default the first.
        normalized: bring vectors to unit length.
        device: where to compute: auto, cpu or cuda.

    Raises:
        InputError: no such file, no ONNX network of images, the extra is not installed, or a file that does not say
            how images are prepared.
    """
    path = Path(path)
    require_file(path, "a network, an .onnx file")
    session = _session(path, device)
    facts = dict(session.get_modelmeta().custom_metadata_map)
    if preprocessing is None:
        if "samespace.preprocessing" not in facts:
            raise InputError(
                f"{path} does not say how images are prepared for it; give from_onnx a preprocessing, in a function "
                "that you name as package.module:function, or export it again with 'samespace export'"
            )
        preprocessing = Preprocessing(**json.loads(facts["samespace.preprocessing"]))
        identity = _exported_space(path, facts)
    else:
        identity = None
    entry, batch = _entry(session, path)
    names = [one.name for one in session.get_outputs()]
    if output is not None and output not in names:
        raise InputError(f"{path} has no output '{output}'; it has {', '.join(names)}")
    chosen, prepared = output or names[0], preprocessing

    def function(pixels: Any, device: str | None) -> npt.NDArray[np.float32]:
        images = prepared(pixels).numpy()
        return _run(session, entry, chosen, images, batch)

    import torch

    blank = torch.zeros((1, prepared.channels, *prepared.fit.size), dtype=torch.uint8)
    try:
        shape = function(blank, None).shape
    except Exception as error:  # ONNX Runtime raises its own kinds, which share no base
        raise InputError(f"{path} cannot take images of shape {tuple(blank.shape[1:])}: {_line(error)}") from error
    if len(shape) != 2:
        raise InputError(f"{path} gives '{chosen}' of shape {shape}; expected (batch, dimensions)")
    space = identity or Space(
        _file_digest(path, chosen), prepared.describe(), int(shape[1]), normalized, name or path.stem
    )
    return BatchedEncoder(space, "image", function, prepared)


def _session(path: Path, device: str) -> Any:
    try:
        import onnx  # noqa: F401
        import onnxruntime
    except ImportError:
        raise InputError(f"{path} needs onnx and onnxruntime: pip install 'samespace[onnx]'") from None
    kind = device.partition(":")[0]
    there = onnxruntime.get_available_providers()
    if kind not in ("auto", *_PROVIDERS) or (kind == "cuda" and _PROVIDERS["cuda"] not in there):
        raise InputError(f"ONNX Runtime has no device '{device}' here; it has {', '.join(there)}")
    wanted = ("cuda", "cpu") if kind in ("auto", "cuda") else ("cpu",)
    try:
        return onnxruntime.InferenceSession(
            str(path), providers=[_PROVIDERS[one] for one in wanted if _PROVIDERS[one] in there]
        )
    except Exception as error:  # ONNX Runtime raises its own kinds, which share no base
        raise InputError(f"{path} is damaged or no ONNX network: {_line(error)}") from None


def _entry(session: Any, path: Path) -> tuple[str, int | None]:
    """The input's name, and how many images it takes at once where that is fixed."""
    entries = session.get_inputs()
    if len(entries) != 1 or len(entries[0].shape) != 4 or entries[0].type != "tensor(float)":
        told = ", ".join(f"{one.name}: {one.type} {one.shape}" for one in entries)
        raise InputError(f"{path} takes {told}; expected one input of float images (batch, channels, height, width)")
    first = entries[0].shape[0]
    return entries[0].name, first if isinstance(first, int) else None


def _run(session: Any, entry: str, output: str, images: npt.NDArray[np.float32], batch: int | None) -> npt.NDArray[Any]:
    if batch is None:
        return np.asarray(session.run([output], {entry: images})[0])
    parts = []
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        full = np.concatenate([part, np.zeros((batch - len(part), *part.shape[1:]), np.float32)])
        parts.append(session.run([output], {entry: full})[0][: len(part)])
    return np.concatenate(parts)


def _exported_space(path: Path, facts: dict[str, str]) -> Space | None:
    """The space of the model that was exported, where the network still is the one exported."""
    import onnx

    if "samespace.identity" not in facts or "samespace.network" not in facts:
        return None
    if network_digest(onnx.load(str(path))) != facts["samespace.network"]:
        return None
    return Space.from_dict(json.loads(facts["samespace.identity"]), str(path))


def _file_digest(path: Path, output: str) -> str:
    """The sha256 of the file and of the weights that it keeps in other files beside it."""
    import onnx

    state = hashlib.sha256(path.read_bytes() + output.encode())
    model = onnx.load(str(path), load_external_data=False)
    external = {
        entry.value for weight in model.graph.initializer for entry in weight.external_data if entry.key == "location"
    }
    for location in sorted(external):
        with (path.parent / location).open("rb") as file:
            while block := file.read(1 << 20):
                state.update(block)
    return state.hexdigest()


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
