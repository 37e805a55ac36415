"""Encoders: any model that turns items into vectors of one declared space, whoever made it.

Each family is loaded when it is first used, so that naming an encoder costs no import of torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from samespace.encoders.encoder import Encoder, Modality
from samespace.encoders.open import as_image_model, open_encoder, open_image_model

if TYPE_CHECKING:
    from samespace.encoders.callable import from_callable
    from samespace.encoders.onnx import from_onnx
    from samespace.encoders.open_clip import from_open_clip
    from samespace.encoders.sentence_transformers import from_sentence_transformers
    from samespace.encoders.timm import from_timm
    from samespace.encoders.transformers import from_transformers

__all__ = [
    "Encoder",
    "Modality",
    "as_image_model",
    "from_callable",
    "from_onnx",
    "from_open_clip",
    "from_sentence_transformers",
    "from_timm",
    "from_transformers",
    "open_encoder",
    "open_image_model",
]

_FAMILIES = ("callable", "onnx", "open_clip", "sentence_transformers", "timm", "transformers")


def __getattr__(name: str) -> Any:
    family = name.removeprefix("from_")
    if name != family and family in _FAMILIES:
        return getattr(importlib.import_module(f"samespace.encoders.{family}"), name)
    raise AttributeError(f"module 'samespace.encoders' has no attribute '{name}'")
