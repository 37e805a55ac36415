"""`/v1/{gallery}/items`: add, look at, remove."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from fastapi import HTTPException, Response

from samespace.errors import InputError
from samespace.gallery import Added, StoredItem
from samespace.serve.endpoints.search import images_of
from samespace.serve.service import At, Place, routes
from samespace.serve.wire import AddBody, RemoveBody, metadata_of, reply
from samespace.vectors import VectorSet

reads, writes = routes("read"), routes("write")


@writes.post("/items", response_model=Added, summary="Add items")
async def add(at: At, body: AddBody) -> Response:
    """All of a request's items or none; the same request again changes nothing. During an upgrade give vectors of the
    old space too (`also`), so that a rollback finds the new items.
    """  # noqa: D205
    return reply(await at.change("add", lambda: _added(at, body)))


@reads.get("/items/{item:path}", response_model=StoredItem, summary="Look at an item")
async def get(at: At, item: str) -> Response:
    """Its label, its metadata, the spaces in which it has a vector, and the one that serves it."""
    found = await at.run(lambda: at.gallery.get(item))
    if found is None:
        raise HTTPException(404, f"the gallery has no item '{item}'")
    return reply(found)


@reads.get("/pictures/{item:path}", summary="See an item", response_class=Response)
async def picture(at: At, item: str) -> Response:
    """A PNG of up to 160 pixels a side, where the gallery remembers the items' images."""
    found = await at.run(lambda: at.service.pictures.png(at.gallery, item))
    if found is None:
        raise HTTPException(404, f"there is no picture of '{item}' at hand")
    return Response(found, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})


@writes.delete("/items/{item:path}", summary="Remove an item")
async def remove(at: At, item: str) -> dict[str, int]:
    """How many were removed, 1."""
    if await at.run(lambda: at.gallery.get(item)) is None:
        raise HTTPException(404, f"the gallery has no item '{item}'")
    return {"removed": await at.change("remove", lambda: at.gallery.remove([item]))}


@writes.post("/remove", summary="Remove many items")
async def remove_many(at: At, body: RemoveBody) -> dict[str, int]:
    """All of them, or none where the gallery lacks one."""
    at.service.limits.require("items", len(body.ids), "items")
    return {"removed": await at.change("remove", lambda: at.gallery.remove(body.ids))}


def _added(at: Place, body: AddBody) -> Added:
    limits = at.service.limits
    metadata = metadata_of(body.metadata, limits)
    if (body.vectors is None) == (body.images is None):
        raise InputError("give 'vectors' or 'images', one of the two")
    if body.images is not None:
        return _added_images(at, body)
    assert body.vectors is not None
    if body.vectors.ids is None:
        raise InputError("vectors: items need 'ids'")
    limits.require("items", len(body.vectors.ids), "items")
    state = at.gallery.state
    also: list[VectorSet] = []
    for place, given in enumerate(body.also):
        also.append(given.vector_set(state, f"also.{place}"))
    longest = max(body.vectors.ids, key=len, default="")
    limits.require("id_length", len(longest), f"characters of the id '{longest[:40]}'")
    vectors = body.vectors.vector_set(state, "vectors")
    return at.gallery.add(vectors, also=also, metadata=metadata, update=body.update)


def _added_images(at: Place, body: AddBody) -> Added:
    from samespace.data.sources.picked import listing_of

    limits, items = at.service.limits, body.images or []
    if not items:
        raise InputError("there is no image to add")
    limits.require("items", len(items), "items")
    for item in items:
        limits.require("id_length", len(item.id), f"characters of the id '{item.id[:40]}'")
    labels = [item.label for item in items]
    labelled = labels[0] is not None
    if any((label is not None) != labelled for label in labels):
        raise InputError("images: give every image a label, or none of them")
    listing = listing_of(images_of([(item.id, item.image) for item in items], limits))
    if foreign := set(body.metadata or {}) - {item.id for item in items}:
        raise InputError(f"metadata names the item '{min(foreign)}', which is not among the images")
    if labelled:
        listing = replace(listing, classes=np.array(labels, dtype=np.str_))
    loaded = at.service.encoders.images_by_space(at.gallery.state.spaces)
    return at.gallery.add_images(
        listing, labelled=labelled, metadata=metadata_of(body.metadata, limits), update=body.update, loaded=loaded
    )
