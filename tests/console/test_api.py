"""The JSON API over a real Postgres: what is decided, listed, exported and refused."""

import csv
import io
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from decimal import Decimal
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
from fastapi.responses import PlainTextResponse
from fastapi.testclient import TestClient

from caspers_lib.agents.labels import read_labels
from caspers_lib.console.access import ConsoleAccess
from caspers_lib.console.decisions.values import REFUND_CASES
from caspers_lib.console.web.guard import MAX_BODY_BYTES, RequestGuard

ACCESS = ConsoleAccess(
    proxy=True,
    managers=frozenset({"Ann@example.com"}),
    agents=frozenset({"aida@example.com"}),
    four_eyes_usd=Decimal("100"),
)
ANN, AIDA, VIC = ({"X-Forwarded-Email": f"{name}@example.com"} for name in ("ann", "aida", "vic"))
HOME = "/api/refunds"


@pytest.fixture
def behind(business: Any, serve: Any) -> Any:
    """The API behind the platform's proxy."""
    with (
        serve(business.parts(access=ACCESS)) as server,
        httpx.Client(base_url=server.url, trust_env=False) as client,
    ):
        yield client


def wanted(case_id: str = "o-1", **words: Any) -> dict[str, Any]:
    one = {"case_id": case_id, "version": 0, "action": "approve", "amount_usd": "7.50",
           "key": f"{case_id} {sorted(words.items())}"} | words  # fmt: skip
    return {"decisions": [one]}


def test_a_refund_is_approved_seen_in_the_list_and_on_record(
    business: Any, client: httpx.Client
) -> None:
    business.refund("o-1")
    business.worth("o-1", "40")
    [open_case] = client.get(HOME).json()["rows"]
    assert (open_case["case_id"], open_case["suggested_usd"]) == ("o-1", "7.50")
    assert open_case["amount_usd"] == "0.00"
    answer = client.post(f"{HOME}/decisions", json=wanted())
    assert answer.status_code == 200
    [outcome] = answer.json()["outcomes"]
    assert outcome["refused"] is None
    assert outcome["made"]["status"] == "approved"
    assert client.get(HOME).json() == {"rows": [], "next": None, "count": 0, "is_exact": True}
    history = client.get(f"{HOME}/case", params={"case_id": "o-1"}).json()
    assert history["case"]["amount_usd"] == "7.50"
    assert history["decisions"] == client.get(f"{HOME}/decisions").json() == [outcome["made"]]


def test_a_hundred_approvals_of_one_order_at_once_give_one_refund(
    business: Any, client: httpx.Client
) -> None:
    business.refund("o-1")
    business.worth("o-1", "40")

    def approve(number: int) -> int:
        body = wanted(key=f"click {number}")
        return client.post(f"{HOME}/decisions", json=body, timeout=60).status_code

    with ThreadPoolExecutor(20) as pool:
        codes = list(pool.map(approve, range(100)))
    assert sorted(codes) == [200] + [409] * 99
    assert len(client.get(f"{HOME}/decisions").json()) == 1


def test_a2_nobody_decides_without_a_name_and_a_role(business: Any, behind: httpx.Client) -> None:
    business.refund("o-1")
    business.worth("o-1", "40")
    for address in (HOME, "/api/me", "/", "/refunds", f"{HOME}.csv", f"{HOME}/labels.jsonl"):
        assert behind.get(address).status_code == 401
    assert behind.post(f"{HOME}/decisions", json=wanted()).status_code == 401
    assert behind.get("/healthz").status_code == 200
    assert behind.get("/api/me", headers=VIC).json()["role"] == "viewer"
    refused = behind.post(f"{HOME}/decisions", json=wanted(), headers=VIC)
    assert refused.status_code == 403
    assert refused.json()["outcomes"][0]["refused"]["code"] == "forbidden"
    made = behind.post(f"{HOME}/decisions", json=wanted(), headers=AIDA)
    assert made.json()["outcomes"][0]["made"]["person"] == "aida@example.com"


def test_a1_a_refund_is_not_given_twice_and_not_above_the_orders_total(
    business: Any, client: httpx.Client
) -> None:
    business.refund("o-1")
    business.worth("o-1", "10")
    over = wanted(action="change", amount_usd=10.01, reason="more")
    assert client.post(f"{HOME}/decisions", json=over).status_code == 422
    assert client.post(f"{HOME}/decisions", json=wanted()).status_code == 200
    again = client.post(f"{HOME}/decisions", json=wanted(version=1))
    assert again.status_code == 409
    assert again.json()["outcomes"][0]["refused"]["code"] == "wrong_status"


def test_many_are_decided_at_once_each_for_itself(business: Any, client: httpx.Client) -> None:
    for number in range(3):
        business.refund(f"o-{number}")
        business.worth(f"o-{number}", "40")
    body = {"decisions": [wanted(f"o-{n}")["decisions"][0] for n in (0, 9, 1, 2)]}
    answer = client.post(f"{HOME}/decisions", json=body)
    assert answer.status_code == 200
    codes = [(each["refused"] or {}).get("code") for each in answer.json()["outcomes"]]
    assert codes == [None, "not_found", None, None]


@pytest.mark.parametrize("amount", ["-1", -1, "NaN", "1e309", "7.555", "Infinity", True, [], "x"])
def test_an_amount_that_is_none_is_refused_and_nothing_is_written(
    business: Any, client: httpx.Client, amount: object
) -> None:
    business.refund("o-1")
    business.worth("o-1", "40")
    body = wanted(action="change", amount_usd=amount, reason="r")
    answer = client.post(f"{HOME}/decisions", json=body)
    assert answer.status_code == 422
    assert answer.json()["code"] == "wrong_request"
    assert "amount_usd" in answer.json()["message"]
    assert client.get(f"{HOME}/decisions").json() == []


@pytest.mark.parametrize(
    "text",
    [b'{"decisions": [{"amount_usd": 1e309}]}', b"{", b"[]", b"null", b'{"decisions": []}',
     b'{"decision": 1}', b"\xff", b"NaN"],
)  # fmt: skip
def test_a_body_that_says_nothing_is_refused(client: httpx.Client, text: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    answer = client.post(f"{HOME}/decisions", content=text, headers=headers)
    assert answer.status_code in (400, 422)
    assert set(answer.json()) == {"code", "message", "hint"}


def test_a_body_of_ten_megabytes_is_refused_whether_it_says_so_or_not(
    client: httpx.Client,
) -> None:
    headers = {"Content-Type": "application/json"}
    large = b'{"decisions": "' + b"x" * 10_000_000 + b'"}'
    assert client.post(f"{HOME}/decisions", content=large, headers=headers).status_code == 413
    chunks = (large[at : at + 65_536] for at in range(0, 4 * MAX_BODY_BYTES, 65_536))
    assert client.post(f"{HOME}/decisions", content=chunks, headers=headers).status_code == 413


@pytest.mark.parametrize(
    ("headers", "code"),
    [({"Sec-Fetch-Site": "cross-site"}, 403), ({"Origin": "http://evil.example"}, 403),
     ({"Sec-Fetch-Site": "same-site"}, 403), ({"Origin": "null"}, 403),
     ({"Host": "evil.example"}, 403), ({"Host": ""}, 403),
     ({"Content-Type": "text/plain"}, 415), ({"Content-Type": "multipart/form-data"}, 415)],
)  # fmt: skip
def test_another_site_or_a_strange_body_writes_nothing(
    business: Any, client: httpx.Client, headers: dict[str, str], code: int
) -> None:
    business.refund("o-1")
    business.worth("o-1", "40")
    standard = {"Content-Type": "application/json"}
    body = json.dumps(wanted()).encode()
    answer = client.post(f"{HOME}/decisions", content=body, headers=standard | headers)
    assert answer.status_code == code
    assert set(answer.json()) == {"code", "message", "hint"}
    assert client.get(f"{HOME}/decisions").json() == []


@pytest.mark.parametrize("query", ["colour=red", "min_usd=NaN", "limit=0", "status=lost", "after=x",
                                   "since=yesterday", "since=0", "until=2024-3-1",
                                   "text=%00"])  # fmt: skip
def test_a_filter_nobody_knows_is_refused_in_a_sentence(client: httpx.Client, query: str) -> None:
    answer = client.get(f"{HOME}?{query}")
    assert answer.status_code in (400, 422)
    assert answer.json()["message"]


@pytest.mark.parametrize(("version", "code"), [(0.0, 200), (False, 422), ("0", 422), (0.5, 422)])
def test_a_version_is_a_whole_number(
    business: Any, client: httpx.Client, version: object, code: int
) -> None:
    business.refund("o-1")
    business.worth("o-1", "40")
    assert client.post(f"{HOME}/decisions", json=wanted(version=version)).status_code == code


def test_the_longest_id_that_the_document_allows_fits_in_an_address(
    console: Any,
) -> None:
    for length, code in ((10_000, 404), (10_001, 422)):
        # httpx writes no address that long.
        with closing(HTTPConnection(urlsplit(console.url).netloc)) as connection:
            connection.request("GET", f"{HOME}/case?case_id={quote('🍜' * length)}")
            assert connection.getresponse().status == code


def test_a_method_that_is_none_is_told_which_there_are(client: httpx.Client) -> None:
    answer = client.delete(f"{HOME}/decisions")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, POST")
    assert client.delete("/refunds").headers["allow"] == "GET"


def test_an_order_that_is_not_there_and_a_table_that_is_not_there_yet(
    business: Any, client: httpx.Client
) -> None:
    assert client.get(f"{HOME}/case", params={"case_id": "o-9\0"}).status_code == 404
    business.drop(REFUND_CASES.spec)
    answer = client.get(HOME)
    assert (answer.status_code, answer.json()["code"]) == (503, "not_there")


def test_a_server_that_is_away_is_said_so_without_the_drivers_words(
    business: Any, serve: Any
) -> None:
    business.addresses["caspers"] = "host=/nowhere user=secret dbname=caspers"
    with serve(business.parts()) as server:
        read = httpx.get(f"{server.url}{HOME}", trust_env=False)
        write = httpx.post(f"{server.url}{HOME}/decisions", json=wanted(), trust_env=False)
    assert (read.status_code, write.status_code) == (503, 503)
    assert "secret" not in read.text + write.text
    assert "nowhere" not in read.text + write.text


def test_the_filtered_list_is_a_file_that_no_spreadsheet_runs(
    business: Any, client: httpx.Client, hostile_texts: tuple[str, ...]
) -> None:
    texts = [*hostile_texts, '=HYPERLINK("http://evil")', "@sum", "+1", "-1", "\tx"]
    for text in texts:
        business.refund(text, reason=text)
    business.refund("on time", refund_class="none", refund_usd=0)
    answer = client.get(f"{HOME}.csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    plain = {text.removeprefix("'") for text in texts}
    assert {row["case_id"].removeprefix("'") for row in rows} == plain
    assert not any(row[key].startswith(("=", "+", "-", "@")) for row in rows for key in row)


def test_what_people_decided_are_labels_that_the_evaluation_reads(
    business: Any, client: httpx.Client, tmp_path: Path
) -> None:
    for number in range(4):
        business.refund(f"o-{number}")
        business.worth(f"o-{number}", "40")
        business.complaint(f"c-{number}", order=f"o-{number}")
    change = {"action": "change", "amount_usd": "3.25", "reason": "r"}
    reject, escalate = {"action": "reject", "amount_usd": None}, {"action": "escalate"}
    for kind, bodies in {
        "refunds": [wanted("o-0"), wanted("o-1", **change), wanted("o-2", **reject)],
        "complaints": [
            wanted("c-0", amount_usd="5.25"),
            wanted("c-1", **change, reply="Sorry!"),
            wanted("c-2", **reject),
            wanted("c-3", **escalate, amount_usd=None, reason="threat"),
        ],
    }.items():
        for body in bodies:
            answer = client.post(f"/api/{kind}/decisions", json=body)
            assert answer.status_code == 200, answer.text
        (tmp_path / kind).write_text(client.get(f"/api/{kind}/labels.jsonl").text)
    refunds = read_labels(tmp_path / "refunds", "refund")
    assert {case: label.usd for case, label in refunds.items()} == {
        "o-0": Decimal("7.50"), "o-1": Decimal("3.25"), "o-2": Decimal(0)
    }  # fmt: skip
    labels = read_labels(tmp_path / "complaints", "complaint")
    assert {case: (label.decision, label.usd) for case, label in labels.items()} == {
        "c-0": ("suggest_credit", Decimal("5.25")),
        "c-1": ("suggest_credit", Decimal("3.25")),
        "c-3": ("escalate", None),
    }


def test_who_writes_too_often_waits_and_others_do_not() -> None:
    moments = [0.0]
    answer = PlainTextResponse("written")
    guard = RequestGuard(answer, proxy=True, writes_per_minute=3, clock=lambda: moments[0])
    client = TestClient(guard)

    def codes(name: str) -> list[int]:
        who = {"X-Forwarded-Email": name}
        return [client.post("/", headers=who).status_code for _ in range(5)]

    assert codes("ann") == [200, 200, 200, 429, 429]
    assert codes("ben") == [200, 200, 200, 429, 429]
    moments[0] = 20.0
    assert codes("ann") == [200, 429, 429, 429, 429]
    assert client.get("/", headers={"X-Forwarded-Email": "ann"}).status_code == 200


def test_the_api_describes_itself_and_nothing_of_the_pages(client: httpx.Client) -> None:
    paths = client.get("/api/openapi.json").json()["paths"]
    assert all(path.startswith("/api/") or path in ("/healthz", "/readyz") for path in paths)
    assert "/api/refunds/decisions" in paths
    streamed = {".csv": "text/csv", "/labels.jsonl": "application/x-ndjson",
                "/events": "text/event-stream"}  # fmt: skip
    for name, kind in streamed.items():
        assert list(paths[f"/api/complaints{name}"]["get"]["responses"]["200"]["content"]) == [kind]


def test_what_live_shows_and_steers_the_api_does_too(business: Any, client: httpx.Client) -> None:
    business.city(1, "Chicago")
    business.order("o-1", until="driver_picked_up_ts")
    business.tell(place="day 3", speed=60.0)
    live = client.get("/api/live").json()
    assert live["status"]["place"] == "day 3"
    assert live["reading"]["orders"]["value"]["stages"][4]["orders"] == 1
    assert live["reading"]["maps"]["value"][0]["city"]["name"] == "Chicago"
    for action, body in (("pause", {}), ("speed", {"speed": 120}), ("seek", {"target": "+6h"})):
        answer = client.post(f"/api/replay/{action}", json=body)
        assert (answer.status_code, list(answer.json())) == (200, ["message"])
    assert business.tape.done == ["pause", "speed 120", "seek +6h"]
    business.tape.refusal = "The replay ended."
    for action, body, code in (
        ("resume", {}, 400), ("speed", {}, 400), ("speed", {"speed": 1e309}, 422),
        ("speed", {"speed": -1}, 422), ("seek", {"target": "x" * 101}, 422), ("stop", {}, 422),
    ):  # fmt: skip
        answer = client.post(
            f"/api/replay/{action}",
            content=json.dumps(body),
            headers={"content-type": "application/json"},
        )
        assert answer.status_code == code, answer.text
        assert set(answer.json()) == {"code", "message", "hint"}


@pytest.mark.usefixtures("story_tables")
def test_the_api_gives_what_the_cards_the_charts_and_a_case_show(
    business: Any, client: httpx.Client
) -> None:
    business.city(1, "Chicago")
    business.order("o-1")
    business.refund("o-1")
    business.complaint("c-1")
    assert client.get("/api/refunds/figures").json()["pending_usd"] == "7.50"
    assert client.get("/api/complaints/charts").json()["cities"] == [
        {"label": "Chicago", "cases": 1, "usd": "5.25"}
    ]
    story = client.get("/api/complaints/story", params={"case_id": "c-1"}).json()
    assert (story["order"]["city"], story["text"]) == (None, "")
    missing = client.get("/api/refunds/story", params={"case_id": "nobody"})
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
