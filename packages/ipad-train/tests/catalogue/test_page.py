"""The page in a real browser: Debian's chromium through Playwright."""

from __future__ import annotations

import shutil
import time

import pytest

from ipad_train.catalogue.photo_files import photo_id

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.multiprocess,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed"),
]
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser, service):
    """``visit(hash, width)``: the page in a fresh window; what it complains of, or asks of other hosts, fails the test."""
    problems, windows = [], []

    def open_page(address="", width=1200, height=900):
        window = browser.new_page(viewport={"width": width, "height": height})
        windows.append(window)
        window.set_default_timeout(60_000)
        window.on("pageerror", lambda error: problems.append(str(error)))
        window.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        window.on("request", lambda each: None if _is_own(each.url, service.address) else problems.append(each.url))
        window.goto(f"{service.address}/{address}")
        window.wait_for_selector(".card")
        return window

    open_page.problems = problems
    yield open_page
    for window in windows:
        window.close()
    assert not problems


def _is_own(url, address):
    return url.startswith((address, "blob:" + address))


def until(window, statement):
    """Wait for a statement to hold. Playwright's own way evaluates texts within the page, which its policy forbids."""
    end = time.monotonic() + 60
    while not window.evaluate(statement):
        assert time.monotonic() < end, statement
        time.sleep(0.05)


def settle(window):
    window.wait_for_load_state("networkidle")
    until(window, "!document.getElementById('grid').classList.contains('old')")


def names(window):
    return window.locator(".card .name").all_inner_texts()


def test_click_slider_facet_and_deep_link(visit, service):
    window = visit()
    assert len(names(window)) == 24
    window.click(".card button >> nth=2")
    window.wait_for_selector("#query-picture img")
    settle(window)
    assert "Most alike in all attributes" in window.inner_text("#headline")
    every = names(window)
    for attribute in ("neckline_design", "collar_design", "front_design", "skirt_length", "pant_length"):
        window.focus(f"#weight-{attribute}")
        window.keyboard.press("Home")
    settle(window)
    assert window.inner_text("#headline") == "Most alike in sleeve length"
    one = names(window)
    expected = service.ask("/api/search", {"photo": photo_id("garment-00002.jpg"), "weights": {"sleeve_length": 1.0}})
    assert one == [hit["file"] for hit in expected["hits"]]
    assert one != every
    window.click("[aria-label='Only collar design']")
    settle(window)
    assert window.inner_text("#headline") == "Most alike in collar design"
    window.go_back()
    settle(window)
    assert names(window) == one
    value = expected["hits"][0]["values"]["sleeve_length"]["value"]
    window.get_by_role("group", name="sleeve length").get_by_label(value.replace("_", " "), exact=False).first.check()
    settle(window)
    chosen = names(window)
    assert 0 < len(chosen) < len(one)
    window.fill("#where", "price < 60")
    window.keyboard.press("Enter")
    settle(window)
    assert set(names(window)) <= set(chosen)
    again = visit(window.evaluate("location.hash"))  # the address alone shows the same
    settle(again)
    assert names(again) == names(window)
    assert again.input_value("#where") == "price < 60"
    assert again.input_value("#weight-collar_design") == "0"
    window.go_back()
    settle(window)
    assert names(window) == chosen


def test_upload_attention_and_reranking(visit, photos):
    window = visit()
    window.set_input_files("#file", photos / "garment-00009.jpg")
    window.wait_for_selector("#query-picture img")
    settle(window)
    assert names(window)[0] == "garment-00009.jpg"
    assert "sleeve length" in window.inner_text("#query-values")
    window.select_option("#attention", "collar_design")
    window.wait_for_selector("#query-picture .heat")
    settle(window)
    assert window.locator(".card .heat").count() == 24
    loaded = "[...document.querySelectorAll('.heat')].every((each) => each.complete && each.naturalWidth > 0)"
    until(window, loaded)
    window.select_option("#rerank", "k_reciprocal")
    settle(window)
    assert "re-ranked by k reciprocal" in window.inner_text("#status")
    after = names(window)
    window.check("#before")
    settle(window)
    assert "before re-ranking" in window.inner_text("#status")
    assert sorted(names(window)) == sorted(after)


def test_drop_of_a_photo(visit, photos):
    window = visit()
    content = list((photos / "garment-00004.jpg").read_bytes())
    window.evaluate(
        """(content) => {
            const given = new DataTransfer();
            given.items.add(new File([new Uint8Array(content)], "dropped.jpg", {type: "image/jpeg"}));
            document.dispatchEvent(new DragEvent("drop", {dataTransfer: given, bubbles: true, cancelable: true}));
        }""",
        content,
    )
    window.wait_for_selector("#query-picture img")
    settle(window)
    assert names(window)[0] == "garment-00004.jpg"


def test_mistakes_are_said_and_nothing_breaks(visit, tmp_path):
    window = visit()
    window.fill("#where", "prise < 3")
    window.keyboard.press("Enter")
    until(window, "document.getElementById('where-error').textContent.includes('did you mean one of: price')")
    window.click("#no-filter")
    settle(window)
    assert len(names(window)) == 24
    (tmp_path / "junk.jpg").write_bytes(b"no image")
    window.set_input_files("#file", tmp_path / "junk.jpg")
    until(window, "document.getElementById('error').textContent.includes('no image of a known format')")
    (tmp_path / "large.jpg").write_bytes(b"x" * 600_000)
    window.set_input_files("#file", tmp_path / "large.jpg")
    until(window, "document.getElementById('error').textContent.includes('allowed are 0.5 MB')")
    visit.problems[:] = [each for each in visit.problems if "422" not in each]  # the browser logs refused requests


def test_keyboard_and_names_for_screen_readers(visit):
    window = visit()
    window.keyboard.press("Tab")
    assert window.evaluate("document.activeElement.textContent") == "Skip to the photos"
    window.keyboard.press("Enter")
    assert window.evaluate("location.hash") == ""  # what is asked stays in the address
    window.keyboard.press("Tab")
    assert window.evaluate("document.activeElement.getAttribute('aria-label')").startswith("Find photos like garment-")
    window.keyboard.press("Enter")
    window.wait_for_selector("#query-picture img")
    settle(window)
    nameless = """[...document.querySelectorAll('input, select, button, img')].filter((each) => !(
        each.labels?.length || each.getAttribute('aria-label') || each.textContent.trim() || each.hasAttribute('alt')))
        .map((each) => each.outerHTML)"""
    assert window.evaluate(nameless) == []
    assert window.locator("[role=status]").count() == 1
    assert window.evaluate("document.documentElement.lang") == "en"


def test_phone(visit):
    window = visit(f"#photo={photo_id('garment-00002.jpg')}&look=collar_design", width=360, height=740)
    settle(window)
    assert window.evaluate("document.documentElement.scrollWidth") <= 360
    assert window.get_by_text("What should be alike").is_visible()
    assert not window.locator("#weight-collar_design").is_visible()
    window.get_by_text("What should be alike").click()
    assert window.locator("#weight-collar_design").bounding_box()["height"] >= 30
    tops = {round(card.bounding_box()["y"]) for card in window.locator(".card").all()[:2]}
    assert len(tops) == 1  # two in a row


def test_page_of_the_api(visit, service, browser):
    window = browser.new_page()
    window.goto(f"{service.address}/api")
    window.wait_for_selector("h2")
    assert "POST /api/search" in window.inner_text("main")
    assert "SearchRequest" in window.inner_text("main")
    window.close()
