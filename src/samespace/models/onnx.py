"""Export of an embedder to ONNX, with a check that both give the same vectors (extra `onnx`)."""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from samespace.errors import InputError
from samespace.files import replacing
from samespace.models.embedder import Embedder
from samespace.models.preprocessing import Preprocessing

_OPSET = 18
_PARITY_IMAGES = 4


class _Network(nn.Module):
    """What is exported: prepared float images in, unit vectors out."""

    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        self.embedder = embedder

    def forward(self, images: Tensor) -> Tensor:
        return F.normalize(self.embedder(self.embedder.preprocessing.normalize(images)), dim=1)


def export_onnx(embedder: Embedder, path: str | Path, *, tolerance: float = 1e-4) -> float:
    """Write an ONNX model from float images in [0, 1] (B, C, height, width) to unit vectors (B, embedding_dim).

    Images are brought to that size before, as the model's preprocessing says; the file says how under
    `samespace.preprocessing`, and its space under `samespace.identity`. Mean and std are inside the network.

    The file is kept only if ONNX Runtime's vectors differ from torch's by at most `tolerance` in any component.

    Returns:
        The largest difference seen.

    Raises:
        InputError: the extra is not installed, torch is too old, or the vectors differ by more than `tolerance`.
    """
    onnx = _library()
    network = _Network(embedder).eval()
    program = _program(network, _images(embedder))
    with replacing(Path(path)) as temporary:
        model = program.model_proto
        for key, value in _facts(embedder, model).items():
            entry = model.metadata_props.add()
            entry.key, entry.value = key, value
        onnx.save(model, temporary)
        difference = _difference(network, temporary)
        if not difference <= tolerance:
            raise InputError(
                f"ONNX vectors differ from torch's by {difference:.1e}, more than {tolerance:.1e}; not kept"
            )
    return difference


def exported_before(embedder: Embedder, path: str | Path) -> float | None:
    """What `export_onnx` says of a file that it made of this very embedder; None where it is any other.

    Raises:
        InputError: the extra is not installed.
    """
    onnx = _library()
    try:
        model = onnx.load(path)
        held = {entry.key: entry.value for entry in model.metadata_props}
        if not _facts(embedder, model).items() <= held.items():
            return None
        return _difference(_Network(embedder).eval(), Path(path))
    except Exception:  # whatever readers of a file that is something else, or damaged, raise
        return None


def _library() -> Any:
    try:
        import onnx
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise InputError("ONNX export needs onnx, onnxscript and onnxruntime: pip install 'samespace[onnx]'") from None
    return onnx


def _images(embedder: Embedder) -> Tensor:
    preprocessing = embedder.preprocessing
    shape = (_PARITY_IMAGES, preprocessing.channels, *preprocessing.fit.size)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def _difference(network: _Network, path: Path) -> float:
    """The largest difference between the vectors of a network and those of its export, for a batch and an image."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    images = _images(network.embedder)
    with torch.no_grad():
        expected = network(images).numpy()
    (vectors,) = session.run(["vectors"], {"images": images.numpy()})
    (single,) = session.run(["vectors"], {"images": images[:1].numpy()})
    return float(max(np.abs(vectors - expected).max(), np.abs(single - expected[:1]).max()))


def _facts(embedder: Embedder, model: Any) -> dict[str, str]:
    """What the file says about itself: the space, how images are to be prepared, and what network that holds for."""
    return {
        "samespace.space": embedder.space.id,
        "samespace.identity": json.dumps(embedder.space.to_dict(), sort_keys=True),
        "samespace.preprocessing": json.dumps(preprocessing_of_input(embedder.preprocessing), sort_keys=True),
        "samespace.network": network_digest(model),
    }


def preprocessing_of_input(preprocessing: Preprocessing) -> dict[str, Any]:
    """How images are brought to what an exported network takes: mean and std are inside it."""
    return replace(preprocessing, mean=0.0, std=1.0).to_dict()


def network_digest(model: Any) -> str:
    """The sha256 (hex) over an ONNX model's nodes and weights, whatever program wrote the file."""
    from onnx import numpy_helper

    state = hashlib.sha256()
    for node in model.graph.node:
        attributes = sorted(one.SerializeToString(deterministic=True) for one in node.attribute)
        state.update(repr((node.domain, node.op_type, [*node.input], [*node.output], attributes)).encode())
    for weight in sorted(model.graph.initializer, key=lambda one: one.name):
        values = numpy_helper.to_array(weight)
        state.update(repr((weight.name, str(values.dtype), values.shape)).encode() + values.tobytes())
    return state.hexdigest()


def _program(network: nn.Module, images: Tensor) -> Any:
    """What torch's exporter makes of a network, for batches of any size; its remarks about itself are kept quiet."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # torch's exporter warns about its own internals, which no user can act on
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                network,
                (images,),
                input_names=["images"],
                output_names=["vectors"],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                opset_version=_OPSET,
                dynamo=True,
                verbose=False,
            )
    except TypeError as error:
        raise InputError(f"ONNX export needs torch 2.6 or newer; this is {torch.__version__}") from error
    finally:
        logger.setLevel(level)
    if program is None:
        raise InputError("torch could not export this network to ONNX")
    return program
