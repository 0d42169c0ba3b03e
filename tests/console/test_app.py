import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest

from caspers_lib.console.app import create_app
from caspers_lib.console.serve import ConsoleServer
from caspers_lib.console.source import LiveStatus, StageStatus
from caspers_lib.lakebase import COMPLAINTS, REFUNDS


class PageText(HTMLParser):
    """The text of a page and the tags it is made of."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = ""
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.feed(html)

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.text += "" if tag in {"bdi", "wbr"} else " "
        self.tags.append((tag, tuple(name for name, _ in attrs)))


def words(html: str) -> str:
    """A page's text with every blank run as one space."""
    return " ".join(PageText(html).text.split())


def live(client: httpx.Client) -> str:
    response = client.get("/live")
    assert response.status_code == 200
    return words(response.text)


def test_before_anything_runs_the_page_says_what_it_waits_for() -> None:
    with ConsoleServer(create_app(LiveStatus), port=0) as server:
        page = words(httpx.get(server.url, trust_env=False).text)
    assert "Virtual time, UTC not started" in page
    assert "Waiting for the first stage to begin." in page
    assert "Waiting for PostgreSQL to start with database caspers." in page
    assert "Waiting for PostgreSQL to start with database caspers_complaints." in page
    assert "Waiting for the first table to be written." in page
    assert "Orders delivered - not yet known" in page


def test_a_page_that_waits_names_the_stage_at_work(business: Any, client: httpx.Client) -> None:
    business.tell(refunds_dsn=None, stages=(StageStatus("Pipeline", "running"),))
    assert "Now at work: Pipeline." in live(client)


def test_before_the_first_sync_the_page_names_the_missing_tables(
    business: Any, client: httpx.Client
) -> None:
    business.drop(REFUNDS)
    business.drop(COMPLAINTS)
    page = live(client)
    assert "Waiting for the first sync to recommender.pg_recommendations." in page
    assert "Waiting for the first sync to complaints.pg_complaint_responses." in page
    assert "does not answer" not in page


def test_empty_tables_are_said_to_be_empty(client: httpx.Client) -> None:
    page = live(client)
    assert "Orders delivered 0 none so far" in page
    assert "Escalated 0 none so far" in page
    assert "No refund is suggested so far." in page
    assert "No complaint so far." in page


def test_the_header_tells_time_and_speed_of_the_replay(business: Any, client: httpx.Client) -> None:
    business.tell(virtual_time=datetime(2024, 3, 11, 18, 5, 59, tzinfo=UTC), speed=60.0)
    assert "Virtual time, UTC 2024-03-11 18:05 Speed 60x" in live(client)


def test_each_stage_shows_its_state_its_time_and_its_detail(
    business: Any, client: httpx.Client
) -> None:
    business.tell(
        stages=(
            StageStatus("Canonical data", "done", "1,009,113 events", 12.3),
            StageStatus("Pipeline", "running", "reading events", 3.25),
            StageStatus("Refund sync", "failed", "no space left", 0.4),
            StageStatus("Complaint sync", "waiting"),
        )
    )
    page = live(client)
    assert "Canonical data done 12 s 1,009,113 events" in page
    assert "Pipeline running 3.2 s reading events" in page
    assert "Refund sync failed 0.4 s no space left" in page
    assert "Complaint sync waiting" in page


def test_tables_are_listed_with_their_rows(business: Any, client: httpx.Client) -> None:
    business.tell(tables=(("lakeflow.all_events", 776_103), ("lakeflow.gold_order_header", 0)))
    assert "lakeflow.all_events 776,103 lakeflow.gold_order_header 0" in live(client)


def test_cards_and_lists_show_what_postgres_has(business: Any, client: httpx.Client) -> None:
    business.refund("order-1", minute=5, took=71.2, refund_class="full", refund_usd=31.5)
    business.refund("order-2", refund_class="none", refund_usd=0)
    business.complaint("c-1", order="order-1", minute=7)
    business.complaint("c-2", decision="escalate", credit_amount=0)
    page = live(client)
    assert "Orders delivered 2 " in page
    assert "Refunds suggested 1 50.0% of orders" in page
    assert "Refund dollars $31.50" in page
    assert "Complaints 2 " in page
    assert "Escalated 1 50.0% go to a person" in page
    assert "Credit dollars $5.25 1 credit suggested" in page
    assert (
        "full Order order-1 $31.50 Slower than three in four orders of this kitchen."
        " delivered 2024-03-11 12:05 after 71 min by rules"
    ) in page
    assert (
        "suggest credit delivery delay Order order-1 $5.25"
        " The order took 71 minutes; this kitchen's P75 is 52."
        " Reply to the customer: We are sorry that it took so long."
        " answered 2024-03-11 12:07 priority standard by rules"
    ) in page
    assert "order-2" not in page


def test_a_list_shows_the_newest_25(business: Any, client: httpx.Client) -> None:
    for number in range(30):
        business.refund(f"order-{number:02d}", minute=number)
    shown = re.findall(r"Order (order-\d\d)", live(client))
    assert shown == [f"order-{number:02d}" for number in range(29, 4, -1)]


def test_answers_without_their_fields_are_shown_with_dashes(
    business: Any, client: httpx.Client
) -> None:
    business.refund_json("order-1", {"refund_class": "full", "refund_usd": "12"})
    business.refund_json("order-2", [])
    business.complaint_json("c-1", None)
    page = live(client)
    assert "full Order order-1 - - delivered 2024-03-11 12:00 after 40 min by -" in page
    assert "1 answer without a class" in page
    assert "1 answer without a decision" in page
    assert "Reply to the customer: - answered 2024-03-11 12:00 priority - by -" in page


def test_a3_text_from_models_and_users_is_text_on_the_page(
    business: Any, client: httpx.Client, hostile_texts: tuple[str, ...]
) -> None:
    harmless = set(PageText(_full_page(business, client, ("a_plain.text",))).tags)
    for text in hostile_texts:
        html = _full_page(business, client, (text,))
        assert set(PageText(html).tags) <= harmless, text
        begin = " ".join(text.split())[:300]
        assert words(html).count(begin) >= 14, text


def _full_page(business: Any, client: httpx.Client, texts: tuple[str, ...]) -> str:
    """The page with `texts` in every field that holds text."""
    for spec in (REFUNDS, COMPLAINTS):
        business.drop(spec)
        business.create(spec)
    for text in texts:
        business.refund(text, refund_class=text, reason=text, source=text)
        fields = ["complaint_category", "decision", "priority", "rationale", "customer_response"]
        business.complaint(text, order=text, source=text, **dict.fromkeys(fields, text))
    business.tell(
        stages=tuple(StageStatus(text, "running", text, 1) for text in texts),
        tables=tuple((text, 1) for text in texts),
    )
    return client.get("/").text


def test_a_database_that_is_gone_is_a_notice_on_a_page_that_still_works(
    business: Any, client: httpx.Client
) -> None:
    business.refund("order-1")
    business.tell(complaints_dsn="host=/nowhere user=secret-user dbname=caspers_complaints")
    page = live(client)
    assert "Database caspers_complaints does not answer. Trying again." in page
    assert "Complaints - not yet known" in page
    assert "Order order-1" in page
    assert "secret-user" not in page
    assert "Traceback" not in page


def test_a_table_of_another_shape_is_a_notice(business: Any, client: httpx.Client) -> None:
    with business.connect(REFUNDS) as connection:
        connection.execute("ALTER TABLE recommender.pg_recommendations DROP COLUMN order_ts")
    page = live(client)
    assert "Table recommender.pg_recommendations can't be read. Trying again." in page


def test_a_host_that_fails_is_an_answer_without_its_traceback() -> None:
    def broken() -> LiveStatus:
        raise RuntimeError("inner workings")

    with ConsoleServer(create_app(broken), port=0) as server:
        response = httpx.get(f"{server.url}/?debug=1", trust_env=False)
    assert response.status_code == 500
    assert response.text == "Internal Server Error"


@pytest.mark.parametrize("path", ["/", "/live", "/healthz", "/nowhere", "/static/console.css"])
def test_every_answer_has_the_security_headers(client: httpx.Client, path: str) -> None:
    headers = client.get(path).headers
    policy = {part.strip() for part in headers["content-security-policy"].split(";")}
    assert {"default-src 'self'", "frame-ancestors 'none'"} <= policy
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_the_page_has_no_inline_script_or_style_and_loads_only_its_own_files(
    client: httpx.Client,
) -> None:
    html = client.get("/").text
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", html)
    links = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert all(link.startswith("/static/") for link in links)
    assert {client.get(link).status_code for link in links} == {200}


def test_health_is_told_as_json(client: httpx.Client) -> None:
    response = client.get("/healthz")
    assert response.status_code == 200
    assert response.json() == {"status": "ok"}


@pytest.mark.parametrize(
    "path", ["/nowhere", "/docs", "/openapi.json", "/static/../app.py", "/static/%2e%2e/app.py"]
)
def test_unknown_paths_are_plainly_not_found(client: httpx.Client, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 404
    assert response.headers["content-type"].startswith("text/plain")
    assert response.text == "Not Found\n"


def test_the_page_can_only_be_read(client: httpx.Client) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert client.request(method, "/").status_code == 405
