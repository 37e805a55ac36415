"""Vectors with their items: `VectorSet`, and the forms it is read from and written to.

- `vectorset`: `VectorSet`, vectors of one space with their items, on disk as a folder;
- `opening`: which form an address has; `source`: vectors read in batches; `importing`: any form to a folder;
- `arrays`, `npz`, `files`, `text_tables`, `stores/`: the forms; `tables`, `columns`: what is in a table's columns;
- `declared`: what a user says of vectors; `truncation`: their leading values;
- `exporting`, `stored`: a set as it is written elsewhere.
"""

from samespace.vectors.vectorset import Floats, VectorSet, find_ids

__all__ = ["Floats", "VectorSet", "find_ids"]
