"""Upgrade the embedding model, keep the index.

The public names are loaded when first used, so that `samespace --help` does not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from samespace import bridge, data, evaluate, gallery, losses, metrics, models, prototypes, report, train
    from samespace.data import open_source
    from samespace.errors import GalleryError, InputError, SamespaceError, SpaceError, TrainingError
    from samespace.evaluate import Certificate, Probe, check, probe
    from samespace.gallery import Gallery
    from samespace.models import Embedder
    from samespace.serve import Client
    from samespace.space import Space, require_comparable
    from samespace.vectors import VectorSet

__version__ = "0.1.0"

__all__ = [
    "Certificate",
    "Client",
    "Embedder",
    "Gallery",
    "GalleryError",
    "InputError",
    "Probe",
    "SamespaceError",
    "Space",
    "SpaceError",
    "TrainingError",
    "VectorSet",
    "bridge",
    "check",
    "data",
    "evaluate",
    "gallery",
    "losses",
    "metrics",
    "models",
    "open_source",
    "probe",
    "prototypes",
    "report",
    "require_comparable",
    "train",
]

_HOME = {
    "Certificate": "evaluate",
    "Client": "serve",
    "Embedder": "models",
    "Gallery": "gallery",
    "GalleryError": "errors",
    "InputError": "errors",
    "Probe": "evaluate",
    "SamespaceError": "errors",
    "Space": "space",
    "SpaceError": "errors",
    "TrainingError": "errors",
    "VectorSet": "vectors",
    "check": "evaluate",
    "open_source": "data",
    "probe": "evaluate",
    "require_comparable": "space",
}
_ROOMS = frozenset(
    {"bridge", "data", "evaluate", "gallery", "losses", "metrics", "models", "prototypes", "report", "train"}
)


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"samespace.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(f"samespace.{_HOME[name]}"), name)
    raise AttributeError(f"module 'samespace' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
