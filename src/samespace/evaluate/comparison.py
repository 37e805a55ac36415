"""How the vectors of a check are compared: options that do not fit each other, and sets cut to what is compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from samespace.errors import InputError, suggest
from samespace.evaluate.fusion import Support
from samespace.scoring.stored import StoredForm
from samespace.space import Score
from samespace.vectors import VectorSet

Sets = Mapping[str, VectorSet | None]


def require_comparison(score: Score, stored_as: StoredForm, truncate: int | None, *, fused: bool) -> None:
    """Refuse a score or a stored form that is none, and those that fused queries do not go with.

    Raises:
        InputError: one of these.
    """
    for what, value, kind in (("score", score, Score), ("stored form", stored_as, StoredForm)):
        if value not in get_args(kind):
            raise InputError(f"unknown {what} '{value}'; {suggest(str(value), get_args(kind))}")
    if truncate is not None and truncate < 1:
        raise InputError(f"truncate should be at least 1, got {truncate}")
    if fused and (score != "cosine" or stored_as == "binary"):
        given = f"{score} (--score)" if score != "cosine" else "binary vectors (--stored-as)"
        raise InputError(
            f"fused queries are sums of unit vectors, judged by cosines: leave fuse (--fuse) or {given} out"
        )


def as_compared(queries: Sets, gallery: Sets, score: Score, truncate: int | None) -> tuple[Sets, Sets]:
    """The sets of both sides by their role, truncated where asked.

    Raises:
        InputError: a set has fewer dimensions than asked, or templates, which are pooled into vectors of length one,
            where another score than the cosine is asked.
    """
    for side in (queries, gallery):
        for role, one in side.items():
            if one is not None and one.templates is not None and score != "cosine":
                raise InputError(
                    f"{role} ({one.name}) has templates, which are pooled into vectors of length one, but {score} "
                    "is of vectors as they are stored: pool them as your system does, or leave --score out"
                )
    if truncate is None:
        return queries, gallery
    # one set in two places, such as the queries of an old model checked against itself, stays one set
    cut = {id(one): one.truncated(truncate) for side in (queries, gallery) for one in side.values() if one is not None}
    by_role = [
        {role: None if one is None else cut[id(one)] for role, one in side.items()} for side in (queries, gallery)
    ]
    return by_role[0], by_role[1]


def truncated_support(support: Support, truncate: int | None) -> Support:
    """The sets that the share of fused queries is chosen on, truncated where asked."""
    if truncate is None:
        return support
    return support[0].truncated(truncate), support[1].truncated(truncate), support[2].truncated(truncate)
