"""The page in a real browser; screenshots go to artifacts/console."""

import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from caspers_lib.console.app import create_app
from caspers_lib.console.serve import ConsoleServer
from caspers_lib.console.source import StageStatus

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
def tablet(browser: Browser) -> Iterator[Page]:
    yield from _page(browser, TABLET, "light")


def _page(browser: Browser, viewport: Any, scheme: Any) -> Iterator[Page]:
    context = browser.new_context(viewport=viewport, color_scheme=scheme)
    context.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    page = context.new_page()
    yield page
    context.close()


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


def refresh(page: Page) -> None:
    """Let the page refresh itself now, as it does every other second."""
    page.wait_for_load_state("load")
    with page.expect_response("**/live", timeout=PATIENCE_MS):
        page.evaluate("htmx.trigger('#live', 'refresh')")
    expect(page.locator(".htmx-request, .htmx-swapping, .htmx-settling")).to_have_count(0)


def test_the_page_fills_as_the_stages_finish(business: Any, page: Page) -> None:
    business.tell(stages=(StageStatus("Pipeline", "waiting"),), refunds_dsn=None)
    dsn = business.server.dsn("caspers")
    with ConsoleServer(create_app(business), port=0) as console:
        troubles = troubles_of(page)
        page.goto(console.url)
        expect(page.locator(".stage")).to_have_text(re.compile("Pipeline\\s+waiting"))
        expect(page.locator(".card").first).to_contain_text("not yet known")
        _shoot(page, "waiting-light")

        business.tell(
            stages=(StageStatus("Pipeline", "running", "reading events", 2),),
            virtual_time=datetime(2024, 3, 11, 18, 5, tzinfo=UTC),
            tables=(("lakeflow.all_events", 1200),),
        )
        expect(page.locator(".stage")).to_contain_text("reading events")
        expect(page.locator(".clock")).to_contain_text("2024-03-11 18:05")
        expect(page.locator(".tables")).to_contain_text("1,200")

        business.refund("order-1")
        business.complaint("c-1")
        business.tell(refunds_dsn=dsn)
        expect(page.locator(".row")).to_have_count(2)
        expect(page.locator(".card").first).to_contain_text("1")
    assert [line for line in troubles if "ERR_" not in line] == []


def test_a_refresh_moves_nothing_and_lights_only_what_is_new(
    business: Any, console: ConsoleServer, page: Page
) -> None:
    for number in range(25):
        business.refund(f"order-{number}", minute=number)
    page.set_viewport_size({"width": 1000, "height": 500})
    page.goto(console.url)
    page.evaluate("window.kept = document.querySelector('.row'); window.scrollTo(0, 600)")
    scrolled = page.evaluate("window.scrollY")
    assert scrolled > 0
    refresh(page)
    refresh(page)
    assert page.evaluate("window.scrollY") == scrolled
    assert page.evaluate("window.kept.isConnected")
    assert page.locator(".arrived").count() == 0
    business.refund("order-new", minute=90)
    expect(page.locator(".arrived")).to_have_count(1)
    assert page.evaluate("window.kept.isConnected")
    expect(page.locator(".row").first).to_contain_text("order-new")


def test_a_hidden_page_asks_for_nothing_until_it_is_seen_again(
    console: ConsoleServer, page: Page
) -> None:
    page.goto(console.url)
    refresh(page)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    page.wait_for_timeout(4500)
    assert asked == []
    with page.expect_request("**/live"):
        page.evaluate(
            "Object.defineProperty(document, 'hidden', {value: false});"
            "document.dispatchEvent(new Event('visibilitychange'))"
        )


def test_a_console_that_went_away_is_said_so(business: Any, page: Page) -> None:
    with ConsoleServer(create_app(business), port=0) as console:
        page.goto(console.url)
        refresh(page)
        expect(page.locator("#offline")).to_be_hidden()
        port = int(console.url.rsplit(":", 1)[1])
    expect(page.locator("#offline")).to_be_visible()
    with ConsoleServer(create_app(business), port=port):
        expect(page.locator("#offline")).to_be_hidden()


def test_a3_hostile_text_is_shown_and_never_runs(
    business: Any, console: ConsoleServer, page: Page, hostile_texts: tuple[str, ...]
) -> None:
    _fill_with(business, hostile_texts)
    troubles = troubles_of(page)
    page.goto(console.url)
    refresh(page)
    refresh(page)
    assert page.evaluate("window.pwned") is None
    assert page.locator("h1").count() == 1
    assert page.locator("#live img:not(.brand img), #live script").count() == 0
    assert page.locator(".row").count() == 2 * len(hostile_texts)
    shown = " ".join((page.locator(".refunds").text_content() or "").split())
    for text in hostile_texts:
        assert " ".join(text.split())[:300] in shown
    assert "49" not in shown
    assert _overflow(page) == 0
    assert troubles == []


def test_the_page_fits_a_phone(
    business: Any, console: ConsoleServer, phone: Page, hostile_texts: tuple[str, ...]
) -> None:
    _fill_with(business, hostile_texts)
    phone.goto(console.url)
    refresh(phone)
    assert _overflow(phone) == 0


def test_text_has_enough_contrast(
    business: Any, console: ConsoleServer, page: Page, dark_page: Page
) -> None:
    _fill_with_a_day(business)
    business.tell(complaints_dsn="host=/nowhere")
    for view in (page, dark_page):
        view.goto(console.url)
        assert view.evaluate(CONTRASTS_BELOW_AA) == []


@pytest.mark.parametrize(
    ("name", "shot"),
    [("page", "light"), ("dark_page", "dark"), ("phone", "phone"), ("tablet", "tablet")],
)
def test_a_full_page_draws_without_trouble(
    business: Any, console: ConsoleServer, request: pytest.FixtureRequest, name: str, shot: str
) -> None:
    _fill_with_a_day(business)
    page: Page = request.getfixturevalue(name)
    troubles = troubles_of(page)
    page.goto(console.url)
    refresh(page)
    assert page.locator(".refunds .row").count() == 25
    assert page.locator(".complaints .row").count() == 25
    assert _overflow(page) == 0
    assert troubles == []
    _shoot(page, shot)


def test_a_page_with_a_failed_stage_and_a_lost_database_still_draws(
    business: Any, console: ConsoleServer, page: Page
) -> None:
    _fill_with_a_day(business)
    failed = StageStatus("Complaint sync", "failed", "Database caspers_complaints is full.", 2.5)
    business.tell(stages=(*business.status.stages[:-1], failed), complaints_dsn="host=/nowhere")
    page.goto(console.url)
    expect(page.locator(".notice:visible")).to_have_text(
        "Database caspers_complaints does not answer. Trying again."
    )
    expect(page.locator(".stage.failed")).to_contain_text("is full")
    assert page.locator(".refunds .row").count() == 25
    _shoot(page, "trouble")


def _overflow(page: Page) -> int:
    """Pixels by which the page can be scrolled sideways."""
    width: int = page.evaluate(
        "(() => { scrollTo(9999, scrollY); const x = scrollX; scrollTo(0, scrollY); return x })()"
    )
    return width


def _shoot(page: Page, name: str) -> None:
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"{name}.png")


def _fill_with(business: Any, texts: tuple[str, ...]) -> None:
    """Every field that holds text holds each of `texts`."""
    fields = ["complaint_category", "decision", "priority", "rationale", "customer_response"]
    for text in texts:
        business.refund(text, refund_class=text, reason=text, source=text)
        business.complaint(text, order=text, source=text, **dict.fromkeys(fields, text))
    business.tell(
        stages=tuple(StageStatus(text, "running", text, 1) for text in texts),
        tables=tuple((text, 1) for text in texts),
    )


def _fill_with_a_day(business: Any) -> None:
    """A business in full swing."""
    reasons = {
        "none": "Within the usual time of this kitchen.",
        "partial": "Delivered in 58 minutes, slower than three in four orders here (P75 51).",
        "full": "Delivered in 93 minutes, beyond what 99 in 100 orders take here (P99 84).",
    }
    for number in range(120):
        kind = ("none", "partial", "partial", "full")[number * 7 % 4]
        business.refund(
            f"7c1e{number * 7919:08x}-5b0d-4f6a-9c2e",
            minute=number,
            took=31 + number % 60,
            refund_class=kind,
            refund_usd={"none": 0, "partial": 6.4 + number / 10, "full": 38.5 + number}[kind],
            reason=reasons[kind],
        )
    cases = [
        (
            "delivery_delay",
            "suggest_credit",
            9.75,
            "standard",
            "It came after 74 minutes; most orders of this kitchen take 44.",
        ),
        (
            "missing_items",
            "escalate",
            0,
            "high",
            "The order has six lines, and the complaint names none of them.",
        ),
        ("food_quality", "suggest_credit", 6.2, "standard", "Food was on the road for 41 minutes."),
        (
            "service_issue",
            "escalate",
            0,
            "urgent",
            "A person has to read what happened at the door.",
        ),
    ]
    for number in range(60):
        category, decision, usd, priority, rationale = cases[number % 4]
        business.complaint(
            f"c-{number}",
            order=f"7c1e{number * 7919:08x}-5b0d-4f6a-9c2e",
            minute=number,
            complaint_category=category,
            decision=decision,
            credit_amount=usd,
            priority=priority,
            rationale=rationale,
            customer_response="We are sorry: this is not how it should have been. "
            + ("A credit is on its way." if usd else "A colleague will write to you today."),
        )
    business.tell(
        virtual_time=datetime(2024, 3, 11, 18, 5, tzinfo=UTC) + timedelta(minutes=7),
        speed=60.0,
        stages=(
            StageStatus("Canonical data", "done", "776,103 events to 18:12", 14.2),
            StageStatus("Pipeline", "done", "1,645 new events", 9.1),
            StageStatus("Refund recommender", "done", "57,310 orders judged", 21.7),
            StageStatus("Complaint generator", "done", "8,604 complaints", 6.3),
            StageStatus("Complaint agent", "running", "answering 412 complaints", 3.4),
            StageStatus("Refund sync", "done", "57,310 rows in Postgres", 4.9),
            StageStatus("Complaint sync", "waiting", "after the complaint agent"),
        ),
        tables=(
            ("lakeflow.all_events", 776_103),
            ("lakeflow.silver_order_items", 158_220),
            ("lakeflow.gold_order_header", 57_388),
            ("lakeflow.gold_item_sales_day", 41_007),
            ("lakeflow.gold_brand_sales_day", 1_699),
            ("lakeflow.gold_location_sales_hourly", 6_120),
            ("recommender.refund_recommendations", 57_310),
            ("complaints.raw_complaints", 8_604),
            ("complaints.complaint_responses", 8_192),
        ),
    )


# WCAG's ratio of each visible text against the nearest opaque background, where it is below 4.5.
CONTRASTS_BELOW_AA = """() => {
  const channels = (color) => color.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => {
    const linear = [r, g, b].map((value) => value / 255)
      .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const background = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = channels(getComputedStyle(at).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const own = (element) => [...element.childNodes]
    .some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
  return [...document.querySelectorAll("body *")]
    .filter((element) => element.checkVisibility() && own(element))
    .map((element) => {
      const [one, other] = [channels(getComputedStyle(element).color), background(element)]
        .map(luminance).sort((a, b) => b - a);
      return [(one + 0.05) / (other + 0.05), element.className, element.textContent];
    })
    .filter(([ratio]) => ratio < 4.5);
}"""
