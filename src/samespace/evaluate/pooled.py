"""Vector sets whose items belong to templates, brought to one vector per template before they are compared."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from samespace.errors import InputError
from samespace.evaluate.templates import pool
from samespace.metrics._arrays import encode
from samespace.vectors import VectorSet


def pool_sides(
    queries: Mapping[str, VectorSet | None], gallery: Mapping[str, VectorSet | None]
) -> tuple[dict[str, VectorSet], list[str]]:
    """Pool the sets of each side that has templates; the others stay what they are.

    Args:
        queries: the sets of the query side by their role; None where there is none.
        gallery: the sets of the gallery side.

    Returns:
        All sets that there are by role, and a note for each side that was pooled.

    Raises:
        InputError: some sets of a side have templates and others none, or a template cannot be pooled.
    """
    found: dict[str, VectorSet] = {}
    notes = []
    for what, given in (("Queries", queries), ("Gallery", gallery)):
        side = {role: source for role, source in given.items() if source is not None}
        with_templates = [role for role, source in side.items() if source.templates is not None]
        without = [role for role in side if role not in with_templates]
        if with_templates and without:
            first, other = with_templates[0], without[0]
            raise InputError(
                f"{first} ({side[first].name}) has templates and {other} ({side[other].name}) has none; "
                "give all sets of a side the same templates, or none"
            )
        found |= {role: pooled(source) if with_templates else source for role, source in side.items()}
        if with_templates:
            role = with_templates[0]
            notes.append(
                f"{what}: {len(side[role]):,} vectors were pooled into {len(found[role]):,} templates, each the mean "
                "of its unit vectors, and each template is one item."
            )
    return found, notes


def pooled(source: VectorSet) -> VectorSet:
    """One unit vector per template: the mean of its items' unit vectors, with the template as id and their label.

    Raises:
        InputError: a template's items have unlike labels, or its vectors are zero or cancel each other.
    """
    assert source.templates is not None
    result = pool(source.vectors, source.templates, np.arange(len(source)))
    if result.empty.any():
        template = result.templates[int(np.argmax(result.empty))]
        raise InputError(f"{source.name}: template '{template}' has no direction: its vectors are zero or cancel")
    return VectorSet.from_arrays(
        result.vectors,
        labels=None if source.labels is None else _labels(source, result.templates),
        ids=result.templates,
        space=source.space,
        name=source.name,
    )


def _labels(source: VectorSet, templates: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """The label of each template."""
    assert source.labels is not None
    assert source.templates is not None
    which = np.searchsorted(templates, source.templates)
    first = np.full(len(templates), -1, dtype=np.int64)
    rows = np.arange(len(source))[::-1]
    first[which[rows]] = rows
    codes = encode(source.labels)[0]
    differ = codes != codes[first[which]]
    if differ.any():
        row = int(np.argmax(differ))
        raise InputError(
            f"{source.name}: template '{templates[which[row]]}' holds items of two labels, "
            f"'{source.labels[first[which[row]]]}' and '{source.labels[row]}'; a template is of one identity"
        )
    return np.asarray(source.labels[first])
