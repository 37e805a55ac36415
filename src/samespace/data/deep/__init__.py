"""A second look at a source: copies of images, near copies, and labels that a model doubts."""

from __future__ import annotations

from samespace.data.deep.copies import Copies, Looked, find_copies, look
from samespace.data.deep.labels import Doubts, doubt_labels

__all__ = ["Copies", "Doubts", "Looked", "doubt_labels", "find_copies", "look"]
