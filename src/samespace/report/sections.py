"""The parts of a report that are words and tables: verdict, metrics, flips, strict criterion, control, details."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from samespace.report import reading
from samespace.report.html import Html, join, section, table, tag
from samespace.report.reading import ABSENT, PAIRS, STATE_WORDS, count, interval, percent, signed, state
from samespace.report.rows import MARKS

_FLIP_NAMES = {"cross": "cross (old gallery kept)", "new": "new (gallery re-embedded)"}
_COUNT_NAMES = {
    "queries": "queries",
    "gallery": "gallery items",
    "identities": "identities",
    "mated_queries": "queries with a mate in the gallery",
    "unmated_queries": "queries without a mate",
    "genuine_pairs": "genuine pairs",
    "impostor_pairs": "impostor pairs",
    "self_matches_dropped": "matches of an item with itself, left out",
}


def banner(certificate: Mapping[str, Any]) -> Html:
    """The verdict in one sentence, and the numbers of the deciding metric in large type."""
    found = reading.verdict(certificate)
    mark = "✓" if found.compatible else "✗"
    return tag(
        "section",
        tag("p", tag("span", mark, class_="mark", aria_hidden="true"), " ", found.title, class_="stamp"),
        tag("p", found.sentence, class_="sentence"),
        tag("p", found.remainder, class_="remainder") if found.remainder else None,
        _key_numbers(certificate),
        class_=f"banner {'good' if found.compatible else 'bad'}",
        aria_label="Verdict",
    )


def _key_numbers(certificate: Mapping[str, Any]) -> Html | None:
    name = reading.verdict(certificate).metric
    metric = certificate["metrics"].get(name) or {}
    if metric.get("cross") is None:
        return None
    flips = (certificate.get("flips") or {}).get("cross") or {}
    tiles = [
        (
            f"{name}, old gallery",
            f"{percent(metric.get('old'), 1)} → {percent(metric['cross'], 1)}",
            "old → new query, %",
        ),
        ("Gain", signed(metric.get("absolute_gain"), 1), "percentage points"),
        ("Update gain", percent(metric.get("update_gain"), 0), "% of the paragon's lead"),
        ("Newly wrong", percent(flips.get("negative"), 1), "% of queries, right before"),
    ]
    shown = [tile for tile in tiles if tile[1] != ABSENT]
    return tag(
        "dl",
        *(tag("div", tag("dt", label), tag("dd", value, tag("small", unit))) for label, value, unit in shown),
        class_="tiles",
    )


def state_badge(metric: Mapping[str, Any]) -> Html:
    """The state of one metric as a coloured word with its mark."""
    found = state(metric)
    return tag("span", f"{MARKS[found]} {STATE_WORDS[found]}" if found != "absent" else ABSENT, class_=f"badge {found}")


def with_interval(text: str, bounds: str) -> Html:
    """A number with its interval beneath it in small type."""
    small = tag("small", bounds) if bounds != ABSENT else None
    return tag("span", tag("b", text) if text != ABSENT else text, small, class_="value")


def metric_table(certificate: Mapping[str, Any]) -> Html:
    """Every metric with every interval, and how to read the columns."""
    rows = []
    for name, metric in certificate["metrics"].items():
        bounds = metric.get("intervals") or {}
        rows.append(
            [
                name,
                *(with_interval(percent(metric.get(pair)), interval(bounds.get(pair))) for pair in PAIRS),
                with_interval(signed(metric.get("absolute_gain")), interval(metric.get("difference"), sign=True)),
                with_interval(percent(metric.get("update_gain"), 1), interval(metric.get("update_gain_interval"), 1)),
                _criterion(metric.get("criterion")),
                state_badge(metric),
            ]
        )
    level = reading.confidence(certificate)
    replicates = count(certificate.get("replicates"))
    caption = (
        f"Values in percent, gains in percentage points; beneath each its {level} interval "
        f"({replicates} paired bootstrap replicates over identities)."
    )
    header = ["Metric", "Old", "Cross", "New", "Paragon", "Gain", "Update gain", "Criterion", "Verdict"]
    return section(
        "metrics",
        "Metrics",
        tag("div", table(caption, header, rows, class_="numbers cards"), class_="scroll"),
        metric_glossary(),
        _notes(certificate.get("notes") or []),
    )


def _criterion(value: bool | None) -> str:
    return ABSENT if value is None else "✓ holds" if value else "✗ fails"


def metric_glossary() -> Html:
    """What each column means, folded away."""
    words = {
        "Old": "old queries on the old gallery: what is deployed today.",
        "Cross": "new queries on the old gallery: the upgrade without re-embedding anything.",
        "New": "new queries on a gallery re-embedded with the new model.",
        "Paragon": "the same successor trained without a compatibility term, everything re-embedded: the upper bound.",
        "Gain": "cross − old.",
        "Update gain": "(cross − old) / (paragon − old): the share of a full re-embedding's benefit that comes "
        "for free. Absent where the criterion fails or the paragon's lead is within the noise.",
        "Criterion": "cross > old, as bare numbers.",
        "Verdict": "compatible only where the whole interval of cross − old lies above zero.",
    }
    items = join(tag("div", tag("dt", word), tag("dd", text)) for word, text in words.items())
    return tag("details", tag("summary", "How to read the columns"), tag("dl", items, class_="words"))


def _notes(notes: Sequence[str]) -> Html | None:
    if not notes:
        return None
    return tag("aside", tag("h3", "Notes"), tag("ul", *(tag("li", note) for note in notes)), class_="notes")


def flips(certificate: Mapping[str, Any]) -> Html:
    """Queries that change sides, in words and as a table."""
    found = {pair: value for pair, value in (certificate.get("flips") or {}).items() if value}
    if not found:
        return Html("")
    first = found.get("cross") or next(iter(found.values()))
    text = (
        f"An average can rise while single users lose. {percent(first.get('negative'))}\u00a0% of the queries were "
        "answered rightly by the old model and are answered wrongly now (negative flips); "
        f"{percent(first.get('positive'))}\u00a0% went the other way (positive flips). "
        "The relative rate sets negative flips against those that two unrelated models of the same accuracies would "
        "show: 1.00 is no better than unrelated, 0 is none."
    )
    rows: list[list[object]] = [
        [
            _FLIP_NAMES.get(pair, pair),
            percent(value.get("negative")),
            ABSENT if value.get("relative_negative") is None else f"{value['relative_negative']:.2f}",
            percent(value.get("positive")),
        ]
        for pair, value in found.items()
    ]
    header = ["Against old", "Negative flips, %", "Relative", "Positive flips, %"]
    counted = table("Queries whose best match changes sides", header, rows, class_="numbers")
    return section("flips", "Flips", _explained(text, counted))


def strict(certificate: Mapping[str, Any]) -> Html:
    """BCT Eq. 1, pair by pair, as shares."""
    values = certificate.get("strict") or {}
    if not any(value is not None for value in values.values()):
        return Html("")
    text = (
        "The strict criterion asks of every single pair that the new query lie no farther from its mates in the old "
        "gallery than the old query did, and no nearer to everyone else. No trained model meets it for all pairs; "
        "the shares show how evenly the gain is spread."
    )
    rows: list[list[object]] = [
        ["Genuine: at least as near", percent(values.get("positive_share")), percent(values.get("positive_improved"))],
        ["Impostor: at least as far", percent(values.get("negative_share")), percent(values.get("negative_improved"))],
    ]
    header = ["Pairs", "Criterion holds, %", "Strictly better, %"]
    shares = table("Share of pairs", header, rows, class_="numbers")
    return section("strict", "Strict criterion", _explained(text, shares))


def control(certificate: Mapping[str, Any]) -> Html:
    """What a random rotation of the new space scores: proof that the test can fail."""
    shown = {name: m for name, m in certificate["metrics"].items() if m.get("control") is not None}
    if not shown:
        return Html("")
    text = (
        "A random rotation of the new space keeps every distance among the new queries and destroys their relation to "
        "the old gallery. It must come out near chance; if it did not, this test would be unable to fail."
    )
    unrelated = [
        name
        for name, m in shown.items()
        if m.get("cross") is not None and not m.get("criterion") and m["cross"] <= 2 * m["control"] + 0.001
    ]
    suspect = [name for name, m in shown.items() if m.get("old") is not None and m["control"] >= m["old"]]
    rows: list[list[object]] = [
        [name, percent(m.get("old")), percent(m.get("cross")), percent(m["control"])] for name, m in shown.items()
    ]
    header = ["Metric", "Old, %", "Cross, %", "Rotated, %"]
    rotated = table("New queries on the old gallery, as they are and rotated", header, rows, class_="numbers")
    callouts = [
        _callout(unrelated, "the new model does no better than its rotation", "the two spaces are unrelated."),
        _callout(suspect, "the rotated space matches the old model", "do not trust this check."),
    ]
    return section("control", "Rotation control", _explained(text, rotated, *callouts))


def swap(certificate: Mapping[str, Any]) -> Html:
    """The cross test with the models' places changed, where it was measured."""
    shown = {name: m for name, m in certificate["metrics"].items() if m.get("swap") is not None}
    if not shown:
        return Html("")
    text = (
        "Old queries on the new gallery, and in 1:1 comparisons the first of each pair by the old model. The verdict "
        "does not rest on it; a large gap between the two says that the spaces agree less than it shows."
    )
    rows: list[list[object]] = [[name, percent(m.get("cross")), percent(m["swap"])] for name, m in shown.items()]
    header = ["Metric", "Cross, %", "Swapped, %"]
    numbers = table("The cross test and its reverse", header, rows, class_="numbers")
    return section("swap", "The other way round", _explained(text, numbers))


def _explained(text: str, numbers: Html, *callouts: Html | None) -> Html:
    """Words beside their table, or above it where the page is narrow."""
    return tag("div", tag("div", tag("p", text), *callouts), numbers, class_="explained")


def _callout(names: Sequence[str], finding: str, meaning: str) -> Html | None:
    if not names:
        return None
    return tag("p", f"For {reading.listing(names)} {finding}: ", tag("strong", meaning), class_="callout")


def details(certificate: Mapping[str, Any]) -> Html:
    """Which spaces, which data, which settings, and how to run the check again."""
    return section(
        "details", "Details", _spaces(certificate), tag("div", _data(certificate), _run(certificate), class_="pair"),
        tag("h3", "Run it again"), tag("pre", tag("code", _command(certificate)), tabindex="0"),
        tag("p", "with the same files; certificate.json beside this page holds every number shown here."),
    )  # fmt: skip


def _spaces(certificate: Mapping[str, Any]) -> Html:
    rows: list[list[object]] = []
    for role in ("old", "new", "paragon"):
        space = certificate.get(f"{role}_space")
        if space:
            normalized = space.get("normalized")
            rows.append(
                [
                    role,
                    space.get("name") or ABSENT,
                    tag("code", space.get("id") or "undeclared"),
                    space.get("dim") or ABSENT,
                    ABSENT if normalized is None else "yes" if normalized else "no",
                    tag("code", str(space.get("weights") or ABSENT)[:16]),
                    tag("code", space.get("preprocessing") or ABSENT),
                ]
            )
    header = ["Model", "Name", "Space", "Dimensions", "Unit length", "Weights (sha256)", "Preprocessing"]
    return tag("div", table("Spaces", header, rows, class_="cards"), class_="scroll")


def _data(certificate: Mapping[str, Any]) -> Html:
    data = certificate.get("data") or {}
    rows: list[list[object]] = [[_COUNT_NAMES.get(key, key), count(value)] for key, value in data.items()]
    return table("Data", ["Of", "Count"], rows, class_="numbers")


def _run(certificate: Mapping[str, Any]) -> Html:
    rows: list[list[object]] = [
        ["made", certificate.get("created") or ABSENT],
        ["samespace", certificate.get("samespace") or ABSENT],
        ["seed", certificate.get("seed", ABSENT)],
        ["bootstrap replicates", count(certificate.get("replicates"))],
        ["confidence", reading.confidence(certificate)],
        *([f"option {key}", value] for key, value in (certificate.get("options") or {}).items()),
    ]
    return table("Run", ["Setting", "Value"], rows)


def _command(certificate: Mapping[str, Any]) -> str:
    parts = ["samespace check", "--queries NEW_QUERIES --gallery OLD_GALLERY --baseline OLD_QUERIES"]
    metrics = certificate["metrics"].values()
    if any(metric.get("new") is not None for metric in metrics):
        parts.append("--new-gallery NEW_GALLERY")
    if any(metric.get("paragon") is not None for metric in metrics):
        parts.append("--paragon-queries PARAGON_QUERIES --paragon-gallery PARAGON_GALLERY")
    parts.append(" ".join(f"--metric {name}" for name in certificate["metrics"]))
    return " \\\n  ".join([*parts, "--report REPORT"])
