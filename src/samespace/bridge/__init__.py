"""Bridge: maps between two spaces learnt from vectors alone, and fusion of old and new queries."""

from __future__ import annotations

from samespace.bridge.bridge import Bridge, Direction, Method
from samespace.bridge.fit import METHODS, fit
from samespace.bridge.fusion import FusionChoice, choose_alpha
from samespace.bridge.support import Support
from samespace.fusion import fuse, fused_space

__all__ = [
    "METHODS",
    "Bridge",
    "Direction",
    "FusionChoice",
    "Method",
    "Support",
    "choose_alpha",
    "fit",
    "fuse",
    "fused_space",
]
