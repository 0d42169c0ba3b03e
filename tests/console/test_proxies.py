"""The console below a proxy's path and name, HEAD, and names that are not the console's."""

import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from caspers_lib.console.access import ConsoleAccess, is_root_path
from caspers_lib.console.app import create_app
from caspers_lib.console.decisions.api import WantedDecision
from caspers_lib.console.source import LiveStatus
from tests.console.conftest import NOON

ANN = {"X-Forwarded-Email": "ann@example.com"}
BEHIND = ConsoleAccess(proxy=True, everybody="manager")
PAGES = (
    "/", "/live", "/refunds", "/refunds/list", "/refunds/charts", "/refunds/case?case_id=o-1",
    "/complaints", "/complaints/list", "/complaints/case?case_id=c-1", "/nowhere",
)  # fmt: skip
LINKS = r'\s(?:href|src|action|hx-get|hx-post|data-changes)="([^"]*)"'


@pytest.fixture
def filled(business: Any, story_tables: None) -> Any:  # noqa: ARG001
    """A business with a case of each kind, a city with streets, and a replay to steer."""
    business.city(1, "Chicago")
    business.order("o-1")
    business.order("o-2", minute=20, until="driver_picked_up_ts")
    route = [[37.77, -122.42], [37.78, -122.42], [37.78, -122.41]]
    business.event("o-2", "driver_picked_up", {"route_points": route}, minute=40)
    business.refund("o-1")
    business.complaint("c-1", order="o-1")
    business.worth("o-1", "40")
    business.tell(virtual_time=NOON.replace(hour=14), speed=60.0)
    return business


@pytest.fixture
def behind(filled: Any) -> Iterator[TestClient]:
    """A client of the console behind a declared proxy that takes the prefix off."""
    yield from _client(filled, BEHIND, "http://10.0.0.7", ANN)


def _client(
    business: Any, access: ConsoleAccess, url: str, headers: dict[str, str] | None = None
) -> Iterator[TestClient]:
    parts = business.parts(access=access)
    with closing(parts.refunds), closing(parts.complaints):
        yield TestClient(create_app(parts), base_url=url, headers=headers)


def links(client: Any, paths: tuple[str, ...], **headers: str) -> set[str]:
    """Every address on the pages, of any kind."""
    found: set[str] = set()
    for path in paths:
        html = client.get(path, headers={"Accept": "text/html", **headers}).text
        found.update(re.findall(LINKS, html))
    return found - {"#main"}


def test_below_a_prefix_every_address_on_every_page_is_below_it_and_answers(
    behind: TestClient,
) -> None:
    prefix = {"X-Forwarded-Prefix": "/ops/casper/"}
    plain = links(behind, PAGES)
    found = links(behind, PAGES, **prefix)
    assert len(plain) > 30
    assert found == {f"/ops/casper{link}" for link in plain}
    for link in sorted(plain):
        if not re.search("/decide|/replay/|/events", link):
            answer = behind.get(link.replace("&amp;", "&"), headers=prefix)
            assert answer.status_code == 200, link


@pytest.mark.parametrize("stripped", [True, False])
def test_a_root_path_is_served_whether_the_proxy_takes_it_off_or_not(
    filled: Any, stripped: bool
) -> None:
    for client in _client(filled, ConsoleAccess(root_path="/casper"), "http://localhost"):
        below = "" if stripped else "/casper"
        found = links(client, tuple(f"{below}{path}" for path in PAGES))
        assert all(link.startswith("/casper/") for link in found)
        assert client.get(f"{below}/api/refunds/case?case_id=o-1").status_code == 200
        assert client.get(f"{below}/api/nowhere").json()["code"] == "http_404"
        assert client.get("/casper").status_code == 200
        marked = re.findall(r'aria-current="page">([^<]+)<', client.get(f"{below}/refunds").text)
        assert marked == ["Refunds"]


def test_redirects_stay_below_the_prefix_under_the_proxys_name(behind: TestClient) -> None:
    public = {
        "X-Forwarded-Prefix": "/casper", "X-Forwarded-Proto": "https, http",
        "X-Forwarded-Host": "ops.example.com, inner.example", "Accept": "text/html",
    }  # fmt: skip
    own = {**public, "Origin": "https://ops.example.com"}
    slash = behind.get("/refunds/", headers=public, follow_redirects=False)
    assert slash.headers["location"] == "https://ops.example.com/casper/refunds"
    paused = behind.post("/live/replay/pause", headers=own, follow_redirects=False)
    assert (paused.status_code, paused.headers["location"]) == (303, "/casper/")
    offer = WantedDecision(case_id="o-1", version=0, action="reject", key="k")
    form = {"offer": offer.model_dump_json(exclude_none=True), "back": "/refunds?status=all"}
    decided = behind.post("/refunds/decide", data=form, headers=own, follow_redirects=False)
    assert (decided.status_code, decided.headers["location"]) == (
        303,
        "/casper/refunds?status=all",
    )
    foreign = {**public, "Origin": "https://10.0.0.7"}
    assert behind.post("/live/replay/resume", headers=foreign).status_code == 403


@pytest.mark.parametrize(
    "header",
    [{"X-Forwarded-Prefix": "//evil.example"}, {"X-Forwarded-Prefix": "/a/../b"},
     {"X-Forwarded-Prefix": '/"><script>'}, {"X-Forwarded-Prefix": "casper"},
     {"X-Forwarded-Host": "evil.example/path"}, {"X-Forwarded-Host": "a b"}],
)  # fmt: skip
def test_a_proxys_header_that_is_no_address_is_refused(
    behind: TestClient, header: dict[str, str]
) -> None:
    answer = behind.get("/refunds", headers=header)
    assert answer.status_code == 400
    assert answer.json()["code"] == "wrong_address"


@given(st.text(alphabet="/.ab~%\\:\n é", max_size=12))
def test_whatever_a_root_path_is_a_link_below_it_is_of_this_host(text: str) -> None:
    if is_root_path(text):
        link = httpx.URL("http://here.example/x").join(f"{text}/refunds")
        assert (link.host, link.path) == ("here.example", f"{text}/refunds")


def test_without_a_declared_proxy_what_a_proxy_would_say_is_ignored(filled: Any) -> None:
    said = {
        "X-Forwarded-Prefix": "/evil", "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "https", "X-Forwarded-Email": "eve@example.com",
    }  # fmt: skip
    for client in _client(filled, ConsoleAccess(), "http://localhost:8000"):
        assert links(client, PAGES, **said) == links(client, PAGES)
        assert client.get("/api/me", headers=said).json()["name"] == "local"
        slash = client.get("/refunds/", headers=said, follow_redirects=False)
        assert slash.headers["location"] == "http://localhost:8000/refunds"
        foreign = {**said, "Origin": "http://evil.example"}
        assert client.post("/live/replay/pause", headers=foreign).status_code == 403


READS = (*PAGES[:-1], "/api/refunds", "/api/refunds.csv", "/api/refunds/events", "/api/live",
         "/api/openapi.json", "/healthz", "/static/console.css")  # fmt: skip


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_read_under_a_strange_name_is_refused(client: httpx.Client, method: str) -> None:
    for host in ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "[::1", ""):
        for path in READS:
            answer = client.request(method, path, headers={"Host": host})
            assert (path, answer.status_code) == (path, 403)
            assert "o-1" not in answer.text
    port = client.base_url.port
    for host in (f"localhost:{port}", "127.0.0.1", f"[::1]:{port}", "LOCALHOST"):
        assert client.request(method, "/refunds", headers={"Host": host}).status_code == 200


def test_the_name_that_the_server_listens_on_is_its_own(filled: Any) -> None:
    parts = filled.parts(host="Console.lan")
    with closing(parts.refunds), closing(parts.complaints):
        client = TestClient(create_app(parts), base_url="http://console.lan:8000")
        assert client.get("/refunds").status_code == 200
        assert client.get("/refunds", headers={"Host": "other.lan"}).status_code == 403


@pytest.mark.usefixtures("filled")
def test_head_is_get_without_a_body(client: httpx.Client) -> None:
    for path in READS:
        if path.endswith("/events"):
            continue
        whole, head = client.get(path), client.head(path)
        assert (path, head.status_code, head.content) == (path, whole.status_code, b"")
        for name in ("content-type", "cache-control", "content-security-policy"):
            assert head.headers[name] == whole.headers[name]
    assert client.head("/nowhere").status_code == 404
    assert client.head("/refunds/decide").status_code == 405


def test_head_of_a_stream_without_an_end_ends(client: httpx.Client) -> None:
    for _ in range(3):
        head = client.head("/api/refunds/events", timeout=20)
        assert head.headers["content-type"].startswith("text/event-stream")
        assert client.get("/healthz", timeout=20).status_code == 200


@pytest.mark.usefixtures("filled")
def test_no_answer_but_a_file_may_be_kept(client: httpx.Client) -> None:
    for path in ("/", "/refunds", "/api/me", "/api/refunds", "/api/refunds.csv", "/api/live",
                 "/api/refunds/case?case_id=nobody", "/api/nowhere", "/healthz"):  # fmt: skip
        assert client.get(path).headers["cache-control"] == "no-store", path
    static = client.get("/static/console.css")
    assert static.headers["cache-control"] == "no-cache"
    again = {"If-None-Match": static.headers["etag"]}
    assert client.get("/static/console.css", headers=again).status_code == 304


def test_a_status_that_is_not_there_yet_is_no_page_of_another_prefix(filled: Any) -> None:
    filled.status = LiveStatus()
    for client in _client(filled, ConsoleAccess(root_path="/a.b/c_d~"), "http://localhost"):
        assert all(link.startswith("/a.b/c_d~/") for link in links(client, ("/", "/live")))
