"""Relevance judgements (qrels): which documents are relevant to which queries, in the forms of TREC and of BEIR."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from samespace.errors import InputError
from samespace.metrics._arrays import Ints
from samespace.names import require_names
from samespace.text import lines, parses_as_float

_GRADE = re.compile(r"-?\d{1,9}")
_FORMS = "four columns 'query 0 document grade' (TREC), or three with tabs 'query-id corpus-id score' (BEIR)"


@dataclass(frozen=True, eq=False)
class Judgements:
    """Judgements, one a row; a grade of 0 or less says that the document is not relevant.

    Attributes:
        queries: (J,) id of the query of each judgement, strings.
        documents: (J,) id of its document, strings.
        grades: (J,) int64.
        name: where they come from, for messages.

    Example:
        >>> Judgements.of({"q1": {"d3": 1, "d7": 2}}).grades.tolist()
        [1, 2]
    """

    queries: npt.NDArray[np.str_]
    documents: npt.NDArray[np.str_]
    grades: Ints
    name: str = "qrels"

    def __len__(self) -> int:
        return len(self.grades)

    @classmethod
    def of(cls, grades: Mapping[str, Mapping[str, int]], name: str = "qrels") -> Judgements:
        """From grades by query id and document id, the form of pytrec_eval, BEIR and sentence-transformers.

        Raises:
            InputError: a grade is no whole number, an id cannot be kept, or there is no judgement at all.
        """
        rows = []
        for query, documents in grades.items():
            for document, grade in documents.items():
                if not isinstance(grade, int | np.integer):
                    raise InputError(f"{name}: the grade of '{query}' and '{document}' is {grade!r}, no whole number")
                rows.append((str(query), str(document), int(grade)))
        if len({row[:2] for row in rows}) < len(rows):
            raise InputError(f"{name}: a query and a document are judged twice, once by a number and once by its text")
        return cls._checked(rows, name)

    @classmethod
    def read(cls, path: str | Path) -> Judgements:
        """Read a file of TREC's form (`query 0 document grade`, any white space) or BEIR's (three columns with tabs).

        BEIR's first line may name its columns.

        Raises:
            InputError: no such file, no judgement, or a line that is of another form or repeats a judgement.
        """
        path = Path(path)
        seen: dict[tuple[str, str], int] = {}
        rows = []
        for number, query, document, grade in _lines(path):
            first = seen.setdefault((query, document), number)
            if first != number:
                raise InputError(
                    f"{path}, line {number}: query '{query}' and document '{document}' were judged on line {first}; "
                    "judge each pair once"
                )
            rows.append((query, document, grade))
        return cls._checked(rows, str(path))

    @classmethod
    def _checked(cls, rows: list[tuple[str, str, int]], name: str) -> Judgements:
        if not rows:
            raise InputError(f"{name} holds no judgement; expected lines of {_FORMS}")
        queries, documents, grades = zip(*rows, strict=True)
        require_names(queries, "query ids", name)
        require_names(documents, "document ids", name)
        return cls(np.array(queries), np.array(documents), np.array(grades, dtype=np.int64), name)


def _lines(path: Path) -> Iterator[tuple[int, str, str, int]]:
    """Number of the line, query, document and grade of each judgement."""
    columns, first = 0, True
    for number, line in lines(path, "relevance judgements"):
        parts = [part.strip() for part in line.split("\t")]
        if len(parts) != 3:
            parts = line.split()
        header = first and len(parts) == 3 and "\t" in line and not parses_as_float(parts[2])
        columns, first = columns or len(parts), False
        if header:
            continue
        tabbed = len(parts) != 3 or "\t" in line
        if columns not in (3, 4) or len(parts) != columns or not tabbed or "" in parts:
            expected = {3: "three columns with tabs", 4: "four columns"}.get(columns) if columns != len(parts) else None
            raise InputError(f"{path}, line {number}: got {line.strip()[:80]!r}; expected {expected or _FORMS}")
        if not _GRADE.fullmatch(parts[-1]):
            raise InputError(f"{path}, line {number}: the grade is '{parts[-1][:80]}'; expected a whole number")
        yield number, parts[0], parts[-2], int(parts[-1])
