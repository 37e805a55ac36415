"""Search through Qdrant.

- `source`: `QdrantSource`, snapshots for searches, and keeping the collection up to date;
- `search`: one search, every answer checked against the ledger; `points`: the collection, made, written and asked;
- `wire`: what the collection holds.
"""

from __future__ import annotations

from samespace.gallery.index.qdrant.source import QdrantSource

__all__ = ["QdrantSource"]
