from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caspers_lib.console import formats


@pytest.mark.parametrize(
    ("usd", "written"),
    [
        (Decimal("0"), "$0.00"),
        (Decimal("1234.5"), "$1,234.50"),
        (Decimal("-5"), "-$5.00"),
        (None, "-"),
    ],
)
def test_money_is_written_to_the_cent(usd: Decimal | None, written: str) -> None:
    assert formats.money(usd) == written


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0.04, "0.0 s"), (9.96, "10 s"), (12.4, "12 s"), (59.7, "1 min 00 s"), (185, "3 min 05 s")],
)
def test_a_duration_names_its_units(seconds: float, written: str) -> None:
    assert formats.duration(seconds) == written


@pytest.mark.parametrize(
    ("minutes", "written"),
    [(0, "0 min"), (59.6, "1 h 0 min"), (750, "12 h 30 min"), (1_440, "1 day 0 h"),
     (3_060, "2 days 3 h")],
)  # fmt: skip
def test_a_span_of_event_time_is_two_units(minutes: float, written: str) -> None:
    assert formats.span(timedelta(minutes=minutes)) == written


def test_absent_values_are_a_dash() -> None:
    absent = [formats.count(None), formats.share(None, 5), formats.share(1, 0)]
    absent += [formats.minutes(None), formats.minutes(float("inf")), formats.moment(None)]
    absent += [formats.speed(None), formats.clip(None), formats.clip("  \n")]
    assert absent == ["-"] * 9


def test_a_moment_is_shown_in_utc_whatever_its_zone() -> None:
    moment = datetime(2024, 3, 11, 23, 30, tzinfo=timezone(-timedelta(hours=8)))
    assert formats.moment(moment) == "2024-03-12 07:30"
    assert formats.moment(moment.astimezone(UTC)) == "2024-03-12 07:30"


def test_numbers_have_their_unit() -> None:
    assert formats.count(1234567) == "1,234,567"
    assert [formats.counted(n, "answer") for n in (0, 1, 1200)] == [
        "0 answers",
        "1 answer",
        "1,200 answers",
    ]
    assert formats.share(79, 1000) == "7.9%"
    assert formats.minutes(46.6) == "47 min"
    assert formats.speed(60.0) == "60x"
    assert formats.speed(0.5) == "0.5x"


def test_codes_are_spoken_and_other_text_is_left_alone() -> None:
    assert formats.spoken("delivery_delay") == "delivery delay"
    assert formats.spoken("DROP TABLE pg_x") == "DROP TABLE pg_x"
    assert formats.spoken(None) == "-"


@given(st.text())
def test_clipped_text_is_short_and_begins_like_the_text(text: str) -> None:
    clipped = formats.clip(text)
    assert len(clipped) <= formats.CLIP_CHARACTERS + 1
    assert clipped == "-" or text.strip().startswith(clipped.removesuffix("…"))


@given(st.text(), st.text())
def test_element_ids_are_plain_and_tell_keys_apart(one: str, other: str) -> None:
    ids = {formats.element_id(one, "row"), formats.element_id(other, "row")}
    assert all(name.replace("-", "").isalnum() and name.isascii() for name in ids)
    assert len(ids) == len({one, other})
