"""Rows of real queries with what the old and the new model find, as pictures where there are any."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from samespace.errors import InputError
from samespace.report.html import Html, section, tag

ImageLookup = Callable[[list[str]], Sequence[np.ndarray | None]]

_LARGEST = 112
_TINY = 64
_KINDS = {
    "fixed": ("Fixed", "wrong with the old model, right with the new one on the old gallery"),
    "broken": ("Broken", "right with the old model, wrong with the new one on the old gallery"),
    "both-right": ("Right with both", "the best match is right either way"),
    "both-wrong": ("Wrong with both", "the best match is wrong either way"),
}
_ROWS = {
    "old": ("old", "old query, old gallery"),
    "cross": ("cross", "new query, old gallery"),
    "new": ("new", "new query, new gallery"),
}


def examples(certificate: Mapping[str, Any], images: ImageLookup | None) -> Html:
    """Each example query with its best matches by old, cross and new; right ones are marked ✓, wrong ones ✗."""
    rows = certificate.get("examples") or []
    pictures = _pictures(rows, images)
    if not rows:
        return Html("")
    explained = tag(
        "p",
        "For each query, the best matches from left to right with their scores. ",
        tag("b", "✓", class_="good-text"),
        " and a solid frame: same identity. ",
        tag("b", "✗", class_="bad-text"),
        " and a dashed frame: another one.",
    )
    articles = tag("div", *(_example(row, pictures) for row in rows), class_="examples")
    return section("examples", "What the models find", explained, articles)


def _example(row: Mapping[str, Any], pictures: Mapping[str, Html]) -> Html:
    kind, meaning = _KINDS.get(row.get("kind", ""), (str(row.get("kind", "")), ""))
    query = row["query"]
    lists = [
        tag(
            "div",
            tag("h4", name, tag("small", about)),
            tag("ol", *(_hit(hit, pictures) for hit in row[pair])),
            class_="hits",
        )
        for pair, (name, about) in _ROWS.items()
        if row.get(pair)
    ]
    return tag(
        "article",
        tag("h3", kind, tag("small", meaning)),
        tag(
            "div",
            tag("div", _thing(query, pictures), tag("span", "query", class_="role"), class_="query"),
            tag("div", *lists, class_="found"),
            class_="example",
        ),
    )


def _hit(hit: Mapping[str, Any], pictures: Mapping[str, Html]) -> Html:
    mate = bool(hit.get("mate"))
    word = tag("span", "right" if mate else "wrong", class_="spoken")
    mark = tag("span", "✓" if mate else "✗", aria_hidden="true", class_="mark")
    score = f"{hit['score']:.3f}" if hit.get("score") is not None else ""
    return tag(
        "li",
        _thing(hit, pictures),
        tag("span", mark, word, " ", score, class_="score"),
        class_="mate" if mate else "other",
    )


def _thing(item: Mapping[str, Any], pictures: Mapping[str, Html]) -> Html:
    """A picture, or the item's id in its place; the label beneath either."""
    identity, label = str(item["id"]), item.get("label")
    label = identity if label is None else str(label)
    picture = pictures.get(identity)
    face = picture if picture is not None else tag("span", identity, class_="id")
    name = tag("span", label, class_="label")
    return tag("span", tag("span", face, class_="face"), name, class_="thing", title=f"{label} ({identity})")


def _pictures(rows: Sequence[Mapping[str, Any]], images: ImageLookup | None) -> dict[str, Html]:
    if images is None or not rows:
        return {}
    wanted: dict[str, str] = {}
    for row in rows:
        for item in [row["query"], *(hit for pair in _ROWS for hit in row.get(pair) or [])]:
            label = item.get("label")
            wanted[str(item["id"])] = str(item["id"] if label is None else label)
    found = images(list(wanted))
    if len(found) != len(wanted):
        raise InputError(f"'images' gave {len(found)} images for {len(wanted)} ids; give None for a missing one")
    return {
        identity: _picture(array, identity, wanted[identity])
        for identity, array in zip(wanted, found, strict=True)
        if array is not None
    }


def _picture(array: np.ndarray, identity: str, label: str) -> Html:
    """An image element that carries its own pixels as PNG; tiny ones are enlarged without smoothing."""
    pixels = np.asarray(array)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    shaped = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if pixels.dtype != np.uint8 or not shaped or pixels.size == 0:
        raise InputError(
            f"image '{identity}' should be uint8 of shape (H, W) or (H, W, 3), got {pixels.dtype} {pixels.shape}"
        )
    image = Image.fromarray(pixels)
    image.thumbnail((_LARGEST, _LARGEST), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    source = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    tiny = max(pixels.shape[:2]) <= _TINY
    return tag("img", src=source, alt=f"{label}", class_="tiny" if tiny else None)
