"""A collection of an application in Qdrant whose vectors a gallery serves where they are: what a ledger keeps of it.

The ledger, on SQLite, gets a table `adopted` (number and point of each item), never a copy of a vector. The view
`vector_<generation>` says which items have a vector there; its values come from the collection. New vectors lie in the
ledger as always.
"""

from __future__ import annotations

from dataclasses import dataclass

from samespace.gallery.ledger.adopted import UNKNOWN_CHECKSUM

COMING = "CREATE TABLE IF NOT EXISTS coming (item INTEGER PRIMARY KEY, made TEXT NOT NULL, content TEXT NOT NULL)"
"""New vectors that a release has written: the item's content that each was made of, and its own content there."""
TABLE = "CREATE TABLE adopted (item INTEGER PRIMARY KEY, point TEXT NOT NULL UNIQUE)"


@dataclass(frozen=True)
class AdoptedCollection:
    """Where an application keeps the vectors of one space of a gallery.

    Attributes:
        address: `http(s)://…` of the server, or `qdrant:FOLDER` of a folder of its client.
        collection: its name.
        vector: name of the vectors; empty where a point has one without a name.
        key: of the payload that has the items' ids; None where they are those of the points.
        label: key of the payload that has labels, if one is named.
        metadata: keys of the payload that searches may filter on; `a.b` is `b` within `a`.
        generation: of the space of these vectors.
    """

    address: str
    collection: str
    vector: str
    key: str | None = None
    label: str | None = None
    metadata: tuple[str, ...] = ()
    generation: int = 1

    def view(self) -> str:
        """The statement that makes the vectors of the space, as far as the ledger has listed them."""
        return (
            f"CREATE VIEW vector_{self.generation} AS SELECT no, no AS item, content, {UNKNOWN_CHECKSUM} AS crc, "
            "NULL AS value FROM item WHERE deleted = 0"
        )
