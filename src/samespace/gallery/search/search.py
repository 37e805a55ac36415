"""`search`: one query, embedded once, against a gallery whose items are served by several spaces."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, ParamSpec, get_args

import numpy as np

from samespace.errors import GalleryError, InputError, SpaceError, suggest
from samespace.gallery.index.base import Snapshot, Source
from samespace.gallery.index.exact import DamagedFile
from samespace.gallery.ledger.filters import Where, conditions
from samespace.gallery.ledger.pool import Unreachable
from samespace.gallery.ledger.state import State, Vectors
from samespace.gallery.search.earlier import Earlier
from samespace.gallery.search.merge import Hit, Merge, Order, merged
from samespace.gallery.search.query_vectors import (
    Fusion,
    checked,
    fused,
    fused_calibration,
    fused_generation,
    leading,
)
from samespace.metrics.calibration import Calibration, Scale
from samespace.scoring.score import SCORE_NAMES
from samespace.space import Score, Space, lengths_differ

__all__ = ["Answer", "Hit", "Merge", "Pair", "search"]

_P = ParamSpec("_P")
_MOST_DAMAGED = 100
_MOST_HITS = 2**31


@dataclass(frozen=True)
class Pair:
    """How queries met the items of one space.

    Attributes:
        space: id of the space that served the items.
        dims: how many leading dimensions were compared.
        certified: whether a certificate allows the pair; queries and items of one space need none.
        calibrated: whether scores of the pair are on the scale.
    """

    space: str
    dims: int
    certified: bool
    calibrated: bool


@dataclass(frozen=True, eq=False)
class Answer:
    """What a search found, all of it as of one revision of the gallery.

    Attributes:
        hits: for each query the items found, best first, ties by id.
        revision: number of the last change that the search saw.
        space: id of the space that queries use.
        pairs: the spaces that the queries met, old to new.
        scale: of the scores.
        merge: what lists are sorted by.
        notes: what a user should know, a line each.
        score: what raw scores are.
    """

    hits: tuple[tuple[Hit, ...], ...]
    revision: int
    space: str
    pairs: tuple[Pair, ...]
    scale: Scale
    merge: Merge
    notes: tuple[str, ...] = ()
    score: Score = "cosine"


def _asked_again(answer: Callable[_P, Answer]) -> Callable[_P, Answer]:
    """Ask again where a row of an index file is not what was written: the next snapshot has it from the ledger.

    Where the server does not answer, ask once more.
    """

    @wraps(answer)
    def repeated(*given: _P.args, **named: _P.kwargs) -> Answer:
        for _ in range(_MOST_DAMAGED):
            try:
                return answer(*given, **named)
            except DamagedFile:
                continue
            except Unreachable:
                break
        return answer(*given, **named)

    return repeated


@_asked_again
def search(
    source: Source,
    queries: Vectors,
    space: Space,
    *,
    k: int = 10,
    where: Where = None,
    min_score: float | None = None,
    max_fmr: float | None = None,
    merge: Merge = "calibrated",
    scale: Scale | None = None,
    exact: bool = False,
    fusion: Fusion | None = None,
    earlier: Earlier | None = None,
) -> Answer:
    """Find the items most similar to each query.

    Each space is asked for its own best among the items that it serves; raw scores are put on the shared scale by the
    calibration of the (query space, gallery space) pair and merged. As these maps are increasing and no item is
    served twice, the merged list of exact lists is exact.

    Args:
        source: of the gallery.
        queries: (Q, D) vectors.
        space: that the queries were embedded in; it must be the one that the gallery is queried by.
        k: how many items at most per query, at least 1.
        where: conditions on labels and metadata, see `filters.Where`.
        min_score: the lowest score on the scale that counts.
        max_fmr: the highest false-match rate that counts, between 0 and 1, judged by each item's own pair.
        merge: `calibrated`; `raw` sorts by raw score whatever it means, for comparison.
        scale: `logistic` or `fmr`; by default the gallery's setting.
        exact: look at every vector, even where there is an approximate index.
        fusion: search the items of an older space with queries fused of two models.
        earlier: answers queries of an earlier space, where an upgrade grants them grace.

    Raises:
        InputError: queries or options that are not legal.
        SpaceError: the queries are of another space, or nothing allows a pair of spaces to be compared.
        GalleryError: several spaces serve the gallery and a pair lacks its calibration, or fused queries do.
    """
    filters = conditions(where)
    _check_options(k, min_score, max_fmr, merge)
    options = _Options(min(int(k), _MOST_HITS), min_score, max_fmr, merge, scale, exact, fusion)
    with source.snapshot(filters) as snapshot:
        generation = _graced(snapshot.state, space)
        if generation is None or earlier is None:
            return _answer(snapshot, queries, space, options)
    with earlier.source(generation).snapshot(filters) as snapshot:
        if generation in snapshot.state.graced:
            answer = _answer(snapshot, queries, space, options)
            earlier.count(generation, len(answer.hits))
            return replace(answer, notes=(*answer.notes, *earlier.notes(snapshot.state)))
    # the grace ended between the two snapshots
    with source.snapshot(filters) as snapshot:
        return _answer(snapshot, queries, space, options)


@dataclass(frozen=True, eq=False)
class _Options:
    """What was asked for, see `search`."""

    k: int
    min_score: float | None
    max_fmr: float | None
    merge: Merge
    scale: Scale | None
    exact: bool
    fusion: Fusion | None


def _graced(state: State, space: Space) -> int | None:
    """The earlier generation that queries of a space are answered from; None where it is none."""
    generation = state.generation_of(space)
    return generation if generation != state.query and generation in state.graced else None


def _answer(snapshot: Snapshot, queries: Vectors, space: Space, options: _Options) -> Answer:
    """The answer from one snapshot; see `search`."""
    state, generations, fusion, merge = snapshot.state, snapshot.generations(), options.fusion, options.merge
    _require_query_space(state, space)
    by_score = state.spaces[state.query].score
    vectors = checked(queries, space, by_score)
    meeting, fusion_notes = fused_generation(state, generations, fusion)
    _require_certified_share(state, generations, meeting, None if fusion is None else fusion.alpha)
    # a certificate of fused queries may say that the new one alone is best
    alone = {one: state.fused.get((state.query, one, 1.0)) for one in generations}
    calibrations = {one: state.calibrations.get((state.query, one), alone[one]) for one in generations}
    if fusion is not None and meeting is not None:
        calibrations[meeting] = fused_calibration(state, meeting, fusion.alpha)
    pairs = tuple(_pair(state, one, calibrated=calibrations[one] is not None) for one in generations)
    threshold = options.min_score is not None or options.max_fmr is not None
    _require_calibrations(state, calibrations, merge, threshold=threshold)
    scale = _scale(options.scale, state)
    level = None if options.max_fmr is None else -math.log10(options.max_fmr)
    # one space without a calibration has no scores, and raw ones sort it the same
    by: Merge = merge if all(pair.calibrated for pair in pairs) else "raw"
    order = Order(calibrations, scale, by, options.min_score, level)
    dims = {one: pair.dims for one, pair in zip(generations, pairs, strict=True)}
    asked = _asked(vectors, dims, by_score, meeting, fusion)
    found = snapshot.best(asked, options.k, order.key, exact=options.exact)
    items = np.unique(found.items)
    ids = dict(zip(items.tolist(), snapshot.ids(items), strict=True))
    spaces = {one: pair.space for one, pair in zip(generations, pairs, strict=True)}
    hits = merged(found, options.k, order, queries=len(vectors), ids=ids, spaces=spaces)
    notes = (*_notes(state, generations, pairs, merge), *fusion_notes)
    return Answer(hits, state.revision, space.id, pairs, scale, merge, notes, by_score)


def _asked(
    vectors: Vectors, dims: Mapping[int, int], score: Score, meeting: int | None, fusion: Fusion | None
) -> dict[int, Vectors]:
    """The queries that the items of each space are searched with; the space `meeting` is searched with fused ones.

    Spaces of the same dimensions share one array, which the index looks at once.
    """
    asked: dict[int, Vectors] = {}
    if meeting is not None and fusion is not None and fusion.old is not None and fusion.space is not None:
        asked[meeting] = fused(checked(fusion.old, fusion.space), vectors, dims[meeting], fusion.alpha)
    cut = {width: leading(vectors, width, score) for width in {dims[one] for one in dims if one not in asked}}
    return {one: cut[width] for one, width in dims.items() if one not in asked} | asked


def _check_options(k: Any, min_score: Any, max_fmr: Any, merge: Any) -> None:
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise InputError(f"k is how many items to find, a whole number of at least 1, got {k!r}")
    if merge not in get_args(Merge):
        raise InputError(f"unknown merge '{merge}'; {suggest(str(merge), get_args(Merge))}")
    if min_score is not None and not math.isfinite(min_score):
        raise InputError(f"min_score is a finite number on the calibrated scale, got {min_score}")
    if max_fmr is not None and not 0 < max_fmr < 1:
        raise InputError(f"max_fmr is a false-match rate between 0 and 1, such as 1e-4, got {max_fmr}")


def _scale(scale: Scale | None, state: State) -> Scale:
    used = state.settings.get("scale", "logistic") if scale is None else scale
    if used not in get_args(Scale):
        raise InputError(f"unknown scale '{used}'; {suggest(str(used), get_args(Scale))}")
    return used


def _require_query_space(state: State, space: Space) -> None:
    expected = state.spaces[state.query].space
    if space == expected:
        return
    for generation, stored in state.spaces.items():
        if stored.space == space:
            step = "upgrade the gallery first" if generation > state.query else "embed queries with the newer model"
            if state.filling is not None and generation == state.filling.new:
                step = "it is being filled, gallery.switch() lets queries use it"
            back = "" if generation > state.query or stored.retired else ", or roll the gallery back"
            raise SpaceError(f"the gallery is queried by {expected}, got vectors of its space {space}; {step}{back}")
    raise SpaceError(
        f"the gallery is queried by {expected}, got vectors of space {space}, which it does not know"
        f"{lengths_differ(space, [expected])}"
    )


def _dims(state: State, generation: int) -> int:
    query, gallery = state.spaces[state.query].space, state.spaces[generation].space
    if generation == state.query:
        return gallery.dim
    _require_one_score(state, generation)
    link = state.links.get((state.query, generation))
    if link is None:
        raise SpaceError(
            f"nothing allows queries of space {query} on items of {gallery}; roll the gallery back, run 'samespace "
            "check' for the pair and upgrade with its certificate"
        )
    if link.dims != gallery.dim or link.dims > query.dim:
        raise SpaceError(
            f"the permission for queries of space {query} on items of {gallery} compares {link.dims} dimensions, which "
            "does not fit; roll the gallery back, run 'samespace check' again and upgrade with its certificate"
        )
    return link.dims


def _require_one_score(state: State, generation: int) -> None:
    kept, asked = state.spaces[generation], state.spaces[state.query]
    if kept.score != asked.score:
        raise SpaceError(
            f"queries of space {asked.space} go by {SCORE_NAMES[asked.score]} and items of {kept.space} by "
            f"{SCORE_NAMES[kept.score]}: the two are never one list; roll the gallery back"
        )


def _require_certified_share(
    state: State, generations: Sequence[int], meeting: int | None, alpha: float | None
) -> None:
    """Refuse queries other than those fused as the certificate of a pair says."""
    for generation in generations:
        link = state.links.get((state.query, generation))
        if (
            link is None
            or generation == state.query
            or link.share in (None, 1, alpha if generation == meeting else None)
        ):
            continue
        got = "the new model's alone" if alpha is None or generation != meeting else f"a share of {alpha:g}"
        raise SpaceError(
            f"the certificate of queries of {state.spaces[state.query].space} on items of "
            f"{state.spaces[generation].space} is of fused queries, {link.share:g} of each by the new model, got "
            f"{got}; search with fuse={link.share:g}, and old_queries=… or images for queries"
        )


def _require_calibrations(
    state: State, calibrations: Mapping[int, Calibration | None], merge: Merge, *, threshold: bool
) -> None:
    for generation, calibration in calibrations.items():
        if calibration is not None:
            continue
        pair = f"queries of space {state.spaces[state.query].space} on items of {state.spaces[generation].space}"
        advice = "run gallery.calibrate(queries, items) on items that no model was trained on"
        if threshold:
            raise GalleryError(f"a threshold is in calibrated units, and {pair} have no calibration; {advice}")
        if len(calibrations) > 1 and merge == "calibrated":
            raise GalleryError(
                f"{len(calibrations)} spaces serve the gallery, and {pair} have no calibration, so their scores do not "
                f'mean the same; {advice}, or merge raw scores by name: merge="raw"'
            )


def _pair(state: State, generation: int, *, calibrated: bool) -> Pair:
    link = state.links.get((state.query, generation))
    certified = generation == state.query or (link is not None and link.certificate is not None)
    return Pair(
        state.spaces[generation].space.id,
        _dims(state, generation),
        certified,
        calibrated,
    )


def _notes(state: State, generations: Sequence[int], pairs: Sequence[Pair], merge: Merge) -> tuple[str, ...]:
    query = state.spaces[state.query].space
    notes = [
        f"queries of space {query} on items of {state.spaces[generation].space} are accepted without a certificate"
        for generation, pair in zip(generations, pairs, strict=True)
        if not pair.certified
    ]
    if merge == "raw" and len(generations) > 1:
        notes.append(
            f"raw scores of {len(generations)} spaces are merged as they are, though they do not mean the same"
        )
    return tuple(notes)
