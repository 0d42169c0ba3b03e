"""The charts of a desk on a real Postgres, and values that are remembered."""

from contextlib import closing
from decimal import Decimal
from typing import Any

import httpx
import pytest

from caspers_lib.console.decisions.charts import Bar, Charts, case_charts
from caspers_lib.console.decisions.intake import CaseIntake
from caspers_lib.console.decisions.orders import order_cities
from caspers_lib.console.decisions.values import COMPLAINT_CASES, REFUND_CASES, CaseKind
from caspers_lib.console.remembered import Remembered
from tests.console.conftest import ORDERS
from tests.console.page_text import words

DAY = 24 * 60


def charts(business: Any, kind: CaseKind = REFUND_CASES) -> Charts:
    parts = business.parts()
    cities = order_cities(parts.refunds, ORDERS["lifecycle"], ORDERS["locations"])
    with business.connect(kind.spec) as connection, closing(parts.refunds):
        CaseIntake(kind, cities).take_in(connection)
        return case_charts(connection, kind)


def test_what_is_suggested_is_summed_by_day_by_hour_and_by_city(business: Any) -> None:
    business.city(1, "San Francisco")
    business.city(2, "Chicago")
    for order, minute, city, usd in (
        ("long ago", -20 * DAY, 1, 99),
        ("yesterday", -DAY + 60, 1, 5),
        ("noon", 1, 2, 7.25),
        ("none", 2, 2, 0),
        ("odd", 3, 2, "much"),
    ):
        business.order(order, minute=minute - 40, location=city)
        business.refund(order, minute=minute, refund_usd=usd)
    found = charts(business)
    assert found.days == (
        Bar("2024-03-10", 1, Decimal("5.00")),
        Bar("2024-03-11", 1, Decimal("7.25")),
    )
    assert found.hours == (Bar("12:00", 1, Decimal("7.25")), Bar("13:00", 1, Decimal("5.00")))
    assert found.cities == (
        Bar("Chicago", 1, Decimal("7.25")),
        Bar("San Francisco", 1, Decimal("5.00")),
    )


def test_complaints_get_their_cities_from_the_orders_database(business: Any) -> None:
    business.city(1, "Chicago")
    business.order("o-1")
    business.complaint("c-1")
    business.complaint("c-2", order="of nobody")
    found = charts(business, COMPLAINT_CASES)
    assert [bar.label for bar in found.days] == ["2024-03-11"]
    assert found.cities == (Bar("", 1, Decimal("5.25")), Bar("Chicago", 1, Decimal("5.25")))


def test_the_page_shows_them(business: Any, client: httpx.Client) -> None:
    assert "Nothing was suggested so far." in words(client.get("/refunds/charts").text)
    business.complaint("c-1")
    assert "2024-03-11 $5.25 1" in words(client.get("/complaints/charts").text)


def test_a_value_is_read_once_for_a_while_and_an_error_is_not_kept() -> None:
    now = [0.0]
    known = Remembered[int](lambda _: 10, clock=lambda: now[0])

    def fail() -> int:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        known.value(fail)
    assert [known.value(lambda: 1), known.value(lambda: 2)] == [1, 1]
    now[0] = 10.1
    assert known.value(lambda: 3) == 3
