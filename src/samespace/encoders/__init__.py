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

__all__ = ["Encoder", "Modality", "as_image_model", "from_callable", "open_encoder", "open_image_model"]

_HOME = {"from_callable": "callable"}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"samespace.encoders.{_HOME[name]}"), name)
    raise AttributeError(f"module 'samespace.encoders' has no attribute '{name}'")
