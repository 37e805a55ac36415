"""A vector set with all columns of its items, as it is written elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from samespace.space import Space
from samespace.vectors.declared import Floats
from samespace.vectors.tables import SPACE_KEY
from samespace.vectors.truncation import truncated

if TYPE_CHECKING:
    import pyarrow

_ROWS = 16_384

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Stored:
    """A vector set with all columns of its items, to be written elsewhere.

    Attributes:
        vectors: (N, D) float32 or float16.
        items: N rows; `id`, then `label` and `template` where there are any, then metadata.
        space: of the vectors, None where none is declared.
        name: where the set comes from.
    """

    vectors: Floats
    items: pyarrow.Table
    space: Space | None
    name: str

    @property
    def dim(self) -> int:
        """Dimensions of each vector."""
        return int(self.vectors.shape[1])

    def truncated(self, dim: int) -> Stored:
        """The leading `dim` values of each vector, as `VectorSet.truncated`."""
        vectors, space = truncated(self.vectors, dim, self.space, self.name)
        return replace(self, vectors=vectors, space=space)

    def blocks(self) -> Iterator[tuple[Floats, pyarrow.Table]]:
        """The vectors and their items, some at a time."""
        for row in range(0, len(self.vectors), _ROWS):
            yield np.ascontiguousarray(self.vectors[row : row + _ROWS]), self.items.slice(row, _ROWS)

    def tables(self) -> Iterator[pyarrow.Table]:
        """The same as tables whose column `vector` holds lists of fixed size; their metadata hold the space."""
        import pyarrow

        for vectors, items in self.blocks():
            lists = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(vectors.ravel()), self.dim)
            name = "vector" if "vector" not in items.column_names else "vector_"
            table = items.append_column(name, lists)
            if self.space is not None:
                table = table.replace_schema_metadata({SPACE_KEY: json.dumps(self.space.to_dict())})
            yield table


def ids_file(vectors: Path) -> Path:
    """Where the items of vectors are written whose form holds no ids."""
    return vectors.with_name(f"{vectors.stem}.ids.parquet")
