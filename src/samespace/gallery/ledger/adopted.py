"""A table of an application whose vectors a gallery serves where they are: the SQL that puts it beside the ledger.

The ledger's schema gets a table `adopted` (number, key and row version of each row that the ledger has listed) and
views, never a copy of a vector. `adopted_rows` is the application's table under fixed names; `vector_<generation>` its
vectors as those of a space. Vectors of other spaces lie in tables `side_<generation>`, and their view
`vector_<generation>` shows only those whose row is there and still has the vector that it had when the new one was
made: a row that the application changes or deletes has lost its new vector for the very next search.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from samespace.gallery.ledger.schema import postgres_vectors

UNKNOWN_CHECKSUM = -1
"""In the place of a CRC-32 where the application stores the vector, and no checksum with it."""

# the version is PostgreSQL's own of a row; another one may still hold the same vector
_SAME_VECTOR = "CASE WHEN {row}.version = a.version THEN TRUE ELSE w.content = {row}.content END"


@dataclass(frozen=True)
class AdoptedTable:
    """Where an application keeps the vectors of one space of a gallery.

    Attributes:
        schema: of the database.
        table: its name.
        key: the column of ids.
        vector: the column of vectors.
        kind: the type of that column.
        label: the column of labels, if one is named.
        metadata: columns that searches may filter on.
        generation: of the space of these vectors.
    """

    schema: str
    table: str
    key: str
    vector: str
    kind: Literal["vector", "halfvec"]
    label: str | None = None
    metadata: tuple[str, ...] = ()
    generation: int = 1

    @property
    def quoted(self) -> str:
        """The table as SQL."""
        return f"{quoted(self.schema)}.{quoted(self.table)}"

    @property
    def coming(self) -> str:
        """The column that a release fills, and that takes the place of the present one."""
        return f"{self.vector}_new"

    def tables(self) -> list[str]:
        """Statements that make what stands beside the ledger's own tables, before any space."""
        return [
            f"CREATE TABLE adopted AS SELECT NULL::bigint AS item, {quoted(self.key)} AS key, '0'::xid AS version "
            f"FROM {self.quoted} WITH NO DATA",
            "ALTER TABLE adopted ADD PRIMARY KEY (item), ADD UNIQUE (key), ALTER version SET NOT NULL",
            "INSERT INTO meta SELECT 'adopted server', system_identifier::text FROM pg_control_system()",
            *self.views(),
        ]

    def views(self) -> list[str]:
        """Statements that make the views of the application's rows."""
        return [
            self._rows(),
            # label and metadata are read where they are
            "CREATE VIEW described AS SELECT i.no, i.id, i.content, r.label, r.metadata, i.deleted "
            "FROM item i JOIN adopted a ON a.item = i.no JOIN adopted_rows r ON r.key = a.key",
        ]

    def vectors(self, generation: int, dim: int) -> list[str]:
        """Statements that make the vectors of a space: a view, and where they are the ledger's the table under it."""
        if generation == self.generation:
            return [self._own(generation)]
        table = f"side_{generation}"
        return [
            *(statement.replace(f"vector_{generation}", table) for statement in postgres_vectors(generation, dim)),
            f"CREATE VIEW vector_{generation} AS SELECT w.no, w.item, w.content, w.crc, w.value FROM {table} w "
            f"JOIN adopted a ON a.item = w.item JOIN adopted_rows r ON r.key = a.key "
            f"WHERE {_SAME_VECTOR.format(row='r')}",
        ]

    def content(self, value: str) -> str:
        """SQL of what stands for a vector, `value`, as the content of its item."""
        return f"'row:' || left(encode(sha256({self.kind}_send({value})), 'hex'), 32)"

    def _rows(self) -> str:
        value = f"t.{quoted(self.vector)}"
        label = "NULL::text" if self.label is None else f"t.{quoted(self.label)}::text"
        pairs = ", ".join(f"{_text(name)}, t.{quoted(name)}" for name in self.metadata)
        return (
            f"CREATE VIEW adopted_rows AS SELECT t.{quoted(self.key)} AS key, {value} AS value, t.xmin AS version, "
            f"{self.content(value)} AS content, {label} AS label, "
            f"jsonb_strip_nulls(jsonb_build_object({pairs})) AS metadata FROM {self.quoted} t WHERE {value} IS NOT NULL"
        )

    def _own(self, generation: int) -> str:
        return (
            f"CREATE VIEW vector_{generation} AS SELECT a.item AS no, a.item, r.content, "
            f"{UNKNOWN_CHECKSUM}::bigint AS crc, r.value::vector AS value FROM adopted a "
            "JOIN adopted_rows r ON r.key = a.key"
        )


def superseded(newer: tuple[int, ...]) -> str:
    """SQL that is true for a row `v` of `adopted_rows`, joined to `adopted a`, that one of the newer spaces serves."""
    served = [
        f"EXISTS (SELECT 1 FROM side_{generation} w WHERE w.item = a.item AND {_SAME_VECTOR.format(row='v')})"
        for generation in newer
    ]
    return f"({' OR '.join(served) or 'FALSE'})"


def quoted(name: str) -> str:
    """A name as SQL, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
