"""Vectors with their items: `VectorSet`, and the forms it is read from and written to."""

from samespace.vectors.vectorset import Floats, VectorSet, find_ids

__all__ = ["Floats", "VectorSet", "find_ids"]
