"""A real browser for the tests of the pages: sizes, screenshots, and what may be wrong."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from caspers_lib.console.pages import PACKAGE

AXE = Path(__file__).parent / "vendor" / "axe.min.js"
ARTIFACTS = Path(__file__).parents[2] / "artifacts" / "console"
FLAGS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--disable-gpu",
]
WIDE = {"width": 1440, "height": 900}
TABLET = {"width": 1024, "height": 768}
PHONE = {"width": 390, "height": 844}
# Generous: a busy machine is slow, and nothing here measures speed.
PATIENCE_MS = 30_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail("the browser tests need chromium on PATH (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    yield from _page(browser, WIDE, "light")


@pytest.fixture
def dark_page(browser: Browser) -> Iterator[Page]:
    yield from _page(browser, WIDE, "dark")


@pytest.fixture
def phone(browser: Browser) -> Iterator[Page]:
    yield from _page(browser, PHONE, "light")


@pytest.fixture
def dark_phone(browser: Browser) -> Iterator[Page]:
    yield from _page(browser, PHONE, "dark")


@pytest.fixture
def tablet(browser: Browser) -> Iterator[Page]:
    yield from _page(browser, TABLET, "light")


@pytest.fixture
def plain_page(browser: Browser) -> Iterator[Page]:
    """A browser that runs no script."""
    yield from _page(browser, WIDE, "light", java_script_enabled=False)


def _page(browser: Browser, viewport: Any, scheme: Any, **more: Any) -> Iterator[Page]:
    context = browser.new_context(viewport=viewport, color_scheme=scheme, **more)
    context.set_default_timeout(PATIENCE_MS)
    context.route("**/console.css", _undo_for_long)
    expect.set_options(timeout=PATIENCE_MS)
    page = context.new_page()
    yield page
    context.close()


def _undo_for_long(route: Route) -> None:
    """Show Undo for longer than a busy machine needs."""
    css = (PACKAGE / "static" / "console.css").read_text()
    assert "expire 10s" in css
    route.fulfill(content_type="text/css", body=css.replace("expire 10s", "expire 1000s"))


def troubles_of(page: Page) -> list[str]:
    """A list that fills with the page's console errors, refused loads and uncaught exceptions."""
    troubles: list[str] = []
    page.on(
        "console",
        lambda message: (
            troubles.append(message.text) if message.type in {"error", "warning"} else None
        ),
    )
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))
    return troubles


def axe(page: Page) -> list[Any]:
    """What axe-core finds wrong with the page; it runs beside the page's own policy."""
    page.evaluate(AXE.read_text())
    found = page.evaluate(
        "axe.run(document, {resultTypes: ['violations']}).then((result) => JSON.stringify("
        "result.violations.map((v) => [v.id, v.impact, v.nodes.map((node) => node.html)])))"
    )
    violations: list[Any] = json.loads(found)
    return violations


def overflow(page: Page) -> int:
    """Pixels by which the page can be scrolled sideways."""
    width: int = page.evaluate(
        "(() => { scrollTo(9999, scrollY); const x = scrollX; scrollTo(0, scrollY); return x })()"
    )
    return width


def shoot(page: Page, name: str) -> None:
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"{name}.png", full_page=True)
