from __future__ import annotations

import itertools
import json
import re
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samespace.errors import InputError
from samespace.evaluate import Certificate
from samespace.evaluate.certificate import BackfillCurve, BackfillPoint
from samespace.report import render_report, write_report
from samespace.report.figures.drawing import LIGHT

from .conftest import Sides, checked, made, with_metrics

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
VOID = {"br", "hr", "img", "link", "meta"}


class Page(HTMLParser):
    """Refuses unbalanced elements; remembers elements, attributes and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(attrs) == len(dict(attrs)), f"an attribute of {tag} is given twice"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["script"], ["style"]):
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def gray(ids: list[str]) -> list[np.ndarray | None]:
    return [np.full((20, 30), 7 * index % 256, dtype=np.uint8) for index, _ in enumerate(ids)]


def css(selector: str) -> dict[str, str]:
    style = resources.files("samespace.report").joinpath("style.css").read_text(encoding="utf-8")
    block = style[style.index(selector + " {") :].partition("}")[0]
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))


def contrast(one: str, other: str) -> float:
    """WCAG 2 contrast ratio of two colours."""

    def luminance(color: str) -> float:
        channels = np.array([int(color[at : at + 2], 16) for at in (1, 3, 5)]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("which", ["compatible", "failing", "minimal"])
def test_the_page_is_balanced_has_headings_in_order_and_unique_ids(which: str, request: pytest.FixtureRequest) -> None:
    page = Page(render_report(request.getfixturevalue(which)))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    for attributes in page.all("section"):
        assert attributes.get("aria-label") or attributes.get("aria-labelledby") in ids
    tables = [tag for tag, _ in page.elements].count("table")
    assert [tag for tag, _ in page.elements].count("caption") == tables > 0


def test_nothing_is_fetched_from_anywhere(compatible: Certificate) -> None:
    html = render_report(compatible, images=gray)
    assert "http:" not in html
    assert "https:" not in html
    page = Page(html)
    sources = [attributes[key] for _, attributes in page.elements for key in ("src", "href") if key in attributes]
    assert sources
    assert all(str(source).startswith(("data:", "#")) for source in sources)
    assert "url(" not in re.sub(r"url\(#", "", html)
    assert "@import" not in html
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert str(policy).startswith("default-src 'none'; img-src data:")


def test_hostile_text_anywhere_stays_text(compatible: Certificate) -> None:
    def poison(value: Any) -> Any:
        if is_dataclass(value):
            # what an update does to a query, and how a search compares, are one of a few words: others are refused
            named = ("kind", "score", "stored_as", "sweep", "backfill")
            names = [field.name for field in fields(value) if field.name not in named]
            return replace(value, **{name: poison(getattr(value, name)) for name in names})  # type: ignore[type-var]
        if isinstance(value, dict):
            return {key: poison(item) for key, item in value.items()}
        if isinstance(value, tuple):
            return tuple(poison(item) for item in value)
        return HOSTILE if isinstance(value, str) else value

    points = BackfillPoint(0.0, {HOSTILE: 0.1}), BackfillPoint(1.0, {HOSTILE: 0.2})
    poisoned = replace(
        poison(compatible),
        metrics={HOSTILE: compatible["rank@1"]},
        flips={HOSTILE: compatible.flips["cross"]},
        options={HOSTILE: HOSTILE},
        data={HOSTILE: 1},
        backfill=BackfillCurve((HOSTILE,), points),
        sweep=replace(compatible.sweep, orders={HOSTILE: compatible.sweep.orders["random"]}),
    )
    for images in (None, gray):
        html = render_report(poisoned, images=images, title=HOSTILE)
        page = Page(html)
        assert len(page.all("script")) == 1
        assert html.count("<script") == 1
        assert "onerror" not in {key for _, attributes in page.elements for key in attributes}
        assert HOSTILE in page.words


def test_the_verdict_comes_first_and_the_parts_follow_in_order(compatible: Certificate) -> None:
    page = Page(render_report(compatible))
    order = [attributes["id"] for attributes in page.all("section") if "id" in attributes]
    assert order == ["metrics", "gain", "curves", "scores", "flips", "strict", "control", "examples", "details"]
    words = page.words.replace("\u00a0", " ")
    assert words.index(
        f"The new model may search the old gallery: rank@1 rises from {100 * compatible['rank@1'].old:.1f} %"
    ) < words.index("Metrics")
    low, high = compatible["rank@1"].difference
    assert f"{100 * low:+.2f} … {100 * high:+.2f}" in words


def test_a_refusal_says_that_the_spaces_are_unrelated(failing: Certificate) -> None:
    words = Page(render_report(failing)).words
    assert "Not compatible" in words
    assert "For rank@1 and TAR@FAR=1e-2 the new model does no better than its rotation" in words


def test_large_numbers_are_those_of_the_metric_that_decides(compatible: Certificate) -> None:
    result = replace(compatible["mAP"], compatible=False, old=0.487, cross=0.541, absolute_gain=0.054)
    words = Page(render_report(replace(with_metrics(compatible, mAP=result), compatible=False))).words
    assert "mAP, old gallery 48.7 → 54.1 old → new query, % Gain +5.4" in words
    assert "rank@1, old gallery" not in words


def test_a_control_that_scores_is_pointed_out(compatible: Certificate) -> None:
    assert "do not trust this check" not in render_report(compatible)
    result = replace(compatible["rank@1"], control=compatible["rank@1"].old + 0.01)
    assert "do not trust this check" in render_report(with_metrics(compatible, **{"rank@1": result}))


def test_absent_parts_are_left_out_and_absent_values_are_dashes(minimal: Certificate) -> None:
    page = Page(render_report(minimal))
    assert [a["id"] for a in page.all("section") if "id" in a] == ["metrics", "gain", "control", "details"]
    assert "None" not in page.words
    assert "nan" not in page.words.lower().split()
    assert "undeclared" in page.words
    mean = minimal["mAP"]
    bounds = " … ".join(f"{100 * end:.2f}" for end in mean.intervals["old"])
    value = f"{100 * mean.old:.2f} {bounds}"
    assert f"mAP {value} {value} – – 0.00 0.00 … 0.00 – ✗ fails" in page.words


def test_example_rows_show_images_marks_and_scores(compatible: Certificate) -> None:
    asked: list[str] = []
    missing = compatible.examples[1].query.id

    def images(ids: list[str]) -> list[np.ndarray | None]:
        asked.extend(ids)
        return [None if name == missing else np.zeros((200, 300, 3), dtype=np.uint8) for name in ids]

    page = Page(render_report(compatible, images=images))
    shown = page.all("img")
    items = [item for one in compatible.examples for item in (one.query, *one.old, *one.cross, *one.new)]
    assert len(items) == 5 * 16
    assert len(asked) == len(set(asked)) == len({item.id for item in items})
    assert len(shown) == sum(item.id != missing for item in items)
    assert all(str(attributes["src"]).startswith("data:image/png;base64,") for attributes in shown)
    assert {attributes["alt"] for attributes in shown} == {item.label for item in items if item.id != missing}
    assert missing in page.words, "a missing image is shown as its id"
    fixed = compatible.examples[0]
    assert fixed.kind == "fixed"
    assert f"✗ wrong {fixed.old[0].score:.3f}" in page.words
    assert f"✓ right {fixed.cross[0].score:.3f}" in page.words


def test_without_images_rows_show_ids_and_labels(compatible: Certificate) -> None:
    page = Page(render_report(compatible))
    assert page.all("img") == []
    query = compatible.examples[0].query
    assert f"{query.id} {query.label} query" in page.words


def test_tiny_images_are_enlarged_without_smoothing_and_large_ones_are_reduced(compatible: Certificate) -> None:
    tiny = render_report(compatible, images=lambda ids: [np.zeros((8, 8), dtype=np.uint8) for _ in ids])
    large = render_report(
        compatible,
        images=lambda ids: [np.random.default_rng(0).integers(0, 256, (900, 900), dtype=np.uint8) for _ in ids],
    )
    assert Page(tiny).all("img")[0]["class"] == "tiny"
    assert "class" not in Page(large).all("img")[0]
    assert len(Page(large).all("img")[0]["src"] or "") < 30_000


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((4, 4), dtype=np.float32), r"should be uint8 of shape \(H, W\) or \(H, W, 3\), got float32 \(4, 4\)"),
        (np.zeros((4, 4, 4), dtype=np.uint8), r"got uint8 \(4, 4, 4\)"),
        (np.zeros((0, 4), dtype=np.uint8), r"got uint8 \(0, 4\)"),
    ],
)
def test_what_is_no_image_is_refused(compatible: Certificate, array: np.ndarray, said: str) -> None:
    with pytest.raises(InputError, match=said):
        render_report(compatible, images=lambda ids: [array] * len(ids))


def test_too_few_images_are_refused(compatible: Certificate) -> None:
    with pytest.raises(InputError, match=r"'images' gave 1 images for \d+ ids"):
        render_report(compatible, images=lambda ids: [None])


def test_the_folder_holds_the_page_and_the_certificate(compatible: Certificate, tmp_path: Path) -> None:
    page = write_report(compatible, tmp_path / "deep" / "report", images=gray, title="Ours")
    assert page == tmp_path / "deep" / "report" / "report.html"
    assert sorted(file.name for file in page.parent.iterdir()) == ["certificate.json", "report.html"]
    assert json.loads((page.parent / "certificate.json").read_text()) == compatible.to_dict()
    first = page.read_bytes()
    assert write_report(compatible, page.parent, images=gray, title="Ours").read_bytes() == first
    assert "<title>Ours</title>" in first.decode()


def test_a_file_in_the_place_of_the_folder_is_refused(compatible: Certificate, tmp_path: Path) -> None:
    (tmp_path / "report").write_text("precious")
    with pytest.raises(InputError, match="is a file; a report needs a folder"):
        write_report(compatible, tmp_path / "report")
    assert (tmp_path / "report").read_text() == "precious"


def test_both_ways_into_the_dark_are_the_same_and_figures_share_the_light_colours() -> None:
    light, dark = css(":root"), css(':root[data-theme="dark"]')
    assert css(':root:not([data-theme="light"])') == dark
    assert light.keys() == dark.keys()
    assert {role: light[role] for role in vars(LIGHT)} == vars(LIGHT)


@pytest.mark.parametrize("selector", [":root", ':root[data-theme="dark"]'])
def test_text_meets_the_aa_contrast(selector: str) -> None:
    colors = css(selector)
    for ground in ("page", "surface", "good-wash", "bad-wash", "open-wash"):
        for text in ("ink", "muted"):
            assert contrast(colors[text], colors[ground]) >= 4.5, (text, ground)
    for text in ("old", "cross", "new", "paragon", "genuine", "impostor", "good", "bad", "open"):
        assert contrast(colors[text], colors["surface"]) >= 4.5, text
    for text in ("good", "bad", "open"):
        assert contrast(colors[text], colors[f"{text}-wash"]) >= 4.5, text
    assert contrast(colors["cross"], colors["page"]) >= 4.5


def test_the_reverse_of_the_cross_test_has_a_part_where_it_was_measured(compatible: Certificate) -> None:
    assert "The other way round" not in render_report(compatible)
    result = replace(compatible["rank@1"], swap=0.4321)
    page = render_report(with_metrics(compatible, **{"rank@1": result}))
    assert "The other way round" in page
    assert "43.21" in page


def test_the_spread_of_genuine_scores_stands_among_the_details(compatible: Certificate) -> None:
    words = Page(render_report(compatible)).words
    for test, one in compatible.genuine.items():
        assert f"{test} {one.mean:.3f} {one.std:.3f}" in " ".join(words.split())
    assert "Scores of genuine pairs" not in render_report(replace(compatible, genuine={}))


def test_captions_name_only_what_is_there(compatible: Certificate) -> None:
    whole = render_report(compatible)
    assert "The values of old, cross, new and paragon by each metric" in whole
    assert "The dotted frame is the paragon" in whole
    metrics = {name: replace(one, paragon=None, new=None) for name, one in compatible.metrics.items()}
    text = render_report(replace(compatible, metrics=metrics, paragon_space=None, sweep=None, backfill=None))
    captions = " ".join(re.findall(r"<figcaption>(.*?)</figcaption>", text, re.DOTALL))
    assert "The values of old and cross by each metric" in captions
    assert not re.search("paragon|near|Calibrated|re-embedding", captions)
    by_class = render_report(replace(compatible, sweep=None))
    assert "Class by class: all items of a class at once" in by_class
    assert "Item by item" not in by_class


def test_a_no_says_why_and_what_next_beside_the_verdict(failing: Certificate, compatible: Certificate) -> None:
    page = Page(render_report(failing))
    for cause in failing.diagnosis:
        assert " ".join(cause.sentence.split()) in page.words
        assert cause.advice in page.words
        for command in cause.commands:
            assert command in page.words.replace(" \\ ", " ")
    assert "Why not, and what next" not in Page(render_report(compatible)).words


def test_names_in_a_diagnosis_are_text(failing: Certificate) -> None:
    cause = replace(failing.diagnosis[0], sentence=HOSTILE, commands=(HOSTILE,))
    assert HOSTILE in Page(render_report(replace(failing, diagnosis=(cause,)))).words


def test_the_page_of_fused_queries_with_a_given_share_has_no_figure_of_shares(old: Sides) -> None:
    certificate = checked(made("v2", 0.7, 2), old, fuse=0.5)
    page = render_report(certificate)
    assert "Query fusion" in page
    assert "Each metric over the share of the new query" not in page
