"""`Manifest`: which index files of a space count, and what they should hold."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Any

MANIFEST = "manifest.json"
"""Its file, in the folder of a space."""


@dataclass(frozen=True)
class Manifest:
    """Which index files of a space count.

    Attributes:
        upto: the highest row number among them.
        segments: name, rows and checksums of each.
        graph: name, rows, highest row number and checksum of the approximate index, if there is one.
        stamp: tells one version of the file from another; None where there is no file.
        items: name of the file with the rows of items, if there is one; what it holds the ledger says.
    """

    upto: int = 0
    segments: tuple[dict[str, Any], ...] = ()
    graph: dict[str, Any] | None = None
    stamp: tuple[int, int, int] | None = None
    items: str | None = None


_GRAPH = frozenset({"name", "rows", "crc"})
_WITHIN = {"served": _GRAPH, "vectors": frozenset({"bytes", "head", "head_crc", "crc"})}


def well_formed(entry: Any, keys: Set[str] = _GRAPH) -> bool:
    """Whether an entry read from a file has these keys, those within it theirs, and all are numbers, texts or lists."""
    if not (isinstance(entry, dict) and entry.keys() >= keys and _plain(entry)):
        return False
    return all(well_formed(entry[key], needed) for key, needed in _WITHIN.items() if key in entry)


def _plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_plain(one) for one in value.values())
    if isinstance(value, list):
        return all(type(one) is int and abs(one) < 2**63 for one in value)
    return value is None or isinstance(value, str) or (type(value) is int and abs(value) < 2**63)


def served_entry(graph: dict[str, Any]) -> dict[str, Any] | None:
    """The manifest's entry of the graph of served rows, which lies within that of all; None where there is none."""
    served = graph.get("served")
    return served if isinstance(served, dict) else None


def graph_entries(graph: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The manifest's entries of all graphs of a space."""
    return [] if graph is None else [graph, *graph_entries(served_entry(graph))]


def with_served(graph: dict[str, Any], served: dict[str, Any] | None = None) -> dict[str, Any]:
    """The manifest's entry of a graph with that of the one of served rows, or without."""
    return {key: value for key, value in graph.items() if key != "served"} | ({"served": served} if served else {})
