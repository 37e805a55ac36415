"""The HTML report: one file without any outside request, for people who decide about an upgrade."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from samespace.errors import InputError
from samespace.files import write_json, write_text
from samespace.report import wording
from samespace.report.figures import plots

if TYPE_CHECKING:
    import jinja2

    from samespace.evaluate.certificate import Certificate
    from samespace.report.pictures import ImageLookup

_HERE = Path(__file__).parent


def write_report(
    certificate: Certificate, folder: str | Path, *, images: ImageLookup | None = None, title: str | None = None
) -> Path:
    """Write `folder/report.html` and `folder/certificate.json`, each whole or not at all.

    The page needs no network, no server and no script: styles, figures and images are inside it. It follows the
    reader's light or dark setting, fits a phone, and prints.

    Args:
        certificate: of a check or a benchmark.
        folder: made if it does not exist.
        images: gives the images of a list of item ids, in order: uint8 of shape (H, W) or (H, W, 3), or None for
            one that is missing. Without it the example rows show ids and labels.
        title: heading of the page; made from the names of the two spaces by default.

    Returns:
        The path of the page.

    Raises:
        InputError: the folder is a file, or `images` gives something that is no image.
    """
    target = Path(folder)
    if target.exists() and not target.is_dir():
        raise InputError(f"{target} is a file; a report needs a folder")
    page = render_report(certificate, images=images, title=title)
    write_json(target / "certificate.json", certificate.to_dict())
    write_text(target / "report.html", page)
    return target / "report.html"


def render_report(certificate: Certificate, *, images: ImageLookup | None = None, title: str | None = None) -> str:
    """The report as HTML text; `write_report` says what it holds and what the arguments mean."""
    from samespace.report.pictures import pictures

    old, new = wording.model_names(certificate)
    metrics = certificate.metrics.items()
    return render(
        "report.html",
        title=title or f"Can {new} search the gallery of {old}?",
        certificate=certificate,
        verdict=wording.verdict(certificate),
        level=wording.confidence(certificate),
        tested=[pair for pair in wording.PAIRS if any(getattr(one, pair) is not None for _, one in metrics)],
        backfill_caption=_backfill_caption(certificate),
        figures={name: inline(svg) for name, svg in plots(certificate).items()},
        unrelated=[name for name, one in metrics if not one.criterion and one.cross <= 2 * one.control + 0.001],
        suspect=[name for name, one in metrics if one.control >= one.old],
        pictures=pictures(certificate.examples, images),
        command=_command(certificate),
        footer=f"samespace {certificate.version} · {certificate.created}",
    )


def render(template: str, **values: Any) -> str:
    """A whole page by a template of this room, with the styles and the theme switch inside it.

    Every value is escaped unless it is `Markup`. The templates extend `base.html`, which takes `title` and `footer`.
    """
    return _environment().get_template(template).render(values)


def inline(svg: str) -> Markup:
    """An SVG as part of a page, where the namespace goes without saying."""
    return Markup(re.sub(r' xmlns="[^"]*"', "", svg, count=1))


@cache
def _environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for shown in (
        wording.percent,
        wording.signed,
        wording.interval,
        wording.count,
        wording.listing,
        wording.state,
        wording.comparison,
        wording.fusion,
        wording.command_lines,
    ):
        environment.filters[shown.__name__] = shown
    script = (_HERE / "theme.js").read_text(encoding="utf-8")
    environment.globals.update(
        ABSENT=wording.ABSENT,
        PAIRS=wording.PAIRS,
        MARKS=wording.MARKS,
        STATE_WORDS=wording.STATE_WORDS,
        style=Markup((_HERE / "style.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    return environment


def _backfill_caption(certificate: Certificate) -> str:
    """What each curve of the figure of a backfill is, of those that are there."""
    parts = ["What re-embedding the old gallery would bring, from none of it to all."]
    orders = certificate.sweep.orders if certificate.sweep is not None else {}
    if orders:
        parts.append(
            "Calibrated: each score is first mapped to log-odds by the calibration of its pair of spaces, learnt on "
            "other identities."
        )
    scores = "cosines" if certificate.score == "cosine" else "scores"
    parts.append(f"Raw: {scores} of both spaces are sorted as they are, so the first steps can cost before they pay.")
    told = {
        "random": "random",
        "distance": "distance, the items farthest from the old centre of their class first",
        "centre": "centre, of each class the item nearest to its old centre first, then the second of each",
    }
    if orders:
        parts.append(f"Item by item, in the orders {'; '.join(told.get(order, order) for order in orders)}.")
    if certificate.backfill is not None and certificate.backfill.points:
        parts.append("Class by class: all items of a class at once, scores raw.")
    return " ".join(parts)


def _command(certificate: Certificate) -> str:
    """The command that runs the check again."""
    parts = ["samespace check", "--queries NEW_QUERIES --gallery OLD_GALLERY --baseline OLD_QUERIES"]
    if any(metric.new is not None for metric in certificate.metrics.values()):
        parts.append("--new-gallery NEW_GALLERY")
    if any(metric.paragon is not None for metric in certificate.metrics.values()):
        parts.append("--paragon-queries PARAGON_QUERIES --paragon-gallery PARAGON_GALLERY")
    if certificate.baseline_space is not None:
        parts.append("--baseline-gallery BASELINE_GALLERY")
    if "qrels" in certificate.options:
        parts.append("--qrels QRELS")
    if compared := certificate.comparison_options:
        parts.append(" ".join(compared))
    parts.append(" ".join(f"--metric {name}" for name in certificate.metrics))
    if (fusion := certificate.fusion) is not None:
        parts.append(f"--fuse {fusion.alpha:g}" if fusion.chosen == "given" else "--fuse auto")
        if fusion.chosen == "support":
            parts.append("--support-queries NEW_Q --support-gallery OLD_G --support-baseline OLD_Q")
    return " \\\n  ".join([*parts, "--report REPORT"])
