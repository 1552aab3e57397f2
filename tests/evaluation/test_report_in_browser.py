"""The page is readable in a real browser, and nothing runs in it."""
# ruff: noqa: F811 -- fixtures are imported

import dataclasses
import shutil

import pyarrow as pa
import pytest
from test_report import (  # noqa: F401
    ALL_PLOTS,
    SCRIPT,
    change,
    data,
    page,
    plots,
    render_page,
    rows,
)

needs_browser = pytest.mark.skipif(
    shutil.which("chromium") is None, reason="no chromium on this machine"
)
"""Of Debian's packages; everything else that a browser test needs is installed with the others."""


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = {"executable_path": shutil.which("chromium"), "args": ["--no-sandbox"]}
        browser = playwright.chromium.launch(**options)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, tmp_path):
    """Open a page from a file, without a network; what goes wrong is kept in ``problems``."""
    contexts = []

    def visit(page, **options):
        context = browser.new_context(offline=True, **options)
        contexts.append(context)
        tab = context.new_page()
        tab.problems = []
        tab.on("console", lambda message: tab.problems.append(message.text))
        tab.on("pageerror", lambda error: tab.problems.append(str(error)))
        tab.on("requestfailed", lambda request: tab.problems.append(request.url))
        file = tmp_path / "report.html"
        file.write_text(page, encoding="utf-8")
        tab.goto(file.as_uri())
        return tab

    yield visit
    for context in contexts:
        context.close()


@pytest.mark.soak
@needs_browser
def test_the_page_is_readable_on_phone_and_laptop_by_day_and_night(visit, data, plots):
    from axe_playwright_python.sync_playwright import Axe

    page = render_page(change(data, num_examples=2), plots)
    tab = visit(page, viewport={"width": 400, "height": 900}, color_scheme="light")
    tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    check_sizes(tab, 400)
    assert background_of(tab) == "rgb(255, 255, 255)"
    found = Axe().run(tab)
    assert found.violations_count == 0, found.generate_report()
    tab.set_viewport_size({"width": 1400, "height": 900})
    tab.emulate_media(color_scheme="dark")
    check_sizes(tab, 1400)
    assert background_of(tab) == "rgb(21, 24, 28)"
    colors = {"runOnly": {"type": "rule", "values": ["color-contrast"]}}
    found = Axe().run(tab, options=colors)
    assert found.response["passes"]
    assert found.violations_count == 0, found.generate_report()
    assert tab.problems == []


def background_of(tab):
    return tab.evaluate("getComputedStyle(document.body).backgroundColor")


def check_sizes(tab, width):
    """Check that everything fits the width, and that no letter is small."""
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    cut = tab.evaluate(
        "[...document.querySelectorAll('table')].filter(t => !t.closest('.scroll, .tall')"
        " && t.getBoundingClientRect().right > innerWidth).map(t => t.innerText.slice(0, 40))"
    )
    assert cut == []
    widths = tab.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert len(widths) == len(ALL_PLOTS)
    assert min(widths) > 400
    smallest = tab.evaluate(
        "Math.min(...[...document.querySelectorAll('main *')].filter(e => e.childElementCount == 0"
        " && e.textContent.trim()).map(e => parseFloat(getComputedStyle(e).fontSize)))"
    )
    assert smallest >= 12.5


@pytest.mark.soak
@needs_browser
def test_nothing_is_too_long_for_a_phone(visit, data, plots):
    texts = pa.array(["t" * 300] * len(data.mistakes))
    place = data.mistakes.column_names.index("text")
    data = change(
        data,
        mistakes=data.mistakes.set_column(place, "text", texts),
        counts={"c" * 90: 10**12},
        settings={"k" * 90: {"v": "z" * 200}},
        lineage=[("w" * 90, "u" * 200, "f" * 100)],
        versions={"l" * 90: "v" * 90},
    )
    data = change(data, result=dataclasses.replace(data.result, name="n" * 200))
    tab = visit(render_page(data, plots), viewport={"width": 400, "height": 900})
    tab.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert tab.evaluate("document.documentElement.scrollWidth") == 400


@pytest.mark.soak
@needs_browser
def test_no_script_runs_in_the_page(visit, page):
    tab = visit(page.replace("</body>", f"{SCRIPT}</body>"))
    assert tab.title() == "quickstart · sentiflow report"
    assert any("Content Security Policy" in problem for problem in tab.problems)
