"""Refunds and complaints in a real browser: what a person does there; screenshots in artifacts."""

from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from caspers_lib.console.decisions.values import COMPLAINT_CASES, REFUND_CASES
from caspers_lib.console.serve import ConsoleServer
from caspers_lib.lakebase import order_tables
from caspers_lib.lakebase.synced_tables import COMPLAINT_TEXTS
from tests.console.browsing import axe, overflow, shoot, troubles_of

LINES = next(spec for spec in order_tables() if spec.name == "lines")


@pytest.fixture(autouse=True)
def day(business: Any, story_tables: None) -> None:  # noqa: ARG001 - they come first
    """Thirty late orders, each with a complaint, and nothing decided."""
    business.city(1, "San Francisco")
    for number in range(30):
        order = f"order-{number:02d}"
        business.order(order, minute=number)
        business.worth(order, "60")
        business.refund(order, minute=number + 40, refund_usd=5 + number)
        business.complaint(f"complaint-{number:02d}", order=order, minute=number)
    business.event(
        "order-29", "driver_picked_up", {"route_points": [[37.77, -122.42], [37.78, -122.4]]}
    )
    business.event("order-29", "driver_ping", {"loc_lat": 37.775, "loc_lon": -122.41}, minute=1)
    with business.connect(COMPLAINT_TEXTS) as connection:
        query = f"INSERT INTO {COMPLAINT_TEXTS.target} VALUES ('complaint-29', '<i>Cold!</i>')"
        connection.execute(query.encode())
    with business.connect(LINES) as connection:
        query = f"INSERT INTO {LINES.target} VALUES ('order-29', 1, 'Charred leek bowl', 2, 40)"
        connection.execute(query.encode())


def test_a_person_decides_with_the_keys(console: ConsoleServer, page: Page) -> None:
    page.goto(f"{console.url}/refunds")
    page.keyboard.press("j")
    expect(page.locator(".case").first).to_be_focused()
    page.keyboard.press("a")
    expect(page.get_by_role("status")).to_contain_text("order-29: approved with $34.00.")
    expect(page.locator(".case").first).to_contain_text("order-28")
    page.keyboard.press("Escape")
    page.locator(".case").first.focus()
    page.keyboard.press("j")
    page.keyboard.press("r")
    expect(page.get_by_role("status")).to_contain_text("order-27: rejected.")
    page.keyboard.press("/")
    expect(page.locator("#search")).to_be_focused()
    page.keyboard.type("order-26 a r j")
    page.keyboard.press("Enter")
    expect(page.locator("#list .empty")).to_contain_text("no refund fits the filter")
    assert troubles_of(page) == []


def test_a_person_opens_a_case_changes_it_and_takes_it_back(
    console: ConsoleServer,
    page: Page,
) -> None:
    page.goto(f"{console.url}/refunds")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_contain_text("order-29")
    expect(page.locator("main")).to_contain_text("Charred leek bowl")
    expect(page.locator("svg .driver")).to_have_count(1)
    page.get_by_label("Amount, USD").fill("12.50")
    page.get_by_role("button", name="Give this amount instead").click()
    expect(page.locator("main")).to_contain_text("The action change needs a reason.")
    page.go_back()
    page.get_by_label("Amount, USD").fill("12.50")
    page.get_by_label("Reason").fill("<b>cold</b>")
    page.get_by_role("button", name="Give this amount instead").click()
    expect(page.locator("main")).to_contain_text("$0.00 → $12.50")
    expect(page.locator("main")).to_contain_text("<b>cold</b>")
    page.get_by_label("Reason").fill("wrong order")
    page.get_by_role("button", name="Reverse").click()
    expect(page.locator("main")).to_contain_text("changed → pending")
    shoot(page, "case")
    assert troubles_of(page) == []


def test_a_person_decides_many_at_once(console: ConsoleServer, page: Page) -> None:
    page.goto(f"{console.url}/refunds")
    boxes = page.locator("input[type=checkbox]")
    for number in range(3):
        boxes.nth(number).check()
    page.get_by_role("button", name="Approve selected").click()
    expect(page.get_by_role("status")).to_contain_text("3 decided.")
    expect(page.locator(".case").first).to_contain_text("order-26")
    page.get_by_label("Status").select_option("approved")
    page.get_by_role("button", name="Show").click()
    expect(page.locator(".case")).to_have_count(3)
    expect(page.locator(".cards")).to_contain_text("Given $99.00 3 decisions", use_inner_text=True)
    assert troubles_of(page) == []


def test_two_people_at_once_the_second_is_told(
    console: ConsoleServer,
    page: Page,
    phone: Page,
) -> None:
    for each in (page, phone):
        each.goto(f"{console.url}/refunds/case?case_id=order-29")
    page.get_by_role("button", name="Approve $34.00").click()
    expect(page.locator("main")).to_contain_text("$0.00 → $34.00")
    phone.get_by_role("button", name="Approve $34.00").click()
    expect(phone.locator("main")).to_contain_text("This is not what you saw any more")


def test_a_person_pages_through_the_list_and_back(console: ConsoleServer, page: Page) -> None:
    page.goto(f"{console.url}/refunds?sort=oldest")
    expect(page.locator(".case")).to_have_count(25)
    page.get_by_role("link", name="Next page").click()
    expect(page.locator(".case")).to_have_count(5)
    expect(page.locator(".case").first).to_contain_text("order-25")
    page.get_by_role("link", name="First page").click()
    expect(page.locator(".case").first).to_contain_text("order-00")


def test_a_complaint_is_accepted_with_an_edited_reply(
    business: Any,
    console: ConsoleServer,
    page: Page,
) -> None:
    page.goto(f"{console.url}/complaints")
    shoot(page, "complaints")
    page.locator("a.open").first.click()
    expect(page.locator("main")).to_contain_text("<i>Cold!</i>")
    page.get_by_label("Reply to the customer").fill("We <3 you & are sorry.")
    page.get_by_role("button", name="Accept $5.25").click()
    expect(page.locator("main")).to_contain_text("We <3 you & are sorry.")
    with business.connect(COMPLAINT_CASES.spec) as connection:
        query = f"SELECT case_id, reply FROM {COMPLAINT_CASES.trail}"
        found = connection.execute(query.encode()).fetchall()
    assert found == [("complaint-29", "We <3 you & are sorry.")]
    page.goto(f"{console.url}/complaints/case?case_id=complaint-28")
    page.get_by_label("Reason").fill("a lawyer")
    page.get_by_role("button", name="Escalate").click()
    expect(page.locator("main")).to_contain_text("pending → escalated")
    assert troubles_of(page) == []


@pytest.mark.parametrize("name", ["page", "dark_page", "phone", "dark_phone"])
def test_axe_finds_nothing_and_nothing_is_wider_than_the_page(
    console: ConsoleServer, name: str, request: pytest.FixtureRequest
) -> None:
    page: Page = request.getfixturevalue(name)
    for path in ("/refunds", "/complaints", "/refunds/case?case_id=order-29",
                 "/complaints/case?case_id=complaint-29"):  # fmt: skip
        page.goto(console.url + path)
        shoot(page, f"{name} {path.strip('/').replace('/', ' ').partition('?')[0]}")
        assert axe(page) == [], path
        assert overflow(page) == 0, path


def test_a3_hostile_text_is_shown_on_a_case_and_never_runs(
    business: Any,
    console: ConsoleServer,
    page: Page,
    hostile_texts: tuple[str, ...],
) -> None:
    for text in hostile_texts:
        business.fill(text)
        business.event(text, text, {"route_points": text, "loc_lat": text})
        business.worth(text, "60")
        for kind, button in (("refunds", "Approve"), ("complaints", "Accept")):
            page.goto(f"{console.url}/{kind}/case?case_id={quote(text, safe='')}")
            expect(page.locator("h1")).not_to_have_text("")
            assert overflow(page) == 0, text[:60]
            page.get_by_role("button", name=button).click()
            expect(page.locator("main")).to_contain_text("pending → approved")
        assert page.evaluate("window.pwned") is None
        for kind in (REFUND_CASES, COMPLAINT_CASES):
            with business.connect(kind.spec) as connection:
                connection.execute("DROP SCHEMA console CASCADE")


def test_on_a_phone_the_list_comes_first_and_the_filter_opens(
    console: ConsoleServer, phone: Page
) -> None:
    phone.goto(f"{console.url}/refunds")
    city = phone.locator("select[name=city]")
    expect(city).to_be_hidden()
    phone.get_by_text("Filter", exact=True).click()
    city.select_option("San Francisco")
    phone.get_by_role("button", name="Show").click()
    expect(city).to_have_value("San Francisco")
    expect(phone.locator(".case").first).to_contain_text("San Francisco")
    assert troubles_of(phone) == []
