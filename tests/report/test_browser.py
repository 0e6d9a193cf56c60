"""The HTML report in a real browser: Debian's Chromium, light and dark, on a phone, on a desk and on paper.

Without Chromium these tests are skipped, except where CI is set: `make browser` installs it.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright
from tests.support.summaries import RIGHT, WRONG, answers, changed, make_summary

from quantexp.comparison.flips import flips, pair_answers
from quantexp.comparison.subgroups import parts
from quantexp.report import PAGE, write_report

CHROMIUM = shutil.which("chromium")

OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)

pytestmark = pytest.mark.skipif(CHROMIUM is None and not os.environ.get("CI"), reason="no Chromium; see `make browser`")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM is not None, "CI needs Chromium: make browser"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=[*OPTIONS])
        yield started
        started.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with everything a page can hold, long names and hostile outputs among it."""
    made = make_summary(tasks=("gsm8k", "extraction"), items=30)
    before = answers(RIGHT, WRONG, RIGHT, difficulty=[1, 1, 2], score_urgency=[1.0, 0.0, 1.0])
    after = answers(WRONG, RIGHT, RIGHT, difficulty=[1, 1, 2], score_urgency=[0.0, 0.0, 1.0])
    counted = [
        replace(each, flips=flips(before, after), parts=parts(pair_answers(before, after), resamples=50))
        for each in made.comparisons
    ]
    long = "x" * 300 + " " + "\u05d0\u05d1" * 200 + "<script>document.title='owned'</script>"
    rows = pd.concat([changed(("9 - 2 = 7\n#### 7", long)), changed((long, "y" * 9000), change="gained")])
    rows["quant"] = counted[0].quant
    summary = replace(
        made, comparisons=tuple(counted), protocol={**made.protocol, "file sha256 (m Q8_0)": "0123456789abcdef" * 4}
    )
    folder = tmp_path_factory.mktemp("report")
    write_report(summary, folder, rows)
    return folder / PAGE


def opened(browser: Browser, report: Path, width: int, scheme: Literal["light", "dark"]) -> tuple[Page, list[str]]:
    """The page with everything folded out, and what the browser complains of."""
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    said: list[str] = []

    def console(message: ConsoleMessage) -> None:
        said.append(message.text)

    page.on("console", console)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: said.append(request.url) if request.url != report.as_uri() else None)
    page.goto(report.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    return page, said


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (360, "light"),
        (1280, "dark"),
        pytest.param(360, "dark", marks=pytest.mark.slow),
        pytest.param(1280, "light", marks=pytest.mark.slow),
    ],
)
def test_no_complaint_no_overflow_and_nothing_inaccessible(
    browser: Browser, report: Path, width: int, scheme: Literal["light", "dark"]
) -> None:
    page, said = opened(browser, report, width, scheme)
    assert said == []
    assert page.title() == "cliff | demo: what quantization costs"
    assert page.evaluate("document.documentElement.scrollWidth") == width
    outside = "[...document.querySelectorAll('h2, p, svg, pre, dl, details, .scroll')].filter(each => {"
    outside += "const box = each.getBoundingClientRect(); return box.left < 0 || box.right > innerWidth + 0.5})"
    assert page.evaluate(f"{outside}.map(each => each.outerHTML.slice(0, 80))") == []
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.close()


def test_words_on_charts_keep_their_size_and_stay_in_their_picture(browser: Browser, report: Path) -> None:
    page, _ = opened(browser, report, 360, "light")
    sizes = page.evaluate(
        """[...document.querySelectorAll('svg')].map(svg => {
            const box = svg.getBoundingClientRect(), scale = box.width / svg.viewBox.baseVal.width;
            const words = [...svg.querySelectorAll('text')];
            const cut = words.filter(text => {
                const own = text.getBoundingClientRect();
                return own.left < box.left - 4 || own.right > box.right + 4 || own.bottom > box.bottom + 4;
            });
            const plain = words.filter(text => text.textContent.length > 1);
            const size = Math.min(...plain.map(text => scale * parseFloat(getComputedStyle(text).fontSize)));
            return [svg.getAttribute('aria-label').slice(0, 60), size, cut.map(text => text.textContent)];
        })"""
    )
    assert len(sizes) >= 10
    assert [name for name, size, cut in sizes if size < 9.5 or cut] == []
    page.close()


def test_colours_follow_the_reader(browser: Browser, report: Path) -> None:
    def colours(scheme: Literal["light", "dark"]) -> tuple[str, str, str]:
        page, _ = opened(browser, report, 1280, scheme)
        style = "getComputedStyle(document.querySelector('{}')).{}"
        found = [
            str(page.evaluate(style.format(*each)))
            for each in (("body", "backgroundColor"), ("body", "color"), ("svg text", "fill"))
        ]
        page.close()
        return found[0], found[1], found[2]

    light, dark = colours("light"), colours("dark")
    assert not set(light) & set(dark)
    assert light[0] == "rgb(254, 254, 254)"


def test_the_keyboard_reaches_and_opens_a_changed_answer(browser: Browser, report: Path) -> None:
    page, _ = opened(browser, report, 1280, "light")
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = false)")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(200):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.parentElement.className") == "answer":
            break
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.parentElement.open")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert page.get_by_text("9 - 2 = 7").first.is_visible()
    page.close()


def test_a_number_in_the_table_leads_to_its_answers(browser: Browser, report: Path) -> None:
    page, _ = opened(browser, report, 1280, "light")
    page.get_by_role("link", name="lost by").first.click()
    place = page.evaluate("document.querySelector(':target').getBoundingClientRect().top")
    assert page.evaluate("document.querySelector(':target').className") == "changed"
    assert place < 800
    page.close()


def test_paper_is_light_and_has_the_numbers_of_the_charts(browser: Browser, report: Path) -> None:
    page, _ = opened(browser, report, 1280, "dark")
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = false)")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    numbers = "document.querySelector('.numbers table')"
    assert page.evaluate(f"{numbers}.checkVisibility({{contentVisibilityAuto: true}})")
    assert page.evaluate(f"{numbers}.getBoundingClientRect().height") > 50
    assert not page.locator(".answer pre").first.is_visible()
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.close()
