"""A window's events in their three forms, in batches."""

import json
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from caspers_lib.domain import GHOST_KITCHEN
from caspers_lib.errors import DatasetError
from caspers_lib.replay.chaos import Chaos
from caspers_lib.replay.dataset import EventsFile
from caspers_lib.replay.event_batches import event_batches
from caspers_lib.replay.form import Form
from caspers_lib.replay.window import Window

EPOCH = GHOST_KITCHEN.epoch
DAY = 86_400
FORMS: tuple[Form, ...] = ("lines", "named_lines", "columns")

Row = dict[str, Any]


def rows(dataset: EventsFile, window: Window, form: Form, **options: Any) -> list[Row]:
    found = event_batches(dataset, window, 0, form=form, **options)
    return [row for batch in found for row in batch.to_pylist()]


def test_the_three_forms_hold_the_same_events(small: EventsFile) -> None:
    window = Window(None, float(small.last_ts + small.cycle_seconds))
    lines, named, columns = (rows(small, window, form) for form in FORMS)
    assert len(columns) > 900
    assert [json.loads(row["line"]) for row in lines] == columns
    assert [row["line"] for row in named] == [row["line"] for row in lines]
    assert [row["name"] for row in named] == [event["event_id"] for event in columns]


@pytest.mark.parametrize("form", FORMS)
def test_windows_in_a_row_hold_what_one_window_holds(form: Form, small: EventsFile) -> None:
    ends = [small.first_ts - 5.0, *(small.first_ts + 0.4 * n * DAY for n in range(12))]
    cut = rows(small, Window(None, ends[0]), form)
    for after, until in pairwise(ends):
        cut += rows(small, Window(after, until), form)
    assert cut == rows(small, Window(None, ends[-1]), form)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("chaos", [Chaos(), Chaos(duplicate=0.2)], ids=["clean", "chaos"])
def test_a_window_in_which_nothing_happens_is_empty(
    form: Form, chaos: Chaos, small: EventsFile
) -> None:
    first = float(small.first_ts)
    for window in (
        Window(None, first - 1),
        Window(first, first),
        Window(first + 5, first + 2),
        Window(0.0, 10.0),
    ):
        assert rows(small, window, form, chaos=chaos) == []


@pytest.mark.parametrize("form", FORMS)
def test_a_bad_row_far_behind_good_ones_is_refused_with_its_cause(
    form: Form,
    tmp_path: Path,
    event_row: Callable[..., Row],
    write_rows: Callable[..., EventsFile],
) -> None:
    good = [event_row(ts_seconds=EPOCH + n, order_id=str(n)) for n in range(45_000)]
    bad = event_row(event_type_id=1, ts_seconds=EPOCH + 50_000, order_id="last", items_json="[")
    dataset = write_rows(tmp_path / "events.parquet", [*good, bad])
    received = 0
    with pytest.raises(DatasetError, match="order 'last' has a text in items_json") as raised:
        for batch in event_batches(dataset, Window(None, EPOCH + DAY), 0, form=form):
            received += batch.num_rows
    assert raised.value.__cause__ is not None
    assert rows(dataset, Window(None, EPOCH + 49_999), form)[-1]
    assert received <= len(good)


def test_the_events_need_neither_spark_nor_pandas() -> None:
    program = (
        "import sys; import caspers_lib.replay.event_batches, caspers_lib.replay.chaos_manifest, "
        "caspers_lib.replay.event_counts; "
        "print([n for n in ('pyspark', 'pandas', 'duckdb') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
