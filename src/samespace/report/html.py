"""Building HTML so that nothing a user wrote can become markup: text is escaped unless it already is `Html`."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

_VOID = {"br", "hr", "img", "link", "meta"}


class Html(str):
    """Text that is markup already; every other string is escaped on its way into an element."""

    __slots__ = ()


def escape(value: object) -> Html:
    """Make any value safe as element text or attribute value; `Html` passes unchanged.

    Example:
        >>> escape("<script>")
        '&lt;script&gt;'
        >>> escape(Html("<b>"))
        '<b>'
    """
    return value if isinstance(value, Html) else Html(html.escape(str(value), quote=True))


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """One element: strings among the children are escaped, `None` and `False` are left out.

    Attribute names are given as Python words: a trailing underscore is dropped, others become hyphens.

    Example:
        >>> tag("td", "a < b", class_="number", data_label="Old")
        '<td class="number" data-label="Old">a &lt; b</td>'
        >>> tag("img", src="x", alt="")
        '<img src="x" alt="">'
    """
    parts = [f"<{name}"]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        attribute = key.rstrip("_").replace("_", "-")
        parts.append(f" {attribute}" if value is True else f' {attribute}="{escape(value)}"')
    parts.append(">")
    if name in _VOID:
        return Html("".join(parts))
    return Html("".join(parts) + join(children) + f"</{name}>")


def join(children: Iterable[object], separator: str = "") -> Html:
    """Several children in a row, escaped where they need it; `None` and `False` are left out."""
    kept = (escape(child) for child in children if child is not None and child is not False)
    return Html(escape(separator).join(kept))


def section(anchor: str, heading: str, *children: object) -> Html:
    """A part of the page with its heading, or nothing where every child is absent."""
    body = [child for child in children if child]
    if not body:
        return Html("")
    return tag("section", tag("h2", heading, id=f"{anchor}-title"), *body, id=anchor, aria_labelledby=f"{anchor}-title")


def table(
    caption: object, header: Sequence[object], rows: Sequence[Sequence[object]], *, class_: str | None = None
) -> Html:
    """A table with a caption; the first cell of each row is its header.

    Every cell also carries its column's name, so that a narrow screen can show a row as a card. The explicit
    roles keep it a table for screen readers even then.
    """
    head = join(tag("th", cell, scope="col", role="columnheader") for cell in header)
    body = join(
        tag(
            "tr",
            tag("th", row[0], scope="row", role="rowheader"),
            *(tag("td", cell, role="cell", data_label=name) for name, cell in zip(header[1:], row[1:], strict=True)),
            role="row",
        )
        for row in rows
    )
    return tag(
        "table",
        tag("caption", caption),
        tag("thead", tag("tr", head, role="row"), role="rowgroup"),
        tag("tbody", body, role="rowgroup"),
        class_=class_ or None,
        role="table",
    )
