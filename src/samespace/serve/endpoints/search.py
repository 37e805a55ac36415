"""`POST /v1/{gallery}/search`: queries as vectors, images or texts."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
from fastapi import Response

from samespace.errors import InputError, SamespaceError
from samespace.gallery import Answer
from samespace.gallery.ledger.state import StoredSpace
from samespace.gallery.search.queries import embed_queries, older_missing, older_needed
from samespace.serve.limits import Limits
from samespace.serve.service import At, Place, routes
from samespace.serve.wire import SearchBody, Vectors, decoded, filter_of, known_space
from samespace.vectors import VectorSet

router = routes("read")
_SPACE_ELSEWHERE = "'space' goes with images and texts; vectors name their own"


@router.post("/search", response_model=Answer, summary="Find the items most similar to each query")
async def search(at: At, body: SearchBody) -> Response:
    """Vectors name their space; images and texts are embedded by the model at hand. All of an answer is as of one
    revision of the gallery.
    """  # noqa: D205
    began = time.perf_counter()
    limits = at.service.limits
    limits.require("k", body.k, "k")
    given = [mode for mode in ("queries", "images", "texts") if getattr(body, mode) is not None]
    if len(given) != 1:
        raise InputError("give 'queries', 'images' or 'texts', one of the three")
    options = {
        "k": body.k, "where": filter_of(body.where, limits), "min_score": body.min_score, "max_fmr": body.max_fmr,
        "merge": body.merge, "scale": body.scale, "exact": body.exact, "count": body.count,
    }  # fmt: skip
    if body.queries is not None and body.fuse is None and body.old_queries is None:
        if body.space is not None:
            raise InputError(_SPACE_ELSEWHERE)
        key = (at.name, body.queries.space, repr(options))
        work = partial(_found_together, at, options)
        answer = await at.service.searches.run(key, body.queries, work, size=body.queries.numbers())
    else:
        answer = await at.run(lambda: _found(at, body, options))
    mode = "vectors" if body.queries is not None else given[0]
    at.service.metrics.search(at.name, answer.space, mode, answer, time.perf_counter() - began)
    return Response(msgspec.json.encode(answer), media_type="application/json")


def images_of(given: Sequence[tuple[str, str]], limits: Limits) -> dict[str, bytes]:
    """Image files by id, from (id, base64); none of more pixels than is legal.

    Raises:
        InputError: no base64, no image of a known kind, too large, or an id that comes twice.
    """
    from PIL import Image

    from samespace.data.decoding.pixels import formats, prepare_pillow

    prepare_pillow()
    found: dict[str, bytes] = {}
    for name, text in given:
        held = decoded(text, f"the image '{name}'")
        try:
            with Image.open(io.BytesIO(held), formats=formats()) as image:
                pixels = image.width * image.height
        except Image.DecompressionBombError:
            pixels = limits.pixels + 1
        except Exception:  # Pillow raises nearly anything on damaged bytes
            raise InputError(f"the image '{name}' is not an image of a known kind") from None
        limits.require("pixels", pixels, f"pixels of the image '{name}'")
        if name in found:
            raise InputError(f"the id '{name}' comes twice")
        found[name] = held
    return found


def _found_together(at: Place, options: Mapping[str, Any], given: Sequence[Vectors]) -> Sequence[Answer | Exception]:
    """The answer to each of several requests for vectors of one space, found by one search as of one revision."""
    try:
        state = at.gallery.state
        sets = [_limited(at, one.vector_set(state, "queries")) for one in given]
        queries = sets[0]
        if len(sets) > 1:
            values = np.concatenate([one.vectors for one in sets])
            queries = VectorSet.from_arrays(values, space=queries.space, name=queries.name)
        answer = at.gallery.search(queries, **options)
    except SamespaceError as error:
        # alone, each has an error of its own, or an answer
        return [error] if len(given) == 1 else [_found_together(at, options, [one])[0] for one in given]
    ends = np.cumsum([0, *map(len, sets)]).tolist()
    return [replace(answer, hits=answer.hits[start:end]) for start, end in pairwise(ends)]


def _found(at: Place, body: SearchBody, options: Mapping[str, Any]) -> Answer:
    queries, old = _queries(at, body)
    return at.gallery.search(queries, fuse=body.fuse, old_queries=old, **options)


def _limited(at: Place, queries: VectorSet) -> VectorSet:
    at.service.limits.require("batch", len(queries), "queries")
    return queries


def _queries(at: Place, body: SearchBody) -> tuple[VectorSet, VectorSet | None]:
    """The queries, and those of the older model where both are needed."""
    state = at.gallery.state
    old = None if body.old_queries is None else body.old_queries.vector_set(state, "old_queries")
    if body.queries is not None:
        if body.space is not None:
            raise InputError(_SPACE_ELSEWHERE)
        return _limited(at, body.queries.vector_set(state, "queries")), old
    at.service.limits.require("batch", len(body.images or body.texts or ()), "queries")
    kept = state.spaces[state.query] if body.space is None else known_space(state, body.space)
    queries = _embedded(at, body, kept)
    older = None if old is not None else older_needed(at.gallery.source, state, kept.space, body.fuse)
    if older is not None:
        try:
            old = _embedded(at, body, state.spaces[older])
        except SamespaceError as error:
            raise older_missing(state.spaces[older].space, str(error)) from None
    return queries, old


def _embedded(at: Place, body: SearchBody, kept: StoredSpace) -> VectorSet:
    """The images or texts of a request as vectors of a space."""
    encoders = at.service.encoders
    if body.texts is not None:
        if not body.texts:
            raise InputError("there is no text to search by")
        vectors = np.asarray(encoders.of(kept, "text").encode(body.texts), dtype=np.float32)
        return VectorSet.from_arrays(vectors, ids=np.arange(len(vectors)), space=kept.space, name="texts")
    if not body.images:
        raise InputError("there is no image to search by")
    from samespace.data.sources.picked import listing_of

    given = [(str(place), text) for place, text in enumerate(body.images)]
    listing = listing_of(images_of(given, at.service.limits))
    model = encoders.of(kept, "image")
    made = embed_queries(at.gallery.state, listing, generation=kept.generation, model=model)
    if made.skipped:
        raise InputError(f"the image '{made.skipped[0][0]}' cannot be read: {made.skipped[0][1]}")
    return made.vectors
