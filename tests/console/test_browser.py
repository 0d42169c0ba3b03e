"""The page in a real browser; screenshots go to artifacts/console."""

from datetime import timedelta
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from caspers_lib.console.serve import ConsoleServer
from caspers_lib.console.source import StageStatus, TableStatus
from tests.console.browsing import PATIENCE_MS, axe, overflow, shoot, troubles_of
from tests.console.conftest import NOON


def refresh(page: Page) -> None:
    """Let the page refresh itself now, as it does every other second."""
    page.wait_for_load_state("load")
    with page.expect_response("**/live*", timeout=PATIENCE_MS):
        page.evaluate("htmx.trigger('#live', 'refresh')")
    expect(page.locator(".htmx-request, .htmx-swapping, .htmx-settling")).to_have_count(0)


def test_the_page_fills_as_the_stages_finish(business: Any, serve: Any, page: Page) -> None:
    address, business.addresses["caspers"] = business.addresses["caspers"], None
    business.tell(stages=(StageStatus("Pipeline", "waiting"),))
    with serve(business.parts()) as console:
        troubles = troubles_of(page)
        page.goto(console.url)
        expect(page.locator(".stage")).to_contain_text("Pipeline")
        expect(page.locator(".card").first).to_contain_text("not yet known")
        shoot(page, "waiting-light")

        business.tell(
            stages=(StageStatus("Pipeline", "running", "reading events", 2),),
            virtual_time=NOON + timedelta(hours=1),
            tables=(TableStatus("lakeflow.all_events", 1200),),
        )
        expect(page.locator(".stage")).to_contain_text("reading events")
        expect(page.locator(".moment")).to_contain_text("2024-03-11 13:00")
        expect(page.locator(".tables")).to_contain_text("1,200")

        business.order("order-1", minute=5)
        business.refund("order-1")
        business.complaint("c-1")
        business.addresses["caspers"] = address
        expect(page.locator(".refunds .row, .complaints .row")).to_have_count(2)
        expect(page.locator(".card").first).to_contain_text("1")
        expect(page.locator("#rate-plot canvas")).to_have_count(1)
    assert [line for line in troubles if "ERR_" not in line] == []


def test_a_refresh_moves_nothing_and_lights_only_what_is_new(
    business: Any, console: ConsoleServer, page: Page
) -> None:
    for number in range(12):
        business.order(f"order-{number}", minute=number)
    page.set_viewport_size({"width": 1000, "height": 500})
    page.goto(console.url)
    page.evaluate("window.kept = document.querySelector('.tail .row'); window.scrollTo(0, 600)")
    scrolled = page.evaluate("window.scrollY")
    assert scrolled > 0
    refresh(page)
    refresh(page)
    assert page.evaluate("window.scrollY") == scrolled
    assert page.evaluate("window.kept.isConnected")
    assert page.locator(".arrived").count() == 0
    business.order("order-new", minute=11.5)
    expect(page.locator(".tail .arrived")).to_have_count(1)
    expect(page.locator(".tail .row").first).to_contain_text("order-new")
    assert page.evaluate("window.kept.isConnected")


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


def test_a_console_that_went_away_is_said_so(business: Any, serve: Any, page: Page) -> None:
    with serve(business.parts()) as console:
        page.goto(console.url)
        refresh(page)
        expect(page.locator("#offline")).to_be_hidden()
        port = int(console.url.rsplit(":", 1)[1])
    expect(page.locator("#offline")).to_be_visible()
    with serve(business.parts(), port=port):
        expect(page.locator("#offline")).to_be_hidden()


def test_a_lost_database_is_a_notice_until_it_is_back(
    business: Any, console: ConsoleServer, page: Page
) -> None:
    business.order("order-1")
    page.goto(console.url)
    expect(page.locator(".tail")).to_contain_text("order-1")
    home = business.addresses["caspers"]
    business.addresses["caspers"] = "host=/nowhere dbname=caspers"
    notice = page.locator("#live .notice")
    expect(notice).to_have_text("Database caspers does not answer. Trying again.")
    expect(page.locator(".card").first).to_contain_text("not yet known")
    business.addresses["caspers"] = home
    expect(notice).to_have_count(0)
    expect(page.locator(".tail")).to_contain_text("order-1")


def test_a_person_steers_the_replay(business: Any, console: ConsoleServer, page: Page) -> None:
    business.tell(virtual_time=NOON, speed=60.0)
    troubles = troubles_of(page)
    page.goto(console.url)
    pressed = page.get_by_role("button", pressed=True)
    expect(pressed).to_have_text("60x")

    page.get_by_role("button", name="Pause").click()
    expect(page.locator(".toast")).to_have_text("The replay is paused.")
    business.tell(paused=True)
    expect(page.locator(".moment")).to_contain_text("paused 60x")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator(".toast")).to_have_text("The replay goes on.")

    page.get_by_role("group", name="Speed").get_by_role("button", name="300x").click()
    expect(page.locator(".toast")).to_have_text("The replay plays at speed 300.")
    business.tell(speed=300.0)
    expect(pressed).to_have_text("300x")

    page.get_by_role("group", name="Seek by").get_by_role("button", name="+6 h").click()
    expect(page.locator(".toast")).to_have_text("The replay goes to +6h.")
    assert business.tape.done == ["pause", "resume", "speed 300", "seek +6h"]
    assert troubles == []


def test_a_person_types_a_time_while_the_page_refreshes_itself(
    business: Any, console: ConsoleServer, page: Page
) -> None:
    business.tell(virtual_time=NOON, speed=60.0)
    page.goto(console.url)
    field = page.get_by_label("Seek to")
    field.press_sequentially("2024-03-")
    refresh(page)
    expect(field).to_be_focused()
    field.press_sequentially("16T12:30")
    field.press("Enter")
    expect(page.locator(".toast")).to_have_text("The replay goes to 2024-03-16T12:30.")
    assert business.tape.done == ["seek 2024-03-16T12:30"]

    business.tape.refusal = "Day <b>99</b> is outside the dataset."
    field.fill("99")
    page.get_by_role("button", name="Go").click()
    expect(page.locator(".toast.refused")).to_have_text(
        "Day <b>99</b> is outside the dataset. Try another."
    )
    expect(page.locator("#offline")).to_be_hidden()


def test_a_person_looks_at_one_city_and_at_all_again(
    business: Any, console: ConsoleServer, page: Page
) -> None:
    _fill_with_a_day(business)
    page.goto(console.url)
    expect(page.locator(".city")).to_have_count(2)
    page.get_by_role("link", name="Chicago").click()
    expect(page.locator(".city")).to_have_count(1)
    expect(page.get_by_role("navigation", name="City").locator("[aria-current]")).to_contain_text(
        "Chicago"
    )
    refresh(page)
    expect(page.locator(".city figcaption")).to_contain_text("Chicago")
    assert page.locator(".drivers tbody tr").count() == page.locator(".driver").count() > 3
    page.get_by_role("link", name="All", exact=True).click()
    expect(page.locator(".city")).to_have_count(2)


def test_a_driver_moves_where_the_next_ping_is(
    business: Any, console: ConsoleServer, page: Page
) -> None:
    business.city(1, "San Francisco")
    business.order("o-1", until="driver_picked_up_ts")
    page.goto(console.url)
    driver = page.locator(".driver")
    expect(driver).to_have_attribute("cy", "0")
    page.evaluate("window.kept = document.querySelector('.driver')")
    ping = {"progress_pct": 50, "loc_lat": 37.775, "loc_lon": -122.42}
    business.event("o-1", "driver_ping", ping, minute=20)
    expect(driver).not_to_have_attribute("cy", "0")
    assert page.evaluate("window.kept.isConnected")


def test_a3_hostile_text_is_shown_and_never_runs(
    business: Any, serve: Any, page: Page, hostile_texts: tuple[str, ...]
) -> None:
    troubles = troubles_of(page)
    for text in hostile_texts:
        business.fill(text)
        with serve(business.parts()) as console:
            for path in ("/?city=1", "/refunds", "/complaints"):
                page.goto(f"{console.url}{path}")
                page.wait_for_function("window.htmx !== undefined")
                assert page.evaluate("window.pwned") is None, text
                assert page.locator("h1").count() == 1
                assert page.locator("main img, main script").count() == 0
                shown = " ".join((page.locator("main").text_content() or "").split())
                assert " ".join(text.split())[:190] in shown
                assert overflow(page) == 0, text
            # A page that outlives its console asks in vain.
            page.goto("about:blank")
    assert troubles == []


@pytest.mark.parametrize(
    ("name", "shot"),
    [
        ("page", "light"),
        ("dark_page", "dark"),
        ("phone", "phone"),
        ("dark_phone", "dark-phone"),
        ("tablet", "tablet"),
    ],
)
def test_a_full_page_draws_without_trouble_and_axe_finds_nothing(
    business: Any, console: ConsoleServer, request: pytest.FixtureRequest, name: str, shot: str
) -> None:
    _fill_with_a_day(business)
    page: Page = request.getfixturevalue(name)
    troubles = troubles_of(page)
    pages = (("/", "live"), ("/?city=2", "city"), ("/refunds", "refunds"),
             ("/complaints", "complaints"))  # fmt: skip
    for path, shown in pages:
        page.goto(f"{console.url}{path}")
        expect(page.locator(".row").first).to_be_visible()
        assert overflow(page) == 0
        shoot(page, f"{shown}-{shot}")
        assert axe(page) == [], path
    assert troubles == []
    business.addresses["caspers"] = None
    business.tell(stages=(StageStatus("Pipeline", "failed", "no space left"),))
    page.goto(console.url)
    assert axe(page) == []


def _fill_with_a_day(business: Any) -> None:
    """A business in full swing."""
    reasons = {
        "none": "Within the usual time of this kitchen.",
        "partial": "Delivered in 58 minutes, slower than three in four orders here (P75 51).",
        "full": "Delivered in 93 minutes, beyond what 99 in 100 orders take here (P99 84).",
    }
    cities = {1: ("San Francisco", (37.77, -122.42)), 2: ("Chicago", (41.88, -87.63))}
    for location, (city, place) in cities.items():
        business.city(location, city, place)
    for number in range(60):
        location, steps = 1 + number % 2, ("gk_started_ts", "driver_picked_up_ts", "delivered_ts")
        order = f"7c1e{number * 7919:08x}-5b0d-4f6a-9c2e"
        business.order(order, minute=number, until=steps[number % 3], location=location)
        business.worth(order, f"{18 + number}.40")
        lat, lon = cities[location][1]
        turn = (number % 7 - 3) / 100
        route = [[lat, lon], [lat + turn, lon], [lat + turn, lon + turn * 1.5]]
        business.event(order, "driver_picked_up", {"route_points": route}, minute=number + 20)
        business.event(
            order, "driver_ping", {"loc_lat": lat + turn / 2, "loc_lon": lon}, minute=number + 21
        )
    for number in range(60):
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
        virtual_time=NOON + timedelta(minutes=81),
        place="day 70 of 90",
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
            TableStatus("lakeflow.all_events", 776_103, 12.5),
            TableStatus("lakeflow.silver_order_items", 158_220, 12.5),
            TableStatus("lakeflow.gold_order_header", 57_388, 12.5),
            TableStatus("lakeflow.gold_item_sales_day", 41_007, 12.5),
            TableStatus("lakeflow.gold_brand_sales_day", 1_699, 12.5),
            TableStatus("lakeflow.gold_location_sales_hourly", 6_120, 12.5),
            TableStatus("recommender.refund_recommendations", 57_310, 12.5),
            TableStatus("complaints.raw_complaints", 8_604, 12.5),
            TableStatus("complaints.complaint_responses", 8_192, 12.5),
        ),
    )
