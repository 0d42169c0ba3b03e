"""The Live page's pure parts, and how readings are shared."""

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from threading import Event, Thread
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from caspers_lib.console.databases import ConsoleDatabase
from caspers_lib.console.live_drawing import drawing_of, streets_path
from caspers_lib.console.live_orders import STAGES, MinuteSeries
from caspers_lib.console.live_reading import LiveReader
from caspers_lib.console.live_tables import SyncedTable, TableLine, table_lines
from caspers_lib.console.live_time import LONGEST_SECONDS, LONGEST_WAY, Playhead, advanced
from caspers_lib.console.source import TableStatus
from caspers_lib.domain import GHOST_KITCHEN
from caspers_lib.domain.tables import lifecycle_table
from caspers_lib.lakebase import agent_tables, order_tables

NOON = datetime(2024, 3, 11, 12, 0, tzinfo=UTC)
KITCHEN = (37.77, -122.42)
places = st.tuples(st.floats(37.6, 37.9), st.floats(-122.6, -122.2))


@given(st.lists(places, min_size=1, max_size=60))
def test_a_drawing_holds_nearly_all_places_with_the_kitchen_in_its_middle(found: Any) -> None:
    drawing = drawing_of(KITCHEN, found)
    assert drawing.point(KITCHEN) == (0, 0)
    outside = [p for p in found if max(map(abs, drawing.point(p))) > 100]
    assert len(outside) <= len(found) * 0.02


def test_north_is_up_east_is_right_and_the_date_line_is_no_edge() -> None:
    drawing = drawing_of((0.0, 179.99), [])
    x, y = drawing.point((0.001, -179.99))
    assert 0 < x < 400
    assert y < 0


@given(st.lists(st.lists(st.sampled_from([(37.7, -122.4), (37.71, -122.4), (37.71, -122.41)]))))
def test_each_street_is_drawn_once(routes: Any) -> None:
    pieces = {frozenset(pair) for route in routes for pair in pairwise(route)}
    assert streets_path(drawing_of(KITCHEN, []), routes).count("L") == len(pieces)


def test_a_path_needs_two_places() -> None:
    drawing = drawing_of(KITCHEN, [])
    assert drawing.path([KITCHEN]) == ""
    assert re.fullmatch(r"M0 0L[-\d.]+ [-\d.]+", drawing.path([KITCHEN, (37.771, -122.42)]))


def test_stages_are_of_columns_that_the_lifecycle_has() -> None:
    columns = {column.name for column in lifecycle_table(GHOST_KITCHEN).columns}
    assert {column for stage in STAGES for column in stage.columns} <= columns


def test_the_smooth_series_is_the_mean_of_the_minutes_before() -> None:
    series = MinuteSeries(0, (3, 0, 3, 6))
    assert series.smooth(2) == (3, 1.5, 1.5, 4.5)
    assert series.peak == 6
    assert MinuteSeries(0, ()).smooth() == ()


def test_time_is_played_evenly_until_the_next_batch_is_due() -> None:
    first = advanced(None, NOON, 100)
    assert first.at(100) == NOON
    later = NOON + timedelta(minutes=10)
    head = advanced(first, later, 110)
    assert head.at(110) == NOON
    assert head.at(115) == NOON + timedelta(minutes=5)
    assert head.at(120) == head.at(1000) == later
    assert advanced(head, later, 117) == head


def test_a_seek_is_shown_at_once() -> None:
    head = advanced(None, NOON, 0)
    for target in (NOON - timedelta(minutes=1), NOON + LONGEST_WAY):
        assert advanced(head, target, 10).at(10) == target


@given(st.lists(st.tuples(st.floats(0, 60), st.integers(1, 60)), min_size=1))
def test_while_time_only_goes_on_what_is_shown_never_goes_back(batches: Any) -> None:
    now, newest = 0.0, NOON
    head: Playhead | None = None
    shown = NOON
    for seconds, minutes in batches:
        now, newest = now + seconds, newest + timedelta(minutes=minutes)
        head = advanced(head, newest, now)
        assert head.seconds <= LONGEST_SECONDS
        for moment in (now, now + 1):
            at = head.at(moment)
            assert shown <= at <= newest
            shown = min(at, head.at(now))


def test_tables_of_both_sides_are_one_list() -> None:
    made = TableStatus("lakeflow.a", 1, 2.0), TableStatus("lakeflow.b", 3)
    synced = SyncedTable("lakeflow.b", 3, 9.0), SyncedTable("simulator.c", None)
    assert table_lines(made, synced) == (
        TableLine("lakeflow.a", made[0], None),
        TableLine("lakeflow.b", made[1], synced[0]),
        TableLine("simulator.c", None, synced[1]),
    )


def test_a_reading_is_shared_for_a_second_and_a_slow_one_holds_nobody_up() -> None:
    now, gate, asked = [0.0], Event(), Event()
    gate.set()

    def locate() -> None:
        asked.set()
        assert gate.wait(30)

    database = ConsoleDatabase("caspers", locate)
    tables = (*agent_tables(), *order_tables())
    reader = LiveReader(database, database, tables, clock=lambda: now[0])
    first = reader.read()
    assert reader.read() is first

    now[0] = 2.0
    gate.clear()
    asked.clear()
    slow = Thread(target=reader.read)
    slow.start()
    assert asked.wait(30)
    assert reader.read() is first
    gate.set()
    slow.join(30)
    assert reader.read() is not first

    known = reader.read()
    reader.forget()
    assert reader.read() is not known
