"""What `check_dataset` accepts, reports and refuses."""

import itertools
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from caspers_lib.domain import GHOST_KITCHEN
from caspers_lib.errors import DatasetError
from caspers_lib.replay.dataset import EVENTS_SCHEMA, EventsFile
from caspers_lib.replay.dataset_check import check_dataset
from caspers_lib.replay.dataset_facts import (
    BrandsFacts,
    BrandSpan,
    DatasetFacts,
    Lateness,
    LocationFacts,
    Story,
)
from caspers_lib.replay.dataset_quarantine import Quarantine
from caspers_lib.replay.dataset_targets import TARGETS, verdicts
from caspers_lib.replay.dataset_text import report_lines
from caspers_lib.replay.generator import generate_dataset

DAY = 86_400
NOTHING = Quarantine((), ())


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate_dataset(tmp_path_factory.mktemp("dataset"), days=14, scale=0.05)


@pytest.fixture(scope="module")
def table(path: Path) -> pa.Table:
    return pq.read_table(path)


Change = Callable[[pa.Table], pa.Table]


def with_column(name: str, values: Callable[[pa.ChunkedArray], Any]) -> Change:
    """A change of one column; the schema's own nullability is dropped."""

    def change(table: pa.Table) -> pa.Table:
        return table.set_column(table.schema.get_field_index(name), name, values(table[name]))

    return change


def first_as(value: Any) -> Callable[[pa.ChunkedArray], pa.Array]:
    return lambda column: pa.array([value, *column.to_pylist()[1:]], type=column.type)


def event(order: str, minute: int, type_id: int, day: int = 0, location: int = 1) -> dict[str, Any]:
    """A row of a dataset made by hand; minutes count from the day's UTC midnight."""
    return {
        **dict.fromkeys(EVENTS_SCHEMA.names),
        "event_type_id": type_id,
        "ts_seconds": GHOST_KITCHEN.epoch + day * DAY + minute * 60,
        "location_id": location,
        "order_id": order,
        "sequence": type_id - 1,
        "items_json": '[{"qty": 1, "price": 9.5}]' if type_id == 1 else None,
    }


def facts_of(tmp_path: Path, rows: list[dict[str, Any]], **metadata: str) -> DatasetFacts:
    schema = EVENTS_SCHEMA.with_metadata({f"caspers.{k}": v for k, v in metadata.items()})
    file = tmp_path / "events.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), file)
    return check_dataset(file).facts


def in_events_of(type_id: int, name: str, value: Any) -> Change:
    """A change of one column in every event of a type."""

    def change(table: pa.Table) -> pa.Table:
        there = pc.equal(table["event_type_id"], type_id)
        values = pc.if_else(there, pa.scalar(value, table[name].type), table[name])
        return with_column(name, lambda _: values)(table)

    return change


def test_the_report_counts_what_an_independent_query_counts(path: Path) -> None:
    facts = check_dataset(path).facts
    names = {t.id: t.name for t in GHOST_KITCHEN.event_types}
    counts = duckdb.sql(f"SELECT event_type_id, count(*) FROM '{path}' GROUP BY ALL").fetchall()
    assert facts.events == {names[number]: count for number, count in counts}
    assert facts.rows == sum(facts.events.values())
    assert facts.orders == facts.delivered == facts.events["order_created"]
    assert list(facts.events) == list(names.values())
    assert facts.days == 14
    assert facts.is_sorted
    assert facts.fingerprint == EventsFile.open(path).fingerprint
    first, last = duckdb.sql(f"SELECT min(ts_seconds), max(ts_seconds) FROM '{path}'").fetchall()[0]
    assert (facts.first_ts, facts.last_ts) == (first, last)
    assert sum(x.first_week + x.last_week for x in facts.locations) == facts.orders
    assert sum(sum(x.hourly) for x in facts.locations) == facts.orders
    assert sum(facts.weekdays) == pytest.approx(7)


def test_minutes_and_orders_are_exact_on_a_dataset_made_by_hand(tmp_path: Path) -> None:
    rows = [event("a", 0, 1), event("a", 20, 8), event("b", 5, 1), event("b", 65, 8)]
    rows += [event("m", 6, 1), event("m", 67, 8), event("n", 9, 8)]
    rows += [event("c", 7, 1), event("d", 1, 1, day=89), event("e", 2, 1, day=88)]
    rows += [event("f", 3, 1, day=88), event("g", 4, 1, day=87)]
    rows += [event("h", 0, 1, day=83), event("i", -1, 1, day=83)]  # the last week's edge
    rows += [event("j", -1, 1, day=7), event("k", 0, 1, day=7), event("l", 0, 1, day=90)]
    facts = facts_of(tmp_path, rows, cycle_seconds=str(90 * DAY))
    assert (facts.orders, facts.delivered, facts.days) == (13, 3, 90)
    assert facts.lateness is not None
    late = facts.lateness
    assert (late.p50, late.p75, late.p99) == pytest.approx((60.0, 60.5, 60.98))
    assert late.late_share == pytest.approx(1 / 3)
    (at,) = facts.locations
    assert (at.location_id, at.first_week, at.last_week) == (1, 5, 5)
    assert at.growth == 0.0
    assert at.daily[0] == 4
    assert at.hourly == (11, *[0] * 22, 2)
    assert at.late_share == late.late_share
    assert not facts.is_sorted


def test_a_foreign_dataset_has_hours_of_utc_and_names_by_number(tmp_path: Path) -> None:
    rows = [event(f"o{n}", 60 * hour, 1, location=7) for n, hour in enumerate((0, 1, 1, 5))]
    facts = facts_of(tmp_path, rows)
    (at,) = facts.locations
    assert (at.name, at.utc_offset_hours, facts.story) == ("location 7", None, None)
    assert [hour for hour, n in enumerate(at.hourly) if n] == [0, 1, 5]
    text = "\n".join(check_dataset(tmp_path / "events.parquet").lines())
    assert "UTC: the dataset tells no local time" in text
    assert "not made by this generator" in text
    assert "Targets" not in text
    assert "judged" not in text


def test_local_hours_and_weekdays_follow_the_offsets_that_the_dataset_tells(tmp_path: Path) -> None:
    story = {"seed": 1, "scale": 2.5, "first_day": 4, "utc_offset_hours": {"1": -8, "2": 3}}
    rows = [event(f"a{d}", 60, 1, day=d) for d in range(14)]
    rows += [event(f"b{d}", 60 * 23, 1, day=d, location=2) for d in range(14)]
    rows += [event("sunday", 60, 1, day=7)]  # 01:00 UTC on a Monday is Sunday, 17:00 there
    facts = facts_of(tmp_path, rows, story=json.dumps(story), cycle_seconds=str(14 * DAY))
    assert facts.story == Story(seed=1, scale=2.5, first_day=4)
    one, two = facts.locations
    assert one.hourly[17] == 15
    assert two.hourly[2] == 14
    assert facts.weekdays[:6] == pytest.approx([facts.weekdays[0]] * 6)
    assert max(facts.weekdays) == facts.weekdays[6]
    assert facts.weekend_lift is not None
    assert facts.weekend_lift > 0


def test_names_come_from_the_dimensions_beside_the_file(path: Path, tmp_path: Path) -> None:
    assert [at.name for at in check_dataset(path).facts.locations] == [
        *("San Francisco", "Silicon Valley", "Bellevue", "Chicago")
    ]
    alone = tmp_path / "events.parquet"
    alone.write_bytes(path.read_bytes())
    numbered = [f"location {n}" for n in (1, 2, 3, 4)]
    assert [at.name for at in check_dataset(alone).facts.locations] == numbered
    pq.write_table(pa.table({"other": [1]}), tmp_path / "locations.parquet")
    assert [at.name for at in check_dataset(alone).facts.locations] == numbered
    hostile = pa.table({"location_id": [1], "name": ["\x1b[2J" + "Neverending " * 9]})
    pq.write_table(hostile, tmp_path / "locations.parquet")
    lines = check_dataset(alone).lines()
    assert any(re.match(r"  \?\[2JNever[a-z N]+…: ", line) for line in lines)
    assert all(line.isprintable() for line in lines)
    (tmp_path / "locations.parquet").write_bytes(b"no parquet")
    with pytest.raises(DatasetError, match=r"dimension .*locations\.parquet can't be read"):
        check_dataset(alone)


def test_days_of_the_week_count_as_often_as_they_come(tmp_path: Path) -> None:
    rows = [event(f"{day}", 0, 1, day=day) for day in range(17)]
    facts = facts_of(tmp_path, rows, cycle_seconds=str(17 * DAY))
    assert facts.weekdays == pytest.approx((1,) * 7)
    assert facts.weekend_lift == pytest.approx(0)


def test_lateness_is_told_by_the_hours_load(tmp_path: Path) -> None:
    rows = []
    for hour, orders in enumerate((3, 5, 1, 4, 2)):  # only the fullest hour's are late
        for n in range(orders):
            order = f"{hour}-{n}"
            rows += [event(order, 60 * hour, 1), event(order, 60 * hour + 10, 8)]
            rows[-1]["ts_seconds"] += 3_600 * (orders == 5)
    facts = facts_of(tmp_path, rows)
    assert facts.lateness is not None
    assert facts.lateness.late_by_load == (0, 0, 0, 0, 1)


def test_a_brand_launches_or_exits_where_its_absence_is_no_chance(tmp_path: Path) -> None:
    rows = []

    def sells(brand: int, days: range, *, location: int = 1, orders: int = 1) -> None:
        for day, number in itertools.product(days, range(orders)):
            order = f"{brand}-{location}-{day}-{number}"
            line = f'{{"brand_id": {brand}, "qty": 1, "price": 1}}'
            row = event(order, 0, 1, day=day, location=location)
            rows.append({**row, "items_json": f"[{line}, {line}]"})

    sells(1, range(90))
    sells(2, range(10, 90))
    sells(3, range(70), location=2)
    sells(4, range(2, 88), orders=9)  # many, but the gap is short
    sells(5, range(20, 90, 20))  # rare: its first days without an order mean nothing
    sells(6, range(8, 90))  # eight orders are missing, in two lines each
    facts = facts_of(tmp_path, rows)
    assert facts.brands == BrandsFacts(
        count=6,
        launches=(BrandSpan(2, "brand 2", "location 1", 10),),
        exits=(BrandSpan(3, "brand 3", "location 2", 69),),
    )


def test_launches_and_exits_are_those_of_the_listings(tmp_path: Path) -> None:
    path = generate_dataset(tmp_path, days=90, scale=0.5)
    facts = check_dataset(path).facts
    names = {
        x["brand_id"]: x["name"] for x in pq.read_table(tmp_path / "brands.parquet").to_pylist()
    }
    listed = pq.read_table(tmp_path / "brand_locations.parquet").to_pylist()
    places = {at.location_id: at.name for at in facts.locations}
    assert facts.brands is not None
    for found, key in ((facts.brands.launches, "start_day"), (facts.brands.exits, "end_day")):
        wanted = {
            (names[x["brand_id"]], places[x["location_id"]]): x[key] for x in listed if x[key]
        }
        days = {(x.name, x.location): x.day for x in found}
        assert days.keys() == wanted.keys()
        assert all(abs(days[place] - day) <= 3 for place, day in wanted.items())


def test_peaks_stand_above_their_neighbours_and_the_mean() -> None:
    hourly = [0] * 24
    hourly[12], hourly[13], hourly[19], hourly[3], hourly[0], hourly[23] = 50, 50, 80, 2, 60, 40
    at = LocationFacts(1, "x", None, daily=(), course=(), hourly=tuple(hourly), late_share=None)
    assert at.peaks == (19, 0, 12)


# --- as text and as a document --------------------------------------------------------------------


def test_the_lines_say_what_people_ask(path: Path) -> None:
    lines = check_dataset(path).lines()
    text = "\n".join(lines)
    assert lines[0] == str(path)
    assert "a cycle of 14 days\nsorted; generated: seed 42, scale 0.05\n" in text
    assert "2024-01-01 00:" in text
    assert re.search(r"order_created +\d+ ", text)
    assert re.search(r"Minutes to deliver: P50 \d\d\.\d, P75", text)
    assert re.search(
        r"Chicago: \d+ orders, \d+ a day, at most \d+, growth [+-]\d+%\n  [ ▁-█]+\n", text
    )
    assert re.search(r"Silicon Valley .* peaks at (\d+:00(, )?)+\n", text)
    assert "Mon " in text
    assert "Not judged" in text


@pytest.mark.parametrize(("days", "column"), [(1, "an hour"), (9, "3 hours"), (14, "a day")])
def test_every_line_fits_a_hundred_columns(days: int, column: str, tmp_path: Path) -> None:
    path = generate_dataset(tmp_path, days=days, scale=0.02)
    head, *lines = check_dataset(path).lines()
    assert head == str(path)
    assert max(map(len, lines)) <= 100
    assert any(f"(a column is {column};" in line for line in lines)


def facts_of_length(days: int, locations: int = 1) -> DatasetFacts:
    """Facts with orders that double in the second half of the cycle."""
    daily = tuple(1_000_000 * (1 + (2 * day >= days)) for day in range(days))
    of = [
        LocationFacts(n, "A city with a name of its own", 0, daily, (), (10**7,) * 24, 0.5)
        for n in range(locations)
    ]
    late = Lateness(30.0, 40.0, 99.0, 0.5, (0.0, 0.999, 0.999, 0.999, 0.999))
    return DatasetFacts(
        path=Path("x"),
        fingerprint="0" * 32,
        rows=10**10,
        orders=10**9,
        delivered=10**9,
        first_ts=0,
        last_ts=days * DAY,
        epoch=GHOST_KITCHEN.epoch,
        days=days,
        is_sorted=False,
        events={"order_created": 10**9},
        story=Story(42, 10.0, 0),
        locations=tuple(of),
        weekdays=(1.0,) * 7,
        lateness=late,
        brands=BrandsFacts(1, tuple(BrandSpan(1, "A brand", "A city", n) for n in range(30)), ()),
    )


@pytest.mark.parametrize(("days", "columns", "column"), [(90, 90, "a day"), (365, 53, "7 days")])
def test_a_long_cycle_is_drawn_in_whole_weeks(days: int, columns: int, column: str) -> None:
    text = report_lines(facts_of_length(days), (), NOTHING)
    at = next(n for n, line in enumerate(text) if line.startswith("Orders by city"))
    assert f"(a column is {column};" in text[at]
    upper, lower, calendar = text[at + 2 : at + 5]
    assert len(lower) == len(upper) == 2 + columns
    assert set(lower[2:]) == {"█"}
    assert abs(upper.count("█") - columns / 2) <= 1
    assert calendar.startswith("  2024-01-01")
    assert calendar[2:].index("Jun" if days > 90 else "Mar") == (21 if days > 90 else 60)


@pytest.mark.parametrize("days", [14, 98, 99, 686, 687, 5_000])
def test_no_length_and_no_number_of_cities_makes_a_line_too_long(days: int) -> None:
    facts = facts_of_length(days, locations=40)
    lines = report_lines(facts, verdicts(facts), NOTHING)
    assert max(map(len, lines)) <= 100
    assert "  and 28 smaller locations" in lines


def test_the_document_is_json_and_says_what_the_facts_say(path: Path) -> None:
    report = check_dataset(path)
    document = report.as_document()
    assert json.loads(json.dumps(document, allow_nan=False)) == json.loads(json.dumps(document))
    assert document["path"] == str(path)
    assert document["orders"] == report.facts.orders
    assert document["story"] == {"seed": 42, "scale": 0.05, "first_day": 0}
    assert document["locations"][3]["growth"] == report.facts.locations[3].growth
    assert document["locations"][3]["name"] == "Chicago"
    assert [target["met"] for target in document["targets"]] == [None] * len(TARGETS)


# --- targets --------------------------------------------------------------------------------------


def judged(facts: DatasetFacts, name: str) -> bool | None:
    (met,) = (verdict.met for verdict in verdicts(facts) if verdict.name == name)
    return met


def test_only_ninety_days_of_a_story_at_some_scale_are_judged() -> None:
    facts = facts_of_length(90)
    assert judged(facts, "orders") is False
    for other in (
        replace(facts, days=89),
        replace(facts, story=None),
        replace(facts, story=Story(42, 0.05, 0)),
        replace(facts, story=Story(42, 1.0, 1)),
    ):
        assert {verdict.met for verdict in verdicts(other)} == {None}


def test_targets_grow_with_the_scale() -> None:
    facts = replace(facts_of_length(90), orders=750_000)
    assert judged(facts, "orders") is True
    assert judged(replace(facts, story=Story(42, 1.0, 0)), "orders") is False
    (wanted,) = (v.wanted for v in verdicts(facts) if v.name == "orders")
    assert wanted == "700,000 to 800,000"


def test_a_missed_or_unmeasured_target_is_marked() -> None:
    facts = facts_of_length(90)
    text = "\n".join(report_lines(facts, verdicts(facts), NOTHING))
    assert re.search(r"✗ orders +1,000,000,000  wanted 700,000 to 800,000", text)
    assert re.search(r"✗ growth of Chicago +-  wanted", text)
    assert re.search(r"Targets of the canonical dataset: \d+ of 18 met", text)


def test_the_small_hours_count_as_the_night_before() -> None:
    facts = facts_of_length(90)
    for hour, met in ((0, True), (22, True), (21, False), (1, False), (12, False)):
        hourly = tuple(100 if h == hour else 1 for h in range(24))
        night = replace(facts.locations[0], location_id=2, hourly=hourly)
        found = replace(facts, locations=(night,))
        assert judged(found, "busiest hour of Silicon Valley") is met


# --- what is accepted and refused -----------------------------------------------------------------


@pytest.mark.parametrize(
    "types",
    [
        {"event_type_id": pa.int64(), "location_id": pa.int32(), "sequence": pa.uint8()},
        {"ts_seconds": pa.int32(), "customer_lat": pa.float64(), "order_id": pa.large_string()},
    ],
)
def test_wider_narrower_and_unsorted_is_accepted(
    table: pa.Table, path: Path, tmp_path: Path, types: dict[str, pa.DataType]
) -> None:
    for name, of in types.items():
        table = with_column(name, lambda column, of=of: column.cast(of))(table)
    shuffled = table.take(pc.sort_indices(table, [("order_id", "descending")]))
    file = tmp_path / "[odd] name*.parquet"
    pq.write_table(table.slice(0, 5), tmp_path / "o name, another file.parquet")
    pq.write_table(table.slice(0, 5), tmp_path / "[odd] name, too.parquet")
    pq.write_table(shuffled.replace_schema_metadata(pq.read_schema(path).metadata), file)
    report, wanted = check_dataset(file), check_dataset(path)
    assert not report.facts.is_sorted
    assert report.facts.lateness == wanted.facts.lateness
    assert report.facts.events == wanted.facts.events
    assert [at.daily for at in report.facts.locations] == [
        at.daily for at in wanted.facts.locations
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns(["items_json"]), "lacks the column items_json"),
        (
            with_column("event_type_id", first_as(9)),
            r"unknown event type ids 9; allowed are 1 order_created, .*, 8 delivered",
        ),
        (with_column("event_type_id", first_as(-3)), "unknown event type ids -3"),
        (with_column("event_type_id", first_as(None)), "rows with null event_type_id in 1$"),
        (with_column("ts_seconds", first_as(None)), "rows with null ts_seconds in 1$"),
        (with_column("order_id", first_as(None)), "rows with null order_id in 1$"),
        (with_column("sequence", first_as(None)), "rows with null sequence in 1$"),
        (with_column("location_id", first_as(None)), "rows with null location_id in 1$"),
        *(
            (
                with_column("items_json", first_as(text)),
                r"is not a JSON array in items_json in 1 rows, the first in order 'O[0-9A-Z]{7}'$",
            )
            for text in (
                *('[{"id": 1', '{"id": 1}', "", "[1,]", "[NaN]", "[1, -Infinity]", "[[1, ]]"),
                *("nan", "null", '["a\tb"]', "[1] 2"),
            )
        ),
        (
            in_events_of(6, "route_json", "[[1.5,NaN]]"),
            "is not a JSON array in route_json in 475 rows, the first in order",
        ),
        *(
            (in_events_of(type_id, column, value), f"is NaN or infinite in {column} in")
            for type_id, column in (
                *((1, "customer_lat"), (8, "customer_lon"), (7, "ping_lat")),
                *((7, "ping_lon"), (7, "ping_progress")),
            )
            for value in (float("nan"), float("inf"), float("-inf"))
        ),
        (
            with_column("ts_seconds", lambda c: pc.multiply(c, 1_000)),
            "must be UTC epoch seconds of the years 1970 to 9999",
        ),
    ],
)
def test_a_broken_dataset_is_refused_by_name(
    table: pa.Table, tmp_path: Path, change: Change, message: str
) -> None:
    file = tmp_path / "events.parquet"
    pq.write_table(change(table), file)
    with pytest.raises(DatasetError, match=message) as refused:
        check_dataset(file)
    assert "\n" not in refused.value.message
    assert refused.value.hint


def test_every_broken_column_is_named_with_its_first_order(tmp_path: Path) -> None:
    rows = [
        event("c", 9, 7),
        event("b", 3, 7),
        event("a", 3, 1),
        event("d", 1, 7),
        event("e", 0, 1),
    ]
    for row in rows[:3]:
        row["ping_lat"] = row["customer_lat"] = float("nan")
    rows[2]["items_json"], rows[4]["items_json"] = "[", "[1,]"
    file = tmp_path / "events.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=EVENTS_SCHEMA), file)
    with pytest.raises(DatasetError) as refused:
        check_dataset(file)
    assert refused.value.message == (
        f"The dataset {file} is NaN or infinite in customer_lat in 1 rows, the first in order 'a'; "
        "it is not a JSON array in items_json in 2 rows, the first in order 'e'; "
        "it is NaN or infinite in ping_lat in 2 rows, the first in order 'b'"
    )


def test_values_that_no_event_shows_are_not_judged(table: pa.Table, tmp_path: Path) -> None:
    for type_id, column, value in (
        *((2, "ping_lat", float("nan")), (7, "customer_lat", float("inf"))),
        *((2, "items_json", "no JSON"), (1, "route_json", "[NaN]")),
    ):
        table = in_events_of(type_id, column, value)(table)
    file = tmp_path / "events.parquet"
    pq.write_table(table, file)
    assert check_dataset(file).facts.orders > 0


def test_text_that_only_looks_like_broken_json_is_accepted(tmp_path: Path) -> None:
    rows = [event(order, 0, 1) for order in "abcd"]
    rows[0]["items_json"] = (
        '[{"qty": 1, "price": 1, "name": "Nan Bread, nan, [inf]", "note": "x,]", "n": 1e400}]'
    )
    rows[1]["items_json"] = '["[NaN", ": -Infinity", ",}"]'
    assert facts_of(tmp_path, rows).orders == 4


def test_a_story_that_the_generator_did_not_write_is_refused(tmp_path: Path) -> None:
    for story in (
        "no JSON",
        "[]",
        '{"seed": 1, "scale": NaN, "first_day": 0, "utc_offset_hours": {}}',
        '{"seed": 1, "scale": 1, "first_day": 0, "utc_offset_hours": {"1": 99}}',
        '{"seed": 1}',
        '{"seed": "x", "scale": 1, "first_day": 0}',
    ):
        with pytest.raises(DatasetError, match=r"metadata caspers\.story of .* is not what"):
            facts_of(tmp_path, [event("a", 0, 1)], story=story)


@pytest.mark.parametrize(
    "metadata", [{"cycle_seconds": str(10**15)}, {"epoch": str(-(10**15))}, {"epoch": str(10**12)}]
)
def test_a_cycle_outside_the_calendar_is_refused(tmp_path: Path, metadata: dict[str, str]) -> None:
    with pytest.raises(DatasetError, match="must lie in the years 1970 to 9999"):
        facts_of(tmp_path, [event("a", 0, 1)], **metadata)


def test_the_first_hours_of_1970_have_local_hours_too(tmp_path: Path) -> None:
    story = {"seed": 1, "scale": 1, "first_day": 0, "utc_offset_hours": {"1": -8}}
    row = {**event("a", 0, 1), "ts_seconds": 1_800}
    (at,) = facts_of(tmp_path, [row], story=json.dumps(story), epoch="0").locations
    assert at.hourly[16] == 1


def test_a_file_cut_short_is_refused(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "events.parquet"
    file.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DatasetError, match="can't be read"):
        check_dataset(file)


def test_damage_inside_the_file_is_refused(path: Path, tmp_path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[2_000:20_000] = b"\xff" * 18_000
    file = tmp_path / "events.parquet"
    file.write_bytes(content)
    with pytest.raises(DatasetError, match="can't be replayed: Failed to read file"):
        check_dataset(file)


def test_a_null_basket_is_an_absent_optional_value(table: pa.Table, tmp_path: Path) -> None:
    file = tmp_path / "events.parquet"
    pq.write_table(with_column("items_json", first_as(None))(table), file)
    assert check_dataset(file).facts.orders > 0
