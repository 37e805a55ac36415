"""The page at `/` in a real browser: what people see and do there, by keyboard and with a screen reader's eyes."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright", reason="playwright is not installed: pip install playwright")
pytest.importorskip("axe_playwright_python", reason="axe is not installed: pip install axe-playwright-python")
pytest.importorskip("fastapi", reason="FastAPI is not installed: pip install 'samespace[serve]'")

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

import samespace.serve
from samespace.gallery import Gallery
from samespace.vectors import VectorSet

from .page_service import Running, running

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
Open = Callable[..., Page]
PATIENCE = 120_000
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("page")) as started:
        yield started


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM)
        yield chromium
        chromium.close()


@pytest.fixture
def at(browser: Browser, service: Running) -> Iterator[Open]:
    """Opens the page somewhere, with a key; nothing may be wrong in the console but refused requests."""
    faults: list[str] = []
    contexts = []

    def opened(place: str = "", *, key: str | None = service.admin, **options: Any) -> Page:
        context = browser.new_context(
            **{"viewport": {"width": 1200, "height": 900}, "reduced_motion": "reduce"} | options
        )
        contexts.append(context)
        if key is not None:
            context.add_init_script(f"sessionStorage.setItem('samespace-key', '{key}')")
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
        page.goto(f"{service.address}/#/{place}")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert [fault for fault in faults if "Failed to load resource" not in fault] == []


def button(page: Page, name: str) -> Any:
    return page.get_by_role("button", name=name, exact=True)


def test_a_wrong_key_is_refused_and_a_right_one_let_in(at: Open, service: Running) -> None:
    page = at(key=None)
    box = page.get_by_label("This service asks for a key")
    expect(box).to_be_focused()
    box.fill("ss_wrong_key")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("does not take this key")
    box.fill(service.reader)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Galleries")).to_be_focused()
    assert service.reader not in page.url
    page.goto(f"{service.address}/#/half/upgrade")
    expect(page.get_by_text("This key has the scope read")).to_be_visible()
    assert button(page, "Start").get_attribute("aria-disabled") == "true"
    button(page, "Forget the key").click()
    expect(box).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0


def test_search_by_image_vector_and_what_is_wrong_with_one(at: Open, service: Running) -> None:
    page = at("half/search")
    page.get_by_label("An image file").set_input_files(service.folder / "query.png")
    button(page, "Search").click()
    expect(page.get_by_text(re.compile(r"^10 items by the image query.png, from vectors of v[12]"))).to_be_visible()
    expect(page.locator(".results li img")).to_have_count(10)
    first = page.locator(".results li").first
    expect(first).to_contain_text("log-odds")
    expect(first).to_contain_text(re.compile("answered by v[12]"))

    page.get_by_role("radio", name="Vector").check()
    box = page.get_by_role("textbox", name=re.compile("^A vector"))
    box.fill("1, 2, three")
    button(page, "Search").click()
    expect(page.get_by_role("alert")).to_have_text("'three' is no number.")
    box.fill("[1, 2]")
    button(page, "Search").click()
    expect(page.get_by_role("alert")).to_have_text("This vector has 2 numbers; expected 16 for v2.")
    values = [0.25] * 16
    box.fill(f"{values}")
    page.get_by_role("spinbutton", name="Results").fill("3")
    button(page, "Search").click()
    expect(page.get_by_text(re.compile("^3 items by a vector of v2"))).to_be_visible()
    page.get_by_label("Only items with").fill("label")
    button(page, "Search").click()
    expect(page.get_by_role("alert")).to_contain_text("not understood")
    assert box.input_value() == f"{values}"
    expect(page.locator(".results li")).to_have_count(3)


def test_upgrade_day_from_the_plan_to_the_seal(at: Open, service: Running) -> None:
    gallery = service.service.galleries["fresh"]
    page = at("fresh/upgrade")
    expect(page.get_by_text("Nothing is planned; plan an upgrade")).to_be_visible()
    page.get_by_label("New model").select_option("v2")
    button(page, "Plan").click()
    expect(page.get_by_text("No certificate allows queries of v2 on vectors of v1.")).to_be_visible()
    page.get_by_text("Plan again").click()
    page.get_by_label("Certificates").set_input_files(service.folder / "query.png")
    button(page, "Plan").click()
    expect(page.get_by_role("alert")).to_contain_text("The file query.png is no JSON")
    page.get_by_label("Certificates").set_input_files(service.folder / "certificate.json")
    button(page, "Plan").click()
    page.get_by_label("Answer queries of v1 too, until the seal").check()
    button(page, "Let queries use it").click()
    expect(page.locator(".lead")).to_have_text(
        "Queries use v2 and find all items by their vectors of v1. No item has a vector of v2 yet."
    )
    expect(page.get_by_text("192 of 192 items have no vector of v2 yet.")).to_be_visible()

    button(page, "Start").click()
    expect(page.locator(".lead")).to_have_text(
        "Every item has a vector of v2. Until the seal, a rollback brings v1 back."
    )
    expect(page.get_by_text("192 items embedded, 0 left")).to_be_visible()
    expect(page.get_by_role("progressbar")).to_have_attribute("value", "100")
    expect(page.get_by_role("img", name=re.compile("^Quality over .*Measured rank@1: .* 32 canaries"))).to_be_visible()

    button(page, "Seal…").click()
    dialog = page.get_by_role("dialog", name="Seal?")
    expect(dialog).to_contain_text("Deletes the 192 vectors of v1.")
    dialog.get_by_role("button", name="Seal").click()
    expect(dialog.get_by_role("alert")).to_have_text("Type fresh to seal it.")
    dialog.get_by_label("Type fresh to go on").fill("fresh")
    dialog.get_by_role("button", name="Seal").click()
    expect(page.locator(".lead")).to_have_text("The upgrade to v2 is sealed. There is one version again.")
    assert gallery.status().phase == "sealed"


def test_calibrating_lets_the_backfill_begin(at: Open, service: Running) -> None:
    gallery = service.service.galleries["uncalibrated"]
    page = at("uncalibrated/upgrade")
    expect(page.get_by_text("nothing is backfilled")).to_be_visible()
    calibrate = page.locator("form[data-do=calibrate]")
    for pair in ("v2 queries on v1 vectors", "v2 queries on v2 vectors"):
        expect(calibrate).to_contain_text(pair)
    button(page, "Calibrate").click()
    expect(page.get_by_role("alert")).to_have_text("Choose a file of queries.")
    calibrate.get_by_label("Queries, vectors of v2").set_input_files(service.folder / "v2-queries.csv")
    calibrate.get_by_label("Items").set_input_files(service.folder / "query.png")
    button(page, "Calibrate").click()
    expect(page.get_by_role("alert")).to_contain_text("Query.png: expected columns label and v0, v1, …")
    for model in ("v1", "v2"):
        pair = calibrate.get_by_label("Scores of")
        pair.select_option(f"v2 queries on {model} vectors")
        calibrate.get_by_label("Items").set_input_files(service.folder / f"{model}-{ITEMS[model]}.csv")
        button(page, "Calibrate").click()
        expect(page.get_by_text("Learnt from")).to_be_visible()
    expect(page.get_by_text("Calibrate again")).to_be_visible()
    learnt = gallery.state.calibrations[2, 1]
    asked, items = (VectorSet.load(service.folder / name) for name in ("v2-queries", "v1-items"))
    assert learnt == gallery.calibrate(asked, items)
    expect(button(page, "Start")).to_be_visible()


ITEMS = {"v1": "items", "v2": "queries"}


def test_a_backfill_is_watched_paused_and_stopped(at: Open, service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery = service.service.galleries["behind"]
    whole = Gallery.backfill
    monkeypatch.setattr(Gallery, "backfill", lambda self, **options: whole(self, **options | {"limits": slow()}))
    page = at("behind/upgrade")
    expect(page.get_by_text("132 of 192 items have no vector of v2 yet.")).to_be_visible()
    button(page, "Start").click()
    expect(
        page.get_by_text(re.compile(r"The service fills the gallery, begun at .*: \d+ items so far"))
    ).to_be_visible()
    expect(page.get_by_text(re.compile(r"items?/s, .* left"))).to_be_visible()
    button(page, "Pause all workers").click()
    expect(page.locator(".lead")).to_contain_text("The backfill is paused at")
    assert gallery.status().upgrade.paused  # type: ignore[union-attr]
    button(page, "Resume").click()
    expect(page.locator(".lead")).to_contain_text("v2 is being filled behind v1")
    button(page, "Stop").click()
    expect(page.get_by_text("The last backfill of the service ended")).to_be_visible()


def slow() -> Any:
    from samespace.gallery import Limits

    return Limits(batch_size=4, rate=20.0)


def test_a_rollback_says_what_will_happen_and_needs_a_yes(at: Open, service: Running) -> None:
    gallery = service.service.galleries["rolled"]
    page = at("rolled/upgrade")
    asking = button(page, "Roll back…")
    asking.press("Enter")
    dialog = page.get_by_role("dialog", name="Roll back?")
    expect(dialog).to_contain_text("Queries use v1 again.")
    expect(dialog).to_contain_text("80 vectors of v2 wait for the way forward.")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Escape")
    expect(asking).to_be_focused()
    assert gallery.space.name == "v2"
    asking.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".lead")).to_contain_text("The upgrade to v2 was rolled back. Queries use v1")
    expect(page.locator("#said")).to_have_text(re.compile("Rolled back|rolled back"))
    assert gallery.space.name == "v1"


def test_a_service_that_is_gone_and_comes_back_loses_nothing(at: Open) -> None:
    page = at("half/search")
    page.get_by_role("radio", name="Text").check()
    page.get_by_label("A text").fill("a red shoe")
    page.context.set_offline(True)
    button(page, "Search").click()
    expect(page.get_by_role("alert")).to_have_text("The service does not answer.")
    expect(page.get_by_text("The page keeps trying.")).to_be_visible()
    page.context.set_offline(False)
    button(page, "Try now").click()
    expect(page.get_by_text("The page keeps trying.")).not_to_be_attached()
    expect(page.locator("#said")).to_have_text("The service answers again.")
    button(page, "Search").click()
    expect(page.get_by_role("alert")).to_contain_text("The service has no encoder of texts")
    assert page.get_by_label("A text").input_value() == "a red shoe"


VIEWS = ["", "half/versions", "half/upgrade", "behind/upgrade", "half/search"]


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 320)])
def test_everybody_can_use_every_view(at: Open, service: Running, scheme: str, width: int) -> None:
    page = at(key=None, color_scheme=scheme, viewport={"width": width, "height": 700})
    require_accessible(page, "key")
    page.get_by_label("This service asks for a key").fill(service.admin)
    page.keyboard.press("Enter")
    for view in VIEWS:
        page.goto(f"{service.address}/#/{view}")
        expect(page.locator("main section, main form, .galleries .shares").first).to_be_visible()
        if view == "half/search":
            page.get_by_label("An image file").set_input_files(service.folder / "query.png")
            button(page, "Search").click()
            expect(page.locator(".results li").first).to_be_visible()
        require_accessible(page, view)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, view
    page.goto(f"{service.address}/#/half/upgrade")
    button(page, "Roll back…").click()
    require_accessible(page, "dialog")


def require_accessible(page: Page, what: str) -> None:
    found = Axe().run(page)
    assert found.violations_count == 0, (what, found.generate_report())


def test_the_first_view_needs_little_and_the_next_less(at: Open) -> None:
    """What a second on two cores is made of, for seconds are not the same on every machine."""
    page = at(key=None)
    parts = transferred(page)
    assert len(parts) <= 15
    assert sum(parts) < 40_000
    page.reload()
    again = transferred(page)
    assert len(again) == 1, "the page itself, to ask whether it is another one"
    assert sum(again) < 1_000


def transferred(page: Page) -> list[int]:
    """Bytes of each part of the page that came over the network, requests to the service left out."""
    expect(page.get_by_label("This service asks for a key")).to_be_visible()
    entries = page.evaluate(
        "performance.getEntries().filter(one => one.transferSize).map(one => [one.name, one.transferSize])"
    )
    return [size for name, size in entries if "/v1" not in name]


def test_the_page_is_of_this_place_alone(service: Running) -> None:
    import httpx

    answer = httpx.get(service.address)
    assert answer.headers["content-encoding"] == "gzip"
    same = {"If-None-Match": answer.headers["etag"]}
    assert httpx.get(service.address, headers=same).status_code == 304
    parts = re.findall(r'"(page/[0-9a-f]{12}/[a-z.]+)"', answer.text)
    assert len(parts) > 10
    for part in parts:
        assert "immutable" in httpx.get(f"{service.address}/{part}").headers["cache-control"]
        older = httpx.get(f"{service.address}/page/older/{part.split('/')[-1]}")
        assert older.headers["cache-control"] == "no-cache"
    plain = httpx.get(f"{service.address}/{parts[0]}", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    folder = Path(samespace.serve.__file__).parent / "page"
    for file in folder.iterdir():
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|style=|onclick|innerHTML", text), file.name
    assert httpx.get(f"{service.address}/page/older/none.js").json()["detail"] == "the page has no part 'none.js'"
    assert httpx.get(f"{service.address}/page/older/..%2Fapp.py").status_code == 404
