"""The Live page over HTTP: what it says, and what its controls do."""

import json
import re
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caspers_lib.console.access import ConsoleAccess
from caspers_lib.console.live_reading import LiveReader
from caspers_lib.console.source import StageStatus, TableStatus
from caspers_lib.lakebase import COMPLAINTS, REFUNDS
from tests.console.conftest import NOON, ORDERS, own_server
from tests.console.page_text import PageText, words
from tests.console.test_figures import COMPLAINT_FIELDS, JSON, REFUND_FIELDS

PATIENCE_SECONDS = 60
ALLOWED = "it must be a number above 0, and at most 86400."


def live(client: httpx.Client, query: str = "") -> str:
    response = client.get(f"/live{query}")
    assert response.status_code == 200
    return words(response.text)


def test_before_anything_runs_the_page_says_what_it_waits_for(business: Any, serve: Any) -> None:
    business.addresses = dict.fromkeys(business.addresses)
    with serve(business.parts()) as server:
        page = words(httpx.get(server.url, trust_env=False).text)
    assert "Event time, UTC not started Replay not started" in page
    assert "Waiting for the first stage to begin." in page
    assert "Waiting for PostgreSQL to start with database caspers." in page
    assert "Waiting for PostgreSQL to start with database caspers_complaints." in page
    assert "Waiting for the first table to be written." in page
    assert "Open orders - not yet known" in page
    assert "Pause" not in page


def test_a_page_that_waits_names_the_stage_at_work(business: Any, client: httpx.Client) -> None:
    business.addresses["caspers"] = None
    business.tell(stages=(StageStatus("Pipeline", "running"),))
    assert "Now at work: Pipeline." in live(client)


def test_before_the_first_sync_the_page_names_the_missing_tables(
    business: Any, client: httpx.Client
) -> None:
    for spec in (REFUNDS, COMPLAINTS, ORDERS["lifecycle"]):
        business.drop(spec)
    page = live(client)
    assert "Waiting for the first sync to lakeflow.pg_silver_order_lifecycle." in page
    assert "Waiting for the first sync to complaints.pg_complaint_responses." in page
    assert "does not answer" not in page


def test_without_orders_the_page_says_so(client: httpx.Client) -> None:
    page = live(client)
    assert page.count("Waiting for the first order.") >= 4
    assert "No complaint in the last day." in page


def test_a_part_that_is_not_synced_leaves_the_others_be(
    business: Any, client: httpx.Client
) -> None:
    business.order("o-1", until="gk_ready_ts")
    with business.connect(REFUNDS) as connection:
        connection.execute("DROP TABLE simulator.pg_locations")
    page = live(client)
    assert "Waiting for the first sync to simulator.pg_locations." in page
    assert "Ready 1 longest 0 min" in page


def test_the_last_hour_is_told_in_figures(business: Any, client: httpx.Client) -> None:
    business.order("before", minute=-70)
    business.order("done", minute=0)
    business.order("on-way", minute=10, until="driver_picked_up_ts")
    for order in ("before", "done", "on-way"):
        business.worth(order, "10.50")
    business.refund("done", minute=40, refund_usd=2.5)
    business.complaint("c-1", order="done", minute=35, decision="escalate")
    page = live(client)
    # The newest event, of minute 40, is the moment that the page shows.
    assert "Event time, UTC 2024-03-11 12:40" in page
    assert "Orders, last hour 2 +100% on the hour before" in page
    assert "Revenue, last hour $21.00" in page
    assert "Open orders 1" in page
    assert "Delivery time 40 min median of 1 delivery" in page
    assert "Late, last hour 0.0% 0 over 60 min" in page
    assert "Refunds, last day $2.50 1 order, 100.0%" in page
    assert "Complaints, last day 1 1 go to a person" in page
    assert "On the way 1 longest 10 min" in page
    assert "12:40:00 Delivered - order done" in page


def test_what_comes_later_than_the_replay_is_not_shown(business: Any, client: httpx.Client) -> None:
    business.order("now", minute=0, until="gk_started_ts")
    business.order("later", minute=30)
    business.tell(virtual_time=NOON + timedelta(minutes=5))
    page = live(client)
    assert "Event time, UTC 2024-03-11 12:05" in page
    assert "In the kitchen 1" in page
    assert "later" not in page


def test_a_city_has_its_drivers_where_they_were_seen_last(
    business: Any, client: httpx.Client
) -> None:
    business.city(1, "San Francisco", (37.77, -122.42))
    business.city(2, "Chicago", (41.88, -87.63))
    business.order("o-1", until="driver_picked_up_ts")
    route = [[37.77, -122.42], [37.78, -122.42], [37.78, -122.41]]
    business.event("o-1", "driver_picked_up", {"route_points": route}, minute=20)
    ping = {"progress_pct": 10, "loc_lat": 37.775, "loc_lon": -122.42}
    business.event("o-1", "driver_ping", ping, minute=19)
    html = client.get("/live").text
    assert "San Francisco 1 driver on the way" in words(html)
    assert "Chicago 0 drivers on the way" in words(html)
    [(x, y)] = re.findall(r'class="driver" cx="([^"]+)" cy="([^"]+)"', html)
    assert float(x) == 0
    # 0.56 km to the north, on a drawing that reaches 1.5 km from the kitchen.
    assert float(y) == pytest.approx(-0.556 / 1.5 * 96, abs=0.1)
    assert 'class="route"' not in html

    one = client.get("/live?city=1").text
    assert "Chicago 0 drivers on the way" not in words(one)
    assert "o-1 20 min" in words(one)
    assert 'class="route"' in one
    [streets] = re.findall(r'href="(/live/streets/1\.svg[^"]*)"', one)
    drawing = client.get(streets)
    assert drawing.headers["content-type"].startswith("image/svg+xml")
    assert "L" in drawing.text

    assert live(client, "?city=%3Cscript%3E") == live(client)


def test_bodies_of_events_that_are_no_places_are_left_out(
    business: Any, client: httpx.Client
) -> None:
    business.city(1, None)
    business.city(2, "Nowhere", (None, None))
    broken: tuple[object, ...] = (None, [], "x", {"loc_lat": "1"}, {"loc_lat": 1e300, "loc_lon": 2})
    for number, body in enumerate(broken):
        business.order(f"o-{number}", until="driver_picked_up_ts")
        business.event(f"o-{number}", "driver_ping", body, minute=19)
        business.event(f"o-{number}", "driver_picked_up", {"route_points": body}, minute=20)
    page = live(client, "?city=1")
    assert "Location 1 5 drivers on the way" in page
    assert "can't be read" not in page


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    ping=JSON | st.fixed_dictionaries({"loc_lat": JSON, "loc_lon": JSON}),
    way=JSON | st.fixed_dictionaries({"route_points": JSON | st.lists(st.lists(JSON))}),
    refund=JSON | st.dictionaries(REFUND_FIELDS, JSON),
    complaint=JSON | st.dictionaries(COMPLAINT_FIELDS, JSON),
)
def test_no_json_value_breaks_the_page(
    business: Any, ping: Any, way: Any, refund: Any, complaint: Any
) -> None:
    business.fill("a text")
    driving = "a text!"  # the order of `fill` that is on the way
    business.event(driving, "driver_ping", ping, minute=34)
    business.event(driving, "driver_picked_up", way, minute=35)
    business.refund_json(driving, refund, minute=35)
    business.complaint_json("c", complaint, minute=35)
    parts = business.parts()
    with closing(parts.refunds), closing(parts.complaints):
        reading = LiveReader(parts.refunds, parts.complaints, parts.tables).read()
    assert reading.problems == ()
    [city] = reading.maps.value or ()
    assert [driver.order_id for driver in city.drivers] == [driving]
    assert reading.refunds.value is not None
    assert reading.complaints.value is not None
    assert reading.complaints.value.complaints == 2


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
    assert "Stage Refund sync failed: no space left" in page


def test_tables_are_listed_with_rows_and_freshness_on_both_sides(
    business: Any, client: httpx.Client
) -> None:
    business.tell(
        tables=(
            TableStatus("lakeflow.all_events", 776_103, 12.0),
            TableStatus("lakeflow.gold_brand_sales_day", 0),
        )
    )
    with business.connect(ORDERS["events"]) as connection:
        query = (
            f"INSERT INTO {ORDERS['events'].positions} (spec, source_id, applied_at)"
            " VALUES ('events', 'x', now() - interval '5 minutes')"
        )
        connection.execute(query.encode())
    page = live(client)
    assert "lakeflow.all_events 776,103 12 s ago 0 5 min ago" in page
    assert "lakeflow.gold_brand_sales_day 0 - - -" in page
    assert "complaints.raw_complaints - - - -" in page  # the tests make no such table


def test_a3_text_from_anyone_is_text_on_the_page(
    business: Any, serve: Any, hostile_texts: tuple[str, ...]
) -> None:
    def page(text: str) -> str:
        business.fill(text)
        with serve(business.parts()) as server:
            return httpx.get(f"{server.url}/?city=1", trust_env=False).text

    harmless = set(PageText(page("a_plain.text")).tags)
    for text in hostile_texts:
        html = page(text)
        assert set(PageText(html).tags) <= harmless, text
        begin = " ".join(text.split())[:190]
        assert words(html).count(begin) >= 14, text


def test_a_database_that_is_gone_is_a_notice_on_a_page_that_still_works(
    business: Any, client: httpx.Client
) -> None:
    business.order("order-1")
    home = business.addresses["caspers_complaints"]
    business.addresses["caspers_complaints"] = "host=/nowhere user=secret-user dbname=x"
    page = live(client)
    assert "Database caspers_complaints does not answer. Trying again." in page
    assert "Complaints, last day - not yet known" in page
    assert "order order-1" in page
    assert "secret-user" not in page
    assert "Traceback" not in page
    business.addresses["caspers_complaints"] = home


def test_a_server_that_stops_is_a_notice_until_it_runs_again(business: Any, serve: Any) -> None:
    with own_server() as server:
        business.addresses = {name: server.dsn(name) for name in business.addresses}
        with (
            serve(business.parts()) as console,
            httpx.Client(base_url=console.url, trust_env=False, timeout=60) as client,
        ):
            assert "Waiting for the first sync" in live(client)
            server.stop()
            gone = until(client, "does not answer")
            assert "Database caspers does not answer. Trying again." in gone
            assert client.get("/readyz").status_code == 503
            assert client.get("/healthz").status_code == 200
            server.start()
            assert "does not answer" not in until(client, "Waiting for the first sync")
            assert client.get("/readyz").status_code == 200


def until(client: httpx.Client, text: str) -> str:
    """The page once it holds a text."""
    end = time.monotonic() + PATIENCE_SECONDS
    while text not in (page := live(client)):
        assert time.monotonic() < end, page
        time.sleep(0.2)
    return page


def test_a_console_that_stands_alone_shows_what_postgres_knows(business: Any, serve: Any) -> None:
    business.order("order-1")
    with serve(business.parts(status=None, controls=None)) as server:
        page = words(httpx.get(server.url, trust_env=False).text)
        refused = httpx.post(f"{server.url}/live/replay/pause", trust_env=False)
    assert "none runs here: this is what Postgres knows" in page
    assert "Event time, UTC 2024-03-11 12:40" in page
    assert "Stages" not in page
    assert "Pause" not in page
    assert refused.status_code == 404


def started(business: Any, **more: Any) -> None:
    business.tell(virtual_time=datetime(2024, 3, 11, 18, 5, 59, tzinfo=UTC), speed=60.0, **more)


def test_tables_that_follow_the_replay_say_how_far_it_is(
    business: Any, client: httpx.Client
) -> None:
    business.order("o-1")
    started(business)
    page = live(client)
    assert "Event time, UTC 2024-03-11 12:40 events are written to 2024-03-11 18:05 Replay" in page


@pytest.mark.parametrize(
    ("due", "note"),
    [
        (datetime(2024, 3, 12, 1, 10, tzinfo=UTC), "catching up: 12 h 30 min of events to go"),
        # A round and its playing are two hours of events at this speed: nothing is amiss.
        (datetime(2024, 3, 11, 14, 40, tzinfo=UTC), "events are written to 2024-03-11 18:05"),
    ],
)
def test_a_page_that_is_behind_the_clock_says_how_far(
    business: Any, client: httpx.Client, due: datetime, note: str
) -> None:
    business.order("o-1")
    started(business, due=due)
    assert f"Event time, UTC 2024-03-11 12:40 {note} Replay" in live(client)


def test_the_replay_tells_where_it_is_and_offers_its_controls(
    business: Any, client: httpx.Client
) -> None:
    started(business, place="day 75 of 90")
    page = live(client)
    assert "Event time, UTC 2024-03-11 18:05 Replay plays 60x Dataset day 75 of 90 Pause" in page
    started(business, paused=True)
    assert "paused 60x" in live(client)
    assert "Resume" in live(client)


@pytest.mark.parametrize(
    ("action", "sent", "done", "said"),
    [
        ("pause", {}, "pause", "The replay is paused."),
        ("resume", {}, "resume", "The replay goes on."),
        ("speed", {"speed": "300"}, "speed 300", "The replay plays at speed 300."),
        ("seek", {"target": "+6h"}, "seek +6h", "The replay goes to +6h."),
    ],
)
def test_the_controls_steer_from_forms_and_as_json(
    business: Any, client: httpx.Client, action: str, sent: dict[str, str], done: str, said: str
) -> None:
    address = f"/live/replay/{action}"
    as_json = client.post(address, json=sent)
    assert (as_json.status_code, as_json.json()) == (200, {"message": said})
    of_page = client.post(address, data=sent, headers={"HX-Request": "true"})
    assert of_page.status_code == 204
    assert json.loads(of_page.headers["HX-Trigger"]) == {
        "toast": {"text": said, "ok": True},
        "refresh": None,
    }
    plain = client.post(address, data=sent, headers={"Accept": "text/html"})
    assert (plain.status_code, plain.headers["location"]) == (303, "/")
    assert business.tape.done == [done] * 3


@pytest.mark.parametrize(
    ("action", "body", "words_said"),
    [
        ("speed", b"speed=", "The speed is missing."),
        ("speed", b"speed=fast", f"The speed is 'fast'; {ALLOWED}"),
        ("speed", b"speed=0", f"The speed is '0'; {ALLOWED}"),
        ("speed", b"speed=1e300", f"The speed is '1e300'; {ALLOWED}"),
        ("speed", b"speed=nan", f"The speed is 'nan'; {ALLOWED}"),
        ("seek", b"", "The target is missing."),
        ("seek", b"target=" + b"9" * 101, "The target is longer than 100 characters."),
        ("seek", b"\xff\xfe", "The body can't be read."),
    ],
)
def test_what_is_asked_wrongly_is_refused_in_a_sentence(
    business: Any, client: httpx.Client, action: str, body: bytes, words_said: str
) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    response = client.post(f"/live/replay/{action}", content=body, headers=headers)
    assert response.status_code == 422
    assert response.json()["error"] == words_said
    assert response.json()["hint"]
    assert business.tape.done == []


@pytest.mark.parametrize("body", [b"[]", b"nothing", b"[" * 3000, b'{"speed": true}', b"{}"])
def test_json_that_does_not_fit_is_refused(
    business: Any, client: httpx.Client, body: bytes
) -> None:
    headers = {"Content-Type": "application/json"}
    response = client.post("/live/replay/speed", content=body, headers=headers)
    assert response.status_code == 422
    assert business.tape.done == []


def test_a_refusal_of_the_replay_reaches_the_page(business: Any, client: httpx.Client) -> None:
    business.tape.refusal = "Day 99 is outside <the> dataset"
    headers = {"HX-Request": "true"}
    response = client.post("/live/replay/seek", data={"target": "99"}, headers=headers)
    assert response.status_code == 422
    said = {"text": "Day 99 is outside <the> dataset. Try another.", "ok": False}
    assert json.loads(response.headers["HX-Trigger"]) == {"toast": said}
    plain = client.post("/live/replay/pause", headers={"Accept": "text/html"})
    assert plain.status_code == 422
    assert "Day 99 is outside <the> dataset. Try another. The console" in words(plain.text)


def test_only_who_may_steer_sees_the_controls_and_uses_them(business: Any, serve: Any) -> None:
    started(business)
    access = ConsoleAccess(proxy=True, managers=frozenset({"ann@example.com"}))
    with serve(business.parts(access=access)) as server:
        viewer = {"X-Forwarded-Email": "vic@example.com"}
        page = words(httpx.get(server.url, headers=viewer, trust_env=False).text)
        refused = httpx.post(f"{server.url}/live/replay/pause", headers=viewer, trust_env=False)
    assert "plays 60x" in page
    assert "Pause" not in page
    assert refused.status_code == 403
    assert business.tape.done == []


@pytest.mark.parametrize(
    "headers",
    [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "http://evil"}],
)
def test_a_page_of_another_site_cannot_steer(
    business: Any, client: httpx.Client, headers: dict[str, str]
) -> None:
    assert client.post("/live/replay/pause", headers=headers).status_code == 403
    assert business.tape.done == []


def test_a_large_body_and_an_unknown_action_are_refused(
    business: Any, client: httpx.Client
) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    large = client.post("/live/replay/seek", content=b"target=" + b"x" * 300_000, headers=form)
    assert large.status_code == 413
    assert client.post("/live/replay/explode").status_code == 422
    assert business.tape.done == []
