import hashlib
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from caspers_lib.console.pages import PACKAGE
from caspers_lib.console.source import LiveStatus
from caspers_lib.lakebase import COMPLAINTS, REFUNDS
from tests.console.page_text import PageText, words

PAGES = ("/", "/refunds", "/complaints")


def shown(client: httpx.Client, path: str) -> str:
    response = client.get(path)
    assert response.status_code == 200
    return words(response.text)


def test_the_navigation_marks_where_one_is(client: httpx.Client) -> None:
    for path, name in zip(PAGES, ("Live", "Refunds", "Complaints"), strict=True):
        marked = re.findall(r'aria-current="page">([^<]+)<', client.get(path).text)
        assert marked == [name]


def test_lists_of_empty_tables_say_so(client: httpx.Client) -> None:
    assert "Suggested $0.00 0 of 0 orders" in shown(client, "/refunds")
    assert "Nothing here: no refund fits the filter." in shown(client, "/refunds/list")
    assert "Suggested $0.00 0 of 0 complaints" in shown(client, "/complaints")
    assert "Nothing here: no complaint fits the filter." in shown(client, "/complaints/list")


def test_lists_before_the_first_sync_name_the_missing_table(
    business: Any, client: httpx.Client
) -> None:
    business.drop(REFUNDS)
    business.drop(COMPLAINTS)
    wait = "Waiting for the first sync to"
    assert f"{wait} recommender.pg_recommendations." in shown(client, "/refunds")
    assert f"{wait} complaints.pg_complaint_responses." in shown(client, "/complaints")


def test_lists_show_what_postgres_has(business: Any, client: httpx.Client) -> None:
    business.refund("order-1", minute=5, took=71.2, refund_class="full", refund_usd=31.5)
    business.refund("order-2", refund_class="none", refund_usd=0)
    business.complaint("c-1", order="order-1", minute=7)
    business.complaint("c-2", decision="escalate", credit_amount=0)
    refunds, complaints = shown(client, "/refunds"), shown(client, "/complaints")
    assert "To decide $31.50 suggested, not yet decided Suggested $31.50 1 of 2 orders" in refunds
    assert (
        "full Order order-1 $31.50 Slower than three in four orders of this kitchen."
        " delivered (event time, UTC) 2024-03-11 12:05 after 71 min by rules Approve $31.50"
    ) in refunds
    assert "order-2" not in refunds
    assert "Suggested $5.25 1 of 2 complaints" in complaints
    assert "Escalated by the agent 1 50.0% go to a person" in complaints
    assert (
        "suggest credit standard Complaint c-1 $5.25"
        " The order took 71 minutes; this kitchen's P75 is 52."
        " Reply to the customer: We are sorry that it took so long."
        " answered (event time, UTC) 2024-03-11 12:07 delivery delay order order-1 by rules"
        " Accept $5.25"
    ) in complaints


def test_a_list_shows_the_newest_25(business: Any, client: httpx.Client) -> None:
    for number in range(30):
        business.refund(f"order-{number:02d}", minute=number)
    found = re.findall(r"Order (order-\d\d)", shown(client, "/refunds"))
    assert found == [f"order-{number:02d}" for number in range(29, 4, -1)]


def test_answers_without_their_fields_are_shown_with_dashes(
    business: Any, client: httpx.Client
) -> None:
    business.refund_json("order-1", {"refund_class": "full", "refund_usd": "12"})
    business.refund_json("order-2", [])
    business.complaint_json("c-1", None)
    refunds, complaints = shown(client, "/refunds"), shown(client, "/complaints")
    at = "(event time, UTC) 2024-03-11 12:00"
    assert f"full Order order-1 - - delivered {at} after 40 min by - Reject" in refunds
    assert "1 answer can't be read" in refunds
    assert "1 answer can't be read" in complaints
    assert f"Reply to the customer: - answered {at} - order o-1 by -" in complaints


@pytest.mark.parametrize(("path", "fields"), [("/refunds", 4), ("/complaints", 7)])
def test_a3_text_from_models_and_users_is_text_in_the_lists(
    business: Any, client: httpx.Client, hostile_texts: tuple[str, ...], path: str, fields: int
) -> None:
    business.fill("a_plain.text")
    harmless = set(PageText(client.get(path).text).tags)
    for text in hostile_texts:
        business.fill(text)
        html = client.get(path).text
        assert set(PageText(html).tags) <= harmless, text
        assert words(html).count(" ".join(text.split())[:300]) >= fields, text


def test_a_table_of_another_shape_is_a_notice(business: Any, client: httpx.Client) -> None:
    business.refund("o-1")
    with business.connect(REFUNDS) as connection:
        connection.execute("ALTER TABLE recommender.pg_recommendations DROP COLUMN order_ts")
    page = shown(client, "/refunds")
    assert "Table recommender.pg_recommendations can't be read. Trying again." in page


def test_a_host_that_fails_is_an_answer_without_its_traceback(business: Any, serve: Any) -> None:
    def broken() -> LiveStatus:
        raise RuntimeError("inner workings")

    with serve(business.parts(status=broken)) as server:
        response = httpx.get(f"{server.url}/?debug=1", trust_env=False)
    assert response.status_code == 500
    assert response.text == "Internal Server Error"


@pytest.mark.parametrize("path", [*PAGES, "/live", "/healthz", "/nowhere", "/static/console.css"])
def test_every_answer_has_the_security_headers(client: httpx.Client, path: str) -> None:
    headers = client.get(path).headers
    policy = {part.strip() for part in headers["content-security-policy"].split(";")}
    assert {"default-src 'self'", "frame-ancestors 'none'"} <= policy
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("path", PAGES)
def test_a_page_has_no_inline_script_or_style_and_loads_only_its_own_files(
    client: httpx.Client, path: str
) -> None:
    html = client.get(path).text
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", html)
    loaded = re.findall(r'<(?:link|script|img)[^>]*(?:src|href)="([^"]*)"', html)
    assert len(loaded) > 5
    assert all(link.startswith("/static/") for link in loaded)
    assert {client.get(link).status_code for link in loaded} == {200}


@pytest.mark.parametrize(
    "folder", [PACKAGE / "static" / "vendor", Path(__file__).parent / "vendor"]
)
def test_vendored_files_are_those_that_their_table_names(folder: Path) -> None:
    table = re.findall(
        r"^\| `([^`]+)` .*`([0-9a-f]{64})` \|$", (folder / "README.md").read_text(), re.M
    )
    files = [f for f in folder.iterdir() if f.suffix in {".js", ".css"}]
    assert dict(table) == {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


@pytest.mark.parametrize(
    "path", ["/nowhere", "/docs", "/openapi.json", "/static/../app.py", "/static/%2e%2e/app.py"]
)
def test_unknown_paths_are_plainly_not_found(client: httpx.Client, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 404
    assert response.headers["content-type"].startswith("text/plain")
    assert response.text == "Not Found\n"


def test_a_browser_is_shown_a_page_with_the_way_back(client: httpx.Client) -> None:
    response = client.get("/nowhere", headers={"Accept": "text/html,*/*"})
    assert response.status_code == 404
    assert "Not Found The console answered with 404. Back to Live" in words(response.text)


def test_pages_can_only_be_read(client: httpx.Client) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert client.request(method, "/").status_code == 405
