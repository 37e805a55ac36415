"""The HTTP service of galleries, and its client."""

from __future__ import annotations

from samespace.serve.client import Client

__all__ = ["Client"]
