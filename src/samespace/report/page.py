"""The HTML report: one file without any outside request, for people who decide about an upgrade."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from samespace.errors import InputError
from samespace.files import write_json, write_text
from samespace.report import reading, sections
from samespace.report.examples import ImageLookup, examples
from samespace.report.html import Html, section, tag
from samespace.report.plots import plots
from samespace.report.reading import CertificateLike

_SCRIPT = """
const root = document.documentElement, button = document.getElementById("theme");
const system = matchMedia("(prefers-color-scheme: dark)");
const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
const label = () => { button.textContent = dark() ? "Light" : "Dark"; };
button.hidden = false;
button.onclick = () => { root.dataset.theme = dark() ? "light" : "dark"; label(); };
label();
"""

_CAPTIONS = {
    "gains": "The gain of the new model on the old gallery. Where a paragon was given, the dotted frame is "
    "its lead, and the part of it that is filled is the update gain.",
    "values": "All four values of each metric with their intervals. Cross should stand clear of old; new near paragon.",
    "roc": "Verification: genuine pairs accepted at each share of accepted impostors. Dots mark the TAR metrics.",
    "cmc": "Identification: queries that find a mate among their k best matches.",
    "histograms": "Scores of genuine and impostor pairs. The less the two overlap, the better a threshold can separate "
    "them; where they move between the panels, thresholds must move too.",
    "backfill": "What re-embedding the old gallery step by step would add, class by class. Scores of both spaces are "
    "merged as they are; where one space scores higher than the other, the first steps can cost before they pay.",
    "sweep": "What a backfill would bring, item by item. Calibrated: each score is first mapped to log-odds by the "
    "calibration of its pair of spaces, learnt on other identities; raw: cosines are sorted as they are. The orders: "
    "random; distance, the items farthest from the old centre of their class first; centre, of each class the item "
    "nearest to its old centre first, then the second of each.",
}


def write_report(
    certificate: CertificateLike,
    folder: str | Path,
    *,
    images: ImageLookup | None = None,
    title: str | None = None,
) -> Path:
    """Write `folder/report.html` and `folder/certificate.json`, each whole or not at all.

    The page needs no network, no server and no script: styles, figures and images are inside it. It follows the
    reader's light or dark setting, fits a phone, and prints.

    Args:
        certificate: a `Certificate`, or its dictionary.
        folder: made if it does not exist.
        images: gives the images of a list of item ids, in order: uint8 of shape (H, W) or (H, W, 3), or None for
            one that is missing. Without it the example rows show ids and labels.
        title: heading of the page; made from the names of the two spaces by default.

    Returns:
        The path of the page.

    Raises:
        InputError: what was given is no certificate, or `images` gives something that is no image.
    """
    values = reading.as_dict(certificate)
    target = Path(folder)
    if target.exists() and not target.is_dir():
        raise InputError(f"{target} is a file; a report needs a folder")
    page = render_report(values, images=images, title=title)
    write_json(target / "certificate.json", values)
    write_text(target / "report.html", page)
    return target / "report.html"


def render_report(certificate: CertificateLike, *, images: ImageLookup | None = None, title: str | None = None) -> str:
    """The report as HTML text; `write_report` says what it holds and what the arguments mean."""
    values = reading.as_dict(certificate)
    old, new = reading.model_names(values)
    figures = plots(values)
    return document(
        title or f"Can {new} search the gallery of {old}?",
        sections.banner(values),
        sections.metric_table(values),
        section("gain", "Gain and level", _figures(figures, "gains", "values")),
        section("curves", "Curves", _figures(figures, "roc", "cmc")),
        section("scores", "Scores and backfill", _figures(figures, "histograms", "backfill", "sweep")),
        sections.flips(values),
        sections.strict(values),
        sections.swap(values),
        sections.control(values),
        examples(values, images),
        sections.details(values),
        footer=_footer(values),
    )


def document(title: str, *body: Html, footer: str) -> str:
    """A whole page around the given parts, with the styles and the theme switch inside it."""
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    style = resources.files("samespace.report").joinpath("style.css").read_text(encoding="utf-8")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("link", rel="icon", href="data:,"),
        tag("style", Html(style)),
    )
    top = tag(
        "header",
        tag("p", "samespace", class_="brand"),
        tag("button", "Dark", id="theme", type="button", hidden=True, aria_label="Switch between light and dark"),
        tag("h1", title),
    )
    page = tag("body", top, tag("main", *body), tag("footer", tag("p", footer)), tag("script", Html(_SCRIPT)))
    return "<!doctype html>\n" + tag("html", head, page, lang="en") + "\n"


def figure(svg: str, caption: str) -> Html:
    """An inline SVG with its caption; inside HTML the namespace goes without saying."""
    return tag("figure", Html(re.sub(r' xmlns="[^"]*"', "", svg, count=1)), tag("figcaption", caption))


def _figures(drawn: Mapping[str, str], *names: str) -> Html | None:
    shown = [figure(drawn[name], _CAPTIONS[name]) for name in names if name in drawn]
    return tag("div", *shown, class_="figures") if shown else None


def _footer(certificate: Mapping[str, Any]) -> str:
    made, version = certificate.get("created"), certificate.get("samespace")
    return " · ".join([f"samespace {version}" if version else "samespace", *([str(made)] if made else [])])
