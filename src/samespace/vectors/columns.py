"""Which column of a table holds the vectors, the ids, the labels and the templates: as named, or as usually called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from samespace.errors import InputError, suggest

if TYPE_CHECKING:
    import pyarrow

# the first name that is there counts, whatever its case
_VECTORS = ("vector", "vectors", "embedding", "embeddings", "emb", "feature", "features")
_USUAL = {
    "id": ("id", "ids", "item_id", "_id", "key", "uuid", "path", "image_path", "filename", "file_name"),
    "label": ("label", "labels", "class", "identity", "target", "class_id", "person_id", "pid", "category"),
    "template": ("template", "templates", "template_id"),
}


@dataclass(frozen=True)
class Names:
    """What a user calls the columns of a table; None where the usual names are to be looked for.

    Attributes:
        vector: the column of lists of floats.
        id: the column of unique ids.
        label: the column of classes.
        template: the column of templates.
        ids: a file with the ids of vectors that stand alone, such as those of an `.npy` file.
        table: a table or collection of a database.
        split: of a Hugging Face data set.
    """

    vector: str | None = None
    id: str | None = None
    label: str | None = None
    template: str | None = None
    ids: str | None = None
    table: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class Columns:
    """The columns of a table by what they are.

    Attributes:
        vector: the vectors; "" where the table holds items alone.
        id: the ids; None where there are none.
        label: the classes; None where there are none.
        template: the templates; None where there are none.
        metadata: all other columns, which are kept beside the items.
        left_out: further columns of vectors, which are not kept.
        note: what else should be known of them; empty where nothing.
    """

    vector: str
    id: str | None = None
    label: str | None = None
    template: str | None = None
    metadata: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    note: str = ""

    def roles(self) -> dict[str, str]:
        """The column of each role that has one: `id`, `label`, `template`."""
        named = {"id": self.id, "label": self.label, "template": self.template}
        return {role: name for role, name in named.items() if name is not None}

    def __str__(self) -> str:
        parts = [f"vectors from column '{self.vector}'"] if self.vector else []
        plural = {"id": "ids", "label": "labels", "template": "templates"}
        parts += [f"{plural[role]} from '{name}'" for role, name in self.roles().items()]
        if self.id is None:
            parts.append("no ids")
        if self.left_out:
            parts.append(f"not read: {', '.join(self.left_out)}, which are vectors too")
        if self.note:
            parts.append(self.note)
        return ", ".join(parts)


def find_columns(schema: pyarrow.Schema, names: Names, where: str, *, vectors: bool = True) -> Columns:
    """Tell the columns of a table; `vectors`: whether one of them should hold vectors.

    Raises:
        InputError: a named column is not there, none or several may be the vectors, or one has another type.
    """
    columns = list(schema.names)
    if twice := sorted({name for name in columns if columns.count(name) > 1}):
        raise InputError(f"{where} names the column '{twice[0]}' twice")
    lists = [name for name in columns if is_vector(schema.field(name).type)]
    vector = _vector_column(schema, lists, names.vector, where) if vectors else ""
    free = [name for name in columns if name != vector and name not in lists]
    roles = {role: _column(free, columns, getattr(names, role), role, where) for role in _USUAL}
    taken = [name for name in (vector, *roles.values()) if name]
    if len(set(taken)) < len(taken):
        twice = [name for name in taken if taken.count(name) > 1]
        raise InputError(f"{where}: the column '{twice[0]}' cannot be two things at once: {', '.join(taken)}")
    kept = tuple(name for name in free if name not in taken)
    left = tuple(name for name in lists if name not in taken)
    return Columns(vector, roles["id"], roles["label"], roles["template"], kept, left)


def is_usual(name: str, role: Literal["id", "label", "template"]) -> bool:
    """Whether a column of this role is usually called so."""
    return name.lower() in _USUAL[role]


def is_vector(kind: pyarrow.DataType) -> bool:
    """Whether a column of this type may hold vectors: lists of floats, of a fixed size or not."""
    import pyarrow
    import pyarrow.types as types

    if isinstance(kind, pyarrow.BaseExtensionType):
        kind = kind.storage_type
    listed = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return bool(listed and types.is_floating(kind.value_type))


def _vector_column(schema: pyarrow.Schema, lists: Sequence[str], named: str | None, where: str) -> str:
    if named is not None:
        if named not in schema.names:
            raise InputError(f"{where} has no column '{named}'; {suggest(named, schema.names)}")
        if named not in lists:
            raise InputError(f"{where}: the column '{named}' is {schema.field(named).type}; expected lists of floats")
        return named
    if len(lists) == 1:
        return lists[0]
    if not lists:
        held = ", ".join(f"{item.name} ({item.type})" for item in schema)[:300] or "nothing"
        raise InputError(
            f"{where} has no column 'vector' or the like, with a list of numbers (floats) in each row; it has {held}"
        )
    usual = [name for name in lists if name.lower() in _VECTORS]
    if len(usual) == 1:
        return usual[0]
    raise InputError(
        f"{where} has {len(lists)} columns of vectors, {', '.join(lists)}; say which: "
        f"--vector-column {lists[0]}, or the address '{where},vector={lists[0]}'"
    )


def _column(free: Sequence[str], columns: Sequence[str], named: str | None, role: str, where: str) -> str | None:
    if named is not None:
        if named not in columns:
            raise InputError(f"{where} has no column '{named}' ({role}s); {suggest(named, columns)}")
        return named
    lower = {name.lower(): name for name in reversed(free)}
    return next((lower[name] for name in _USUAL[role] if name in lower), None)
