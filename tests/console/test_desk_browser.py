"""Refunds and complaints in a real browser: what a person does there; screenshots in artifacts."""

import json
import re
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from caspers_lib.console.decisions import desk, steps
from caspers_lib.console.decisions.values import COMPLAINT_CASES, REFUND_CASES, CaseKind
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


@pytest.fixture(autouse=True)
def long_to_undo(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is slow; `test_decisions.py` tries the ten seconds."""
    for module in (steps, desk):
        monkeypatch.setattr(module, "UNDO_SECONDS", 1000)


def test_a_person_decides_with_the_keys(console: ConsoleServer, page: Page) -> None:
    page.goto(f"{console.url}/refunds")
    page.keyboard.press("j")
    expect(page.locator(".case").first).to_be_focused()
    page.keyboard.press("a")
    expect(page.get_by_role("status")).to_contain_text("order-29: approved with $34.00.")
    first = page.locator(".case").first
    expect(first).to_contain_text("Approved $34.00 by local, decided at (wall clock, UTC)")
    expect(first).to_contain_text("delivered (event time, UTC) 2024-03-11 13:09")
    expect(first).to_be_focused()
    page.keyboard.press("a")
    expect(page.get_by_role("status")).to_contain_text("It is approved. Enter opens it.")
    page.keyboard.press("j")
    page.keyboard.press("r")
    expect(page.get_by_role("status")).to_contain_text("order-28: rejected.")
    expect(page.locator(".case").nth(1)).to_contain_text("Rejected by local")
    page.keyboard.press("u")
    expect(page.get_by_role("status")).to_contain_text("order-28: undone.")
    expect(page.locator(".case").nth(1).locator(".approve")).to_be_visible()
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
    page.get_by_label("Reason").fill("<b>cold</b>")
    page.get_by_role("button", name="Give $12.50").click()
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
    boxes.nth(3).check()
    boxes.nth(3).uncheck()
    page.get_by_role("button", name="Approve 3: $99.00").click()
    expect(page.get_by_role("status")).to_contain_text("3 approved: $99.00.")
    expect(page.locator(".case.decided")).to_have_count(3)
    page.get_by_role("button", name="Undo all 3").click()
    expect(page.get_by_role("status")).to_contain_text("3 undone.")
    expect(page.locator(".case.decided")).to_have_count(0)
    for number in range(3):
        boxes.nth(number).check()
    page.get_by_role("button", name="Approve 3: $99.00").click()
    expect(page.locator(".case.decided")).to_have_count(3)
    page.get_by_label("Status").select_option("approved")
    page.get_by_role("button", name="Show").click()
    expect(page.locator(".case")).to_have_count(3)
    expect(page.locator(".cards")).to_contain_text("Given $99.00 3 decisions", use_inner_text=True)
    assert troubles_of(page) == []


GAPS_MS = (0, 60, 200, 400, 800)


def decisions(business: Any, kind: CaseKind) -> list[tuple[str, str, str]]:
    """Case, action and amount of every decision, in their order."""
    query = f"SELECT case_id, action, amount_usd::text FROM {kind.trail} ORDER BY decided_at"
    with business.connect(kind.spec) as connection:
        return connection.execute(query.encode()).fetchall()


def settle(page: Page) -> None:
    """Wait until nothing that a click began is under way."""
    expect(page.locator(".htmx-request, .htmx-swapping, .htmx-settling")).to_have_count(0)


def click_twice(page: Page, button: Locator, gap_ms: int) -> None:
    """Two clicks where a button is, whatever is there at the second."""
    button.click(trial=True)
    box = button.bounding_box()
    assert box
    page.mouse.move(x := box["x"] + box["width"] / 2, y := box["y"] + box["height"] / 2)
    page.mouse.click(x, y)
    page.wait_for_timeout(gap_ms)
    page.mouse.click(x, y)


@pytest.mark.parametrize("name", ["page", "phone"])
@pytest.mark.parametrize(
    ("kind", "button"),
    [(REFUND_CASES, ".approve"), (COMPLAINT_CASES, ".approve"), (COMPLAINT_CASES, ".reject")],
)
def test_two_clicks_at_one_place_of_the_list_decide_one_case(
    business: Any,
    console: ConsoleServer,
    request: pytest.FixtureRequest,
    name: str,
    kind: CaseKind,
    button: str,
) -> None:
    page: Page = request.getfixturevalue(name)
    page.goto(f"{console.url}/{kind.name}")
    for number, gap_ms in enumerate(GAPS_MS):
        row = page.locator(".case").nth(number)
        click_twice(page, row.locator(button), gap_ms)
        expect(row).to_have_class(re.compile("decided"))
        settle(page)
        made = decisions(business, kind)
        assert len(made) == number + 1, (gap_ms, made)
    assert len({case_id for case_id, _, _ in made}) == len(GAPS_MS)


@pytest.mark.parametrize("gap_ms", GAPS_MS)
def test_two_clicks_without_scripts_decide_one_case_which_stays_and_can_be_undone(
    business: Any, console: ConsoleServer, plain_page: Page, gap_ms: int
) -> None:
    plain_page.goto(f"{console.url}/refunds?sort=oldest")
    click_twice(plain_page, plain_page.locator(".case").nth(3).locator(".approve"), gap_ms)
    row = plain_page.locator(".case").nth(3)
    expect(row).to_contain_text("Approved $8.00 by local")
    assert decisions(business, REFUND_CASES) == [("order-03", "approve", "8.00")]
    expect(plain_page.locator(".case").nth(2)).to_contain_text("order-02")
    row.get_by_role("button", name="Undo").click()
    expect(row.locator(".approve")).to_be_visible()
    assert decisions(business, REFUND_CASES)[1] == ("order-03", "undo", "0.00")


@pytest.mark.parametrize("kind", [REFUND_CASES, COMPLAINT_CASES])
def test_two_clicks_at_one_place_of_a_case_decide_once(
    business: Any, console: ConsoleServer, page: Page, kind: CaseKind
) -> None:
    for number, gap_ms in enumerate(GAPS_MS):
        page.goto(f"{console.url}/{kind.name}/case?case_id={kind.case}-{29 - number}")
        click_twice(page, page.locator(".give"), gap_ms)
        expect(page.get_by_role("button", name="Undo")).to_be_visible()
        assert len(decisions(business, kind)) == number + 1, gap_ms


@pytest.mark.parametrize("name", ["page", "phone"])
def test_no_row_moves_whoever_decides_and_whatever_arrives(
    business: Any,
    console: ConsoleServer,
    client: httpx.Client,
    request: pytest.FixtureRequest,
    name: str,
) -> None:
    page: Page = request.getfixturevalue(name)
    page.goto(f"{console.url}/complaints?sort=newest")
    places = "[...document.querySelectorAll('.case')].map((row) => [row.id, row.offsetTop])"
    before = page.evaluate(places)

    def someone(case_id: str, action: str, version: int = 0, **words: object) -> None:
        one = {"case_id": case_id, "version": version, "action": action, "reason": "why"}
        one |= {"key": f"{one}"} | words
        answer = client.post("/api/complaints/decisions", json={"decisions": [one]})
        assert answer.status_code == 200, answer.text

    someone("complaint-29", "approve", amount_usd="5.25")
    someone("complaint-28", "reject")
    someone("complaint-27", "escalate")
    someone("complaint-26", "reject")
    someone("complaint-26", "reverse", version=1)
    business.complaint("complaint-new", order="order-00", minute=90)
    expect(page.locator(".case").nth(0)).to_have_class(re.compile("decided"))
    expect(page.locator(".case").nth(1)).to_contain_text("Closed by local")
    expect(page.locator(".case").nth(2)).to_contain_text("Escalated by local")
    expect(page.locator(".case").nth(3)).to_contain_text("Sent back to pending by local")
    expect(page.get_by_role("link", name="1 new: show")).to_be_visible()
    assert page.evaluate(places) == before
    page.locator(".case").nth(4).locator(".approve").click()
    expect(page.locator(".case").nth(4)).to_contain_text("Accepted $5.25 by local")
    page.locator(".case").nth(4).get_by_role("button", name="Undo").click()
    expect(page.locator(".case").nth(4)).to_contain_text("Sent back to pending by local")
    assert page.evaluate(places) == before
    page.get_by_role("link", name="1 new: show").click()
    expect(page.locator(".case").first).to_contain_text("complaint-new")
    expect(page.locator(".case.decided")).to_have_count(0)


def test_a_page_that_moves_under_the_pointer_lets_no_second_click_decide(
    business: Any, console: ConsoleServer, page: Page
) -> None:
    page.goto(f"{console.url}/refunds")
    second = page.locator(".case").nth(2).locator(".approve")
    second.click(trial=True)
    box = second.bounding_box()
    assert box
    x, y = box["x"] + 5, box["y"] + 5
    page.mouse.click(x, y)
    expect(page.locator(".case").nth(2)).to_have_class(re.compile("decided"))
    height = page.evaluate("document.querySelectorAll('.case')[1].offsetHeight")
    page.evaluate(f"document.getElementById('list').style.marginTop = '-{height}px'")
    page.mouse.click(x, y)
    expect(page.get_by_role("status")).to_contain_text("The list moved under the pointer")
    assert len(decisions(business, REFUND_CASES)) == 1
    page.mouse.move(x + 40, y + 10)
    page.mouse.click(x, y)
    expect(page.locator(".case").nth(3)).to_have_class(re.compile("decided"))


def test_quick_keys_decide_each_row_that_they_were_pressed_on(
    business: Any, console: ConsoleServer, page: Page
) -> None:
    page.goto(f"{console.url}/refunds")
    for _ in range(6):
        page.keyboard.press("j")
        page.keyboard.press("a")
    expect(page.locator(".case.decided")).to_have_count(6)
    settle(page)
    made = decisions(business, REFUND_CASES)
    assert sorted(case_id for case_id, _, _ in made) == [f"order-{n}" for n in range(24, 30)]


def test_two_clicks_for_what_is_selected_decide_it_once(
    business: Any, console: ConsoleServer, page: Page
) -> None:
    page.goto(f"{console.url}/refunds")
    for number, gap_ms in enumerate(GAPS_MS):
        for row in range(2 * number, 2 * number + 2):
            page.locator(".case").nth(row).locator("input[type=checkbox]").check()
        click_twice(page, page.locator(".bulk button").first, gap_ms)
        expect(page.locator(".case.decided")).to_have_count(2 * number + 2)
        settle(page)
        assert len(decisions(business, REFUND_CASES)) == 2 * number + 2, gap_ms


def test_a_request_that_says_another_count_or_sum_decides_nothing(
    business: Any, client: httpx.Client
) -> None:
    offers = [{"case_id": f"order-{number}", "version": 0, "action": "approve", "key": f"{number}",
               "amount_usd": f"{5 + number}.00"} for number in (28, 29)]  # fmt: skip
    form = {"pick": [json.dumps(each) for each in offers], "each": "approve"}
    for count, usd in (("1", "67.00"), ("2", "34.00"), ("2", "67"), ("x", "y")):
        answer = client.post("/refunds/decide", data=form | {"count": count, "usd": usd})
        assert answer.status_code == 409, answer.text
    forged = form | {"count": "1", "usd": "67.00", "back": "/refunds?colour=red"}
    assert client.post("/refunds/decide", data=forged).status_code == 409
    assert client.get("/api/refunds/decisions").json() == []
    answer = client.post("/refunds/decide", data=form | {"count": "2", "usd": "67.00"})
    assert answer.status_code == 303
    assert len(decisions(business, REFUND_CASES)) == 2


def test_two_clicks_on_undo_undo_once_and_after_its_seconds_it_is_gone(
    business: Any, console: ConsoleServer, page: Page
) -> None:
    page.goto(f"{console.url}/refunds")
    for number, gap_ms in enumerate(GAPS_MS):
        row = page.locator(".case").nth(number)
        row.locator(".approve").click()
        click_twice(page, row.locator(".undo"), gap_ms)
        expect(row.locator(".approve")).to_be_visible()
        settle(page)
        made = [action for _, action, _ in decisions(business, REFUND_CASES)]
        assert made == ["approve", "undo"] * (number + 1), gap_ms
    page.locator(".case").first.locator(".approve").click()
    undo = page.locator(".undo")
    expect(undo).to_be_visible()
    page.evaluate(
        "document.getAnimations().filter((each) => each.animationName === 'expire')"
        ".forEach((each) => each.finish())"
    )
    expect(undo).to_be_hidden()


def test_undo_is_refused_when_its_seconds_are_over(
    business: Any, console: ConsoleServer, page: Page
) -> None:
    # The page is not told that anything changed, and goes on showing Undo.
    page.route("**/events", lambda route: route.abort())
    page.goto(f"{console.url}/refunds")
    row = page.locator(".case").first
    row.locator(".approve").click()
    undo = row.get_by_role("button", name="Undo")
    expect(undo).to_be_visible()
    trail = REFUND_CASES.trail
    with business.connect(REFUND_CASES.spec) as connection:
        connection.execute(
            f"ALTER TABLE {trail} DISABLE TRIGGER append_only;"
            f"UPDATE {trail} SET decided_at = decided_at - interval '1001 seconds';"
            f"ALTER TABLE {trail} ENABLE TRIGGER append_only".encode()
        )
    undo.click()
    expect(page.get_by_role("status")).to_contain_text("seconds to undo are over")
    expect(undo).to_have_count(0)
    assert len(decisions(business, REFUND_CASES)) == 1


@pytest.mark.parametrize("field", ["Amount, USD", "Reason"])
@pytest.mark.parametrize("name", ["page", "plain_page"])
@pytest.mark.parametrize("kind", [REFUND_CASES, COMPLAINT_CASES])
def test_enter_in_a_field_gives_what_stands_in_the_field(
    business: Any,
    console: ConsoleServer,
    request: pytest.FixtureRequest,
    kind: CaseKind,
    name: str,
    field: str,
) -> None:
    page: Page = request.getfixturevalue(name)
    page.goto(f"{console.url}/{kind.name}/case?case_id={kind.case}-29")
    page.get_by_label("Amount, USD").fill("1.11")
    give = page.locator(".give")
    expect(give).to_have_text("Give $1.11" if name == "page" else "Give the amount above")
    page.get_by_label(field).press("Enter")
    if name == "page":
        assert page.get_by_label("Reason").evaluate("field => field.validity.valueMissing")
    else:
        expect(page.locator("main")).to_contain_text("The action change needs a reason.")
    assert decisions(business, kind) == []
    expect(page.get_by_label("Amount, USD")).to_have_value("1.11")
    page.get_by_label("Reason").fill("a gift")
    page.get_by_label(field).press("Enter")
    expect(page.locator("main")).to_contain_text("$0.00 → $1.11")
    assert decisions(business, kind) == [(f"{kind.case}-29", "change", "1.11")]


def test_enter_in_a_case_without_an_amount_to_give_does_nothing(
    business: Any, console: ConsoleServer, page: Page
) -> None:
    page.goto(f"{console.url}/refunds/case?case_id=order-29")
    page.get_by_label("Reason").press("Enter")
    expect(page.locator("main")).to_contain_text("$0.00 → $34.00")
    page.get_by_label("Reason").fill("by Enter")
    page.get_by_label("Reason").press("Enter")
    page.get_by_label("Reason").fill("by its button")
    page.get_by_role("button", name="Reverse").click()
    expect(page.locator("main")).to_contain_text("approved → pending")
    expect(page.locator("main")).to_contain_text("by its button")
    expect(page.locator(".give")).to_have_text("Approve $34.00")
    page.get_by_label("Amount, USD").fill("")
    expect(page.locator(".give")).to_have_text("Give the amount above")
    page.get_by_label("Reason").press("Enter")
    assert page.get_by_label("Amount, USD").evaluate("field => field.validity.valueMissing")
    assert [action for _, action, _ in decisions(business, REFUND_CASES)] == ["approve", "reverse"]


@pytest.mark.parametrize("name", ["page", "plain_page"])
def test_enter_on_a_box_of_the_list_decides_nothing(
    business: Any, console: ConsoleServer, request: pytest.FixtureRequest, name: str
) -> None:
    page: Page = request.getfixturevalue(name)
    page.goto(f"{console.url}/refunds")
    page.locator("input[type=checkbox]").nth(2).press("Enter")
    page.locator(".case").nth(4).locator(".reject").click()
    expect(page.locator(".case").nth(4)).to_contain_text("Rejected by local")
    assert decisions(business, REFUND_CASES) == [("order-25", "reject", "0.00")]


def test_back_ticks_no_other_case(
    business: Any, console: ConsoleServer, client: httpx.Client, page: Page
) -> None:
    page.goto(f"{console.url}/refunds")
    page.locator("input[type=checkbox]").nth(1).check()
    page.get_by_role("link", name="Next page").click()
    expect(page.locator(".case")).to_have_count(5)
    one = {"case_id": "order-29", "version": 0, "action": "approve", "amount_usd": "34.00",
           "key": "k"}  # fmt: skip
    assert client.post("/api/refunds/decisions", json={"decisions": [one]}).status_code == 200
    page.go_back()
    expect(page.locator(".case").nth(24)).to_be_visible()
    ticked = page.locator(".case:has(input:checked)")
    for row in ticked.all():
        expect(row).to_contain_text("order-28")
    count = ticked.count()
    expect(page.locator(".bulk button").first).to_have_text(f"Approve {count}: ${33 * count}.00")
    assert len(decisions(business, REFUND_CASES)) == 1


def test_many_without_scripts_are_shown_with_count_and_sum_before_they_are_decided(
    business: Any, console: ConsoleServer, client: httpx.Client, plain_page: Page
) -> None:
    plain_page.goto(f"{console.url}/refunds")
    for number in range(3):
        plain_page.locator("input[type=checkbox]").nth(number).check()
    plain_page.get_by_role("button", name="Approve selected").click()
    expect(plain_page.locator("h1")).to_have_text("Approve 3 refunds of $99.00 together?")
    assert decisions(business, REFUND_CASES) == []
    one = {"case_id": "order-29", "version": 0, "action": "reject", "key": "k"}
    assert client.post("/api/refunds/decisions", json={"decisions": [one]}).status_code == 200
    plain_page.get_by_role("button", name="Approve 3 of $99.00").click()
    expect(plain_page.get_by_role("alert")).to_contain_text("2 approved: $65.00. 1 refused: ")
    expect(plain_page.locator(".case.decided")).to_have_count(3)
    expect(plain_page.locator(".case")).to_have_count(25)
    assert len(decisions(business, REFUND_CASES)) == 3


def test_an_urgent_complaint_is_not_ended_by_a_key_a_click_or_in_bulk(
    business: Any, console: ConsoleServer, client: httpx.Client, page: Page
) -> None:
    business.complaint(
        "hair", order="order-00", minute=99, decision="escalate", credit_amount=None,
        priority="urgent", rationale="The text speaks of `hair`.",
    )  # fmt: skip
    page.goto(f"{console.url}/complaints")
    row = page.locator(".case").first
    expect(row).to_contain_text("hair")
    expect(row.locator(".badge.alarm")).to_have_text("urgent")
    expect(row.locator("button, input[type=checkbox]")).to_have_count(0)
    row.focus()
    for key in "ar":
        page.keyboard.press(key)
        expect(page.get_by_role("status")).to_have_text(
            "An urgent or escalated complaint needs a reason. Enter opens it."
        )
        page.evaluate("document.getElementById('toasts').replaceChildren()")
    pick = {"case_id": "hair", "version": 0, "action": "approve", "key": "k"}
    form = {"pick": json.dumps(pick), "each": "reject", "count": "1", "usd": "0.00"}
    in_bulk = client.post("/complaints/decide", data=form, headers={"Accept": "text/html"})
    assert in_bulk.status_code == 409
    assert "not decided without a reason" in in_bulk.text
    row.get_by_role("link", name="Decide with a reason").click()
    expect(page.locator("h1")).to_contain_text("hair")
    page.wait_for_load_state("load")
    page.get_by_role("button", name="Close").click()
    assert page.get_by_label("Reason").evaluate("field => field.validity.valueMissing")
    assert decisions(business, COMPLAINT_CASES) == []
    page.get_by_label("Reason").fill("called the customer")
    page.get_by_role("button", name="Close").click()
    expect(page.locator("main")).to_contain_text("Closed by local")
    assert decisions(business, COMPLAINT_CASES) == [("hair", "reject", "0.00")]


def test_two_people_at_once_the_second_is_told(
    console: ConsoleServer,
    page: Page,
    phone: Page,
) -> None:
    for each in (page, phone):
        each.goto(f"{console.url}/refunds/case?case_id=order-29")
    page.get_by_role("button", name="Approve $34.00").click()
    expect(page.locator("main")).to_contain_text("$0.00 → $34.00")
    phone.get_by_label("Reason").fill("on time")
    phone.get_by_role("button", name="Approve $34.00").click()
    expect(phone.get_by_role("alert")).to_contain_text("This is not what you saw any more")


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
