"""A time that is far ahead of all others moves no page to a day when nothing else is."""

from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import Connection

from caspers_lib.console.live_glance import complaint_glance
from caspers_lib.console.live_orders import newest_moment
from caspers_lib.console.queries import newest_sql
from caspers_lib.lakebase import COMPLAINTS, REFUNDS
from tests.console.conftest import NOON, ORDERS
from tests.console.page_text import words

YEAR = 365 * 24 * 60
LIFECYCLE = ORDERS["lifecycle"]


@pytest.fixture
def orders(business: Any) -> Any:
    """Five orders between noon and 13:20, and one a year ahead."""
    for number in range(5):
        business.order(f"o-{number}", minute=10 * number)
    business.order("ahead", minute=YEAR)
    return business


@pytest.mark.usefixtures("orders")
def test_live_shows_the_orders_and_not_the_one_a_year_ahead(client: httpx.Client) -> None:
    page = words(client.get("/live").text)
    assert "Event time, UTC 2024-03-11 13:20" in page
    assert "Orders, last hour 2" in page
    assert "ahead" not in page


def test_live_follows_the_replays_clock_over_it(orders: Any, client: httpx.Client) -> None:
    orders.tell(virtual_time=NOON + timedelta(hours=3))
    assert "Event time, UTC 2024-03-11 13:20" in words(client.get("/live").text)


@pytest.mark.parametrize("column", ["order_created_ts", "delivered_ts", "driver_ping_ts"])
@pytest.mark.parametrize("ahead", ["2025-03-11 12:00Z", "2024-03-16 12:00Z", "infinity"])
def test_one_time_of_an_order_of_today_may_be_ahead(orders: Any, column: str, ahead: str) -> None:
    with orders.connect(LIFECYCLE) as connection:
        update = f"UPDATE {LIFECYCLE.target} SET {column} = %s WHERE order_id = 'o-1'"
        connection.execute(update.encode(), (ahead,))
        assert newest_moment(connection, LIFECYCLE) == NOON + timedelta(minutes=80)


def test_charts_and_cards_are_of_the_days_of_the_others(
    business: Any, client: httpx.Client
) -> None:
    for number in range(4):
        business.refund(f"o-{number}", minute=-24 * 60 * number, took=40)
        business.complaint(f"c-{number}", minute=-24 * 60 * number)
    business.refund("ahead", minute=YEAR, took=500)
    business.complaint("ahead", minute=YEAR)
    for kind, usd in (("refunds", "7.50"), ("complaints", "5.25")):
        charts = client.get(f"/api/{kind}/charts").json()
        days = [f"2024-03-{day:02d}" for day in (8, 9, 10, 11)]
        assert [(bar["label"], bar["usd"]) for bar in charts["days"]] == [(d, usd) for d in days]
    assert client.get("/api/refunds/figures").json()["median_minutes"] == 40
    page = words(client.get("/refunds/charts").text)
    assert "By day of event time, UTC 2024-03-08" in page
    with business.connect(COMPLAINTS) as connection:
        assert complaint_glance(connection, COMPLAINTS, None).complaints == 1


@pytest.mark.parametrize(
    "ahead", ["infinity", "-infinity", "12024-01-01 00:00Z", "0044-03-15 12:00Z BC"]
)
def test_a_time_that_no_driver_reads_hides_no_other_row(
    business: Any, client: httpx.Client, ahead: str
) -> None:
    for order_id in ("o-1", "o-2"):
        business.refund(order_id)
    with business.connect(REFUNDS) as connection:
        update = f"UPDATE {REFUNDS.target} SET ts = %s WHERE order_id = 'o-2'"
        connection.execute(update.encode(), (ahead,))
    rows = client.get("/api/refunds?status=all").json()["rows"]
    assert {row["case_id"] for row in rows} == {"o-1", "o-2"}
    assert len(client.get("/api/refunds.csv").text.splitlines()) == 3


GAPS = st.lists(st.integers(0, 24 * 60), min_size=12, max_size=120)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(gaps=GAPS, strays=st.lists(st.integers(1, 500_000), max_size=3))
def test_up_to_three_strays_never_are_the_newest(
    business: Any, gaps: list[int], strays: list[int]
) -> None:
    minutes = list(accumulate(gaps))
    ahead = minutes[-1] + max(24 * 60, minutes[-1])
    with business.connect(REFUNDS) as connection:
        newest = shown(connection, minutes + [ahead + far for far in strays])
        assert newest == NOON + timedelta(minutes=minutes[-1])


@pytest.mark.parametrize(
    "minutes", [[], [0], [0, YEAR], [0, 1, 60 * 24], [YEAR * n for n in range(9)]]
)
def test_few_or_scattered_times_are_all_believed(business: Any, minutes: list[int]) -> None:
    with business.connect(REFUNDS) as connection:
        newest = NOON + timedelta(minutes=max(minutes)) if minutes else None
        assert shown(connection, minutes) == newest


def shown(connection: Connection, minutes: list[int]) -> datetime | None:
    """The newest of these times, minutes after noon."""
    connection.execute("CREATE TEMPORARY TABLE IF NOT EXISTS happened (at timestamptz)")
    connection.execute("TRUNCATE happened")
    times = [NOON + timedelta(minutes=minute) for minute in minutes]
    connection.execute("INSERT INTO happened SELECT unnest(%s::timestamptz[])", (times,))
    [(newest,)] = connection.execute(newest_sql("at", "happened").encode()).fetchall()
    return None if newest is None else newest.astimezone(UTC)
