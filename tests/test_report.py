"""The report, as a person sees it: opened from disk in a real browser, wide and narrow, light, dark and printed."""

from __future__ import annotations

import functools
import re
import shutil
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright
from report_sample import report_values

from kws.report.page import render_page

LABELS = ("_silence_", "_unknown_", "yes", "نعم")
HOSTILE = (
    '<script>document.title="caught"</script>',
    '"><img src=x onerror="document.title=1">',
    "a\x1b[31m\nb",
    "{{ 7 * 7 }}",
)
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
WIDTHS = (390, 1400)

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is missing: apt-get install chromium")


class _Text(HTMLParser):
    """All tags, and the text of headings and cells."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_playwright() as running:
        # A container's root may not use Chromium's sandbox; the page is our own.
        opened = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


class _Opened:
    """The page of `path`, what the browser complained of and what it wanted to load."""

    def __init__(self, browser: Any, path: Path, width: int, scheme: str = "light") -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def evaluate(self, script: str) -> Any:
        return self.page.evaluate(script)


def _soon(opened: _Opened, condition: str, seconds: float = 20) -> bool:
    """Whether it comes true: a browser changes its pictures some time after the medium has changed. (Playwright's own
    wait_for_function needs the eval that the page forbids.)"""
    end = time.monotonic() + seconds
    while not (met := bool(opened.evaluate(condition))) and time.monotonic() < end:
        time.sleep(0.05)
    return met


@functools.cache
def rendered(labels: tuple[str, ...], whole: bool = True) -> str:
    return render_page(report_values(list(labels), whole=whole))


def written(folder: Path, labels: tuple[str, ...]) -> Path:
    path = folder / "report.html"
    path.write_text(rendered(labels), encoding="utf-8")
    return path


def test_the_page_has_no_script_and_names_nothing_outside_itself() -> None:
    page = rendered(LABELS)
    assert "script" not in _Text(page).tags
    outside = set(re.findall(r'(?:src|srcset|href|url)\s*[=(]\s*"?([^"\s>)]+)', page))
    assert all(found.startswith("data:") for found in outside)
    assert not re.search(r"@import|<iframe|<object", page)


def test_the_same_facts_give_the_same_bytes() -> None:
    assert render_page(report_values(list(LABELS))) == rendered(LABELS)


def test_five_figures_stand_on_top_and_what_was_not_measured_says_so() -> None:
    whole, bare = _Text(rendered(LABELS)), _Text(rendered(LABELS, whole=False))
    assert whole.tags.count("dt") == bare.tags.count("dt") == 5
    assert "37.1 M instructions" in whole.texts
    assert "7.00 %" in whole.texts
    assert "not measured" in bare.texts
    assert "not measured" not in whole.texts


def test_a_part_without_figures_is_left_out() -> None:
    headings = {"Training", "Running sound", "Noise", "Rounding, layer by layer"}
    whole, bare = _Text(rendered(LABELS)), _Text(rendered(LABELS, whole=False))
    assert headings <= set(whole.texts)
    assert not headings & set(bare.texts)


def test_labels_of_strangers_stay_text() -> None:
    page = _Text(rendered(HOSTILE))
    assert "script" not in page.tags
    assert set(page.tags).isdisjoint({"iframe", "object"})
    assert page.tags.count("img") == _Text(rendered(LABELS)).tags.count("img")
    assert {HOSTILE[0], HOSTILE[1], "a\\x1b[31m\\nb", HOSTILE[3]} <= set(page.texts)


@needs_chromium
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_picture_is_drawn_and_nothing_overflows(browser: Any, tmp_path: Path, width: int, scheme: str) -> None:
    opened = _Opened(browser, written(tmp_path, LABELS), width, scheme)
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith(("file:", "data:"))] == []
    pictures = opened.evaluate(
        """[...document.images].map(i =>
             ({drawn: i.complete && i.naturalWidth > 100, shown: i.currentSrc, light: i.src}))"""
    )
    assert len(pictures) == 11
    assert all(picture["drawn"] for picture in pictures)
    assert all((picture["shown"] == picture["light"]) == (scheme == "light") for picture in pictures)
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    spilt = opened.evaluate(
        """[...document.querySelectorAll('body *')]
           .filter(e => !e.closest('.scroll') && e.checkVisibility())
           .filter(e => e.getBoundingClientRect().right > innerWidth + 0.5)
           .map(e => e.tagName + ' ' + e.textContent.slice(0, 40))"""
    )
    assert spilt == []


@needs_chromium
@pytest.mark.parametrize("width", WIDTHS)
def test_a_long_label_does_not_widen_the_page(browser: Any, tmp_path: Path, width: int) -> None:
    opened = _Opened(browser, written(tmp_path, ("w" * 200, *HOSTILE, *LABELS)), width)
    assert opened.complaints == []
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    assert opened.page.title() == "build - kws benchmark"


@needs_chromium
def test_each_picture_has_its_numbers_in_a_table_beneath(browser: Any, tmp_path: Path) -> None:
    opened = _Opened(browser, written(tmp_path, LABELS), WIDTHS[1])
    parts = opened.evaluate(
        """[...document.querySelectorAll('section')].map(s => ({
             title: s.querySelector('h2').textContent, images: s.querySelectorAll('img').length,
             rows: s.querySelectorAll('tbody tr').length}))"""
    )
    assert all(part["rows"] > 0 for part in parts)
    assert {part["title"] for part in parts if part["images"]} >= {
        "Training",
        "Classes",
        "Noise",
        "Memory over the ops",
    }


@needs_chromium
def test_print_unfolds_every_table_and_is_light(browser: Any, tmp_path: Path) -> None:
    opened = _Opened(browser, written(tmp_path, LABELS), WIDTHS[1], "dark")
    hidden = "[...document.querySelectorAll('tbody tr')].filter(r => !r.checkVisibility()).length"
    assert opened.evaluate(hidden) > 0
    opened.page.emulate_media(media="print")
    assert opened.evaluate(hidden) == 0
    assert _soon(opened, "[...document.images].every(i => i.currentSrc === i.src)")
    assert opened.page.pdf().startswith(b"%PDF")
