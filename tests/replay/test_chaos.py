"""Chaos against a plain Python account of the same decisions, and its manifest."""

import hashlib
import json
import math
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caspers_lib.domain import GHOST_KITCHEN
from caspers_lib.errors import SettingsError
from caspers_lib.replay import event_batches as batches_module
from caspers_lib.replay.chaos import NO_CHAOS, Chaos
from caspers_lib.replay.chaos_manifest import manifest_batches
from caspers_lib.replay.dataset import EventsFile
from caspers_lib.replay.event import json_text
from caspers_lib.replay.event_batches import event_batches
from caspers_lib.replay.form import Form, event_arrow_schema
from caspers_lib.replay.mapping import events_sql
from caspers_lib.replay.window import LoopSlice, Window
from tests.replay.event_account import (
    DAY,
    EPOCH,
    Row,
    line_of,
    plain_row_sets,
    played,
    reference_event,
)

KINDS = (
    "late",
    "out_of_order",
    "duplicate",
    "dropped",
    "corrupt_json",
    "unknown_event_type",
    "new_field",
    "wrong_type",
    "clock_skew",
)
EVERY_KIND = Chaos(**dict.fromkeys(KINDS, 0.08), seed=11)  # type: ignore[arg-type]
FORMS: tuple[Form, ...] = ("lines", "named_lines", "columns")
WriteRows = Callable[..., EventsFile]


@dataclass(frozen=True)
class Happening:
    """An event, when it happens, and what goes wrong with it."""

    event: Row
    virtual: int
    order: str
    kind: str | None
    amount: int
    skewed: Row

    def delays(self, chaos: Chaos) -> list[int]:
        return {
            "late": [60 + self.amount % (60 * chaos.late_minutes - 59)],
            "out_of_order": [1 + self.amount % chaos.out_of_order_seconds],
            "duplicate": [0, 1 + self.amount % (60 * chaos.duplicate_minutes)],
            "dropped": [],
        }.get(self.kind or "", [0])

    def outside(self, form: Form) -> bool:
        return form != "columns" and self.amount % 2 == 0

    def touched(self, form: Form) -> Row:
        """The columns, or `line`, as they are delivered."""
        event = dict(self.skewed if self.kind == "clock_skew" else self.event)
        if self.kind == "unknown_event_type":
            event["event_type"] = "unknown_" + event["event_type"]
        if self.kind == "wrong_type":
            field = "sequence" if self.outside(form) else "body"
            event[field] = str(event[field]) if field == "sequence" else json_text(event["body"])
        if self.kind == "new_field":
            if self.outside(form):
                event["new_field"] = "added"
            else:
                comma = "" if event["body"] == "{}" else ","
                event["body"] = event["body"][:-1] + comma + '"new_field":"added"}'
        if form == "columns":
            return {**event, "body": self.cut(event["body"])}
        return {"line": self.cut(line_of(event)[:-1]) + "\n"}

    def cut(self, text: str) -> str:
        if self.kind != "corrupt_json":
            return text
        return text[: 1 + (len(text) - 1) * (self.amount % 1000) // 1000]

    def record(self, chaos: Chaos, form: Form) -> Row:
        delays = self.delays(chaos)
        skew = self.amount % (2 * chaos.clock_skew_seconds) - chaos.clock_skew_seconds
        delay = {"delay_seconds": delays[-1]} if delays else {}
        details = {
            "late": delay,
            "out_of_order": delay,
            "duplicate": delay,
            "dropped": {},
            "corrupt_json": {
                "text": "body" if form == "columns" else "line",
                "kept_permille": self.amount % 1000,
            },
            "unknown_event_type": {"event_type": "unknown_" + self.event["event_type"]},
            "new_field": {
                "field": "new_field",
                "in": "envelope" if self.outside(form) else "body",
            },
            "wrong_type": {
                "field": "sequence" if self.outside(form) else "body",
                "type": "string",
            },
            "clock_skew": {"skew_seconds": skew + (skew >= 0)},
        }
        return {
            **{name: self.event[name] for name in ("event_id", "order_id", "sequence")},
            "event_type": self.event["event_type"],
            "virtual_time": self.virtual,
            "deliveries": [self.virtual + delay for delay in delays],
            "kind": self.kind,
            "detail": details[self.kind or ""],
        }


def happening(row: Row, loop: int, shift: int, chaos: Chaos) -> Happening:
    event = reference_event(row, loop, shift)
    draw = hashlib.sha1(
        f"{chaos.seed}|{event['event_id']}".encode(), usedforsecurity=False
    ).hexdigest()
    lot, amount, dealt, kind = int(draw[:13], 16), int(draw[13:26], 16), 0.0, None
    for name in KINDS:
        dealt += getattr(chaos, name)
        if kind is None and lot < round(dealt * 16**13):
            kind = name
    skew = amount % (2 * chaos.clock_skew_seconds) - chaos.clock_skew_seconds
    return Happening(
        event=event,
        virtual=row["ts_seconds"] + loop * DAY,
        order=row["order_id"],
        kind=kind,
        amount=amount,
        skewed=reference_event(row, loop, shift + skew + (skew >= 0)),
    )


def inside(window: Window, second: int) -> bool:
    return (window.after is None or second > window.after) and second <= window.until


def expected_deliveries(
    happenings: list[Happening], window: Window, chaos: Chaos, form: Form
) -> list[Row]:
    found = []
    for what in happenings:
        for copy, delay in enumerate(what.delays(chaos)):
            if not inside(window, what.virtual + delay):
                continue
            delivered = what.touched(form)
            if form == "named_lines":
                delivered["name"] = what.event["event_id"] + (f"-{copy}" if copy else "")
            place = (what.virtual + delay, what.virtual, what.order, what.event["sequence"])
            found.append((place, delivered))
    return [delivered for _, delivered in sorted(found, key=lambda pair: pair[0])]


def expected_manifest(
    happenings: list[Happening], window: Window, chaos: Chaos, form: Form
) -> list[Row]:
    return [w.record(chaos, form) for w in happenings if w.kind and inside(window, w.virtual)]


def rows_of(batches: Iterator[pa.RecordBatch]) -> list[Row]:
    return [row for batch in batches for row in batch.to_pylist()]


def lines_of(batches: Iterator[pa.RecordBatch]) -> list[str]:
    return [row["line"] for row in rows_of(batches)]


def windows(*ends: float) -> list[Window]:
    return [Window(None, ends[0]), *(Window(a, b) for a, b in pairwise(ends))]


@st.composite
def chaoses(draw: st.DrawFn) -> Chaos:
    shares = draw(st.lists(st.integers(0, 3), min_size=10, max_size=10).filter(any))
    rates = {kind: share / sum(shares) for kind, share in zip(KINDS, shares, strict=False)}
    return Chaos(
        **rates,  # type: ignore[arg-type]
        seed=draw(st.integers(-5, 2**70)),
        late_minutes=draw(st.integers(1, 3 * 1_440)),
        out_of_order_seconds=draw(st.integers(1, 3_600)),
        duplicate_minutes=draw(st.integers(1, 2 * 1_440)),
        clock_skew_seconds=draw(st.integers(1, 86_400)),
    )


@settings(max_examples=40)
@given(
    plain_row_sets,
    chaoses(),
    st.sampled_from(FORMS),
    st.lists(st.floats(EPOCH - 10, EPOCH + 4 * DAY), min_size=1, max_size=4, unique=True),
    st.integers(0, 10**8),
)
def test_any_cutting_delivers_and_lists_what_the_plain_python_account_says(
    write_rows: WriteRows,
    rows: list[Row],
    chaos: Chaos,
    form: Form,
    ends: list[float],
    shift: int,
) -> None:
    happenings = [happening(row, loop, shift, chaos) for row, loop in played(rows, 5)]
    with tempfile.TemporaryDirectory() as folder:
        dataset = write_rows(Path(folder, "events.parquet"), rows)
        for window in windows(*sorted(ends)):
            found = rows_of(event_batches(dataset, window, shift, form=form, chaos=chaos))
            assert found == expected_deliveries(happenings, window, chaos, form)
            listed = lines_of(manifest_batches(dataset, window, chaos, form=form))
            expected = expected_manifest(happenings, window, chaos, form)
            assert [json.loads(line) for line in listed] == expected
            assert all(line.index("\n") == len(line) - 1 for line in listed)


@pytest.mark.parametrize("form", FORMS)
def test_many_windows_deliver_the_bytes_of_one_over_loops_and_seams(
    form: Form, small: EventsFile
) -> None:
    end = float(small.first_ts + 3 * small.cycle_seconds)
    seams = [small.first_ts + n * small.cycle_seconds + d for n in (0, 1, 2) for d in (-1, 0, 0.5)]
    tails = [small.last_ts + n * small.cycle_seconds + d for n in (0, 1) for d in (-1, 0, 60)]
    ends = sorted({*map(float, (*seams, *tails)), end})
    whole = rows_of(event_batches(small, Window(None, end), 0, form=form, chaos=EVERY_KIND))
    cut = [
        row
        for window in windows(*ends)
        for row in rows_of(event_batches(small, window, 0, form=form, chaos=EVERY_KIND))
    ]
    assert len(whole) > 1_000
    assert cut == whole


def test_a_first_window_leaves_later_deliveries_to_later_windows(small: EventsFile) -> None:
    chaos = Chaos(late=1.0, late_minutes=60)
    (first, *_) = lines_of(event_batches(small, Window(None, small.last_ts), 0))
    until = float(small.first_ts)
    assert lines_of(event_batches(small, Window(None, until), 0, chaos=chaos)) == []
    later = lines_of(event_batches(small, Window(until, until + 3_600), 0, chaos=chaos))
    assert first in later


def test_events_that_nothing_happens_in_still_receive_what_is_late(small: EventsFile) -> None:
    chaos = Chaos(late=1.0, late_minutes=7 * 1_440)
    after_all = small.first_ts - 1.0 + small.cycle_seconds
    assert lines_of(event_batches(small, Window(after_all, after_all + 1), 0))
    delivered = lines_of(
        event_batches(small, Window(after_all, after_all + DAY / 24), 0, chaos=chaos)
    )
    assert any('-L1"' not in line for line in delivered)


def test_a_long_window_is_sorted_part_by_part_and_stays_in_order(
    small: EventsFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    chaos = replace(EVERY_KIND, late_minutes=30)
    window = Window(None, float(small.last_ts + small.cycle_seconds))
    whole = lines_of(event_batches(small, window, 0, chaos=chaos))
    parts: list[Window] = []

    def recorded(*args: Any, **options: Any) -> str:
        parts.append(options["window"])
        return events_sql(*args, **options)

    monkeypatch.setattr(batches_module, "_SORTED_ROWS", 1)
    monkeypatch.setattr(batches_module, "events_sql", recorded)
    assert lines_of(event_batches(small, window, 0, chaos=chaos)) == whole
    assert len(parts) > 20


def test_without_rates_the_query_is_what_it_is_without_chaos(small: EventsFile) -> None:
    def sql(chaos: Chaos) -> str:
        return events_sql(
            small,
            [LoopSlice(0, 0, 1)],
            form="named_lines",
            domain=GHOST_KITCHEN,
            shift=0,
            chaos=chaos,
            window=Window(None, 1.0),
        )

    assert not NO_CHAOS.is_on
    assert NO_CHAOS.max_delay_seconds == 0
    assert sql(Chaos(seed=9, late_minutes=5)) == sql(NO_CHAOS)
    assert sql(Chaos(dropped=0.1)) != sql(NO_CHAOS)
    assert lines_of(manifest_batches(small, Window(None, small.last_ts), NO_CHAOS)) == []


@pytest.mark.parametrize("form", FORMS)
def test_the_manifest_reconciles_clean_and_dirty_events_exactly(
    form: Form, small: EventsFile
) -> None:
    until = float(small.first_ts + 2 * small.cycle_seconds)
    window = Window(None, until)
    records = {
        record["event_id"]: record
        for record in map(
            json.loads, lines_of(manifest_batches(small, window, EVERY_KIND, form=form))
        )
    }
    clean = rows_of(event_batches(small, window, 0, form="columns"))
    dirty = rows_of(event_batches(small, window, 0, form=form, chaos=EVERY_KIND))
    expected: list[Row] = []
    for event in clean:
        record = records.pop(event["event_id"], None)
        deliveries = [until] if record is None else record["deliveries"]
        delivered = rebuilt(event, record, form)
        for copy, arrival in enumerate(deliveries):
            if arrival <= until:
                suffix = f"-{copy}" if copy else ""
                name = {"name": event["event_id"] + suffix} if form == "named_lines" else {}
                expected.append({**delivered, **name})
    assert not records
    assert len(expected) > 900
    assert sorted(map(repr, dirty)) == sorted(map(repr, expected))


def rebuilt(event: Row, record: Row | None, form: Form) -> Row:
    """A delivery from the clean event and what the manifest says of it, and from nothing else."""
    event, kind, detail = dict(event), None, {}
    if record is not None:
        kind, detail = record["kind"], record["detail"]
    if kind == "unknown_event_type":
        event["event_type"] = detail["event_type"]
    if kind == "clock_skew":
        shown = datetime.fromisoformat(event["ts"]) + timedelta(seconds=detail["skew_seconds"])
        event["ts"] = f"{shown:%Y-%m-%d %H:%M:%S}.000"
    if kind == "wrong_type":
        field = detail["field"]
        event[field] = json_text(event[field]) if field == "body" else str(event[field])
    if kind == "new_field":
        if detail["in"] == "envelope":
            event[detail["field"]] = "added"
        else:
            comma = "" if event["body"] == "{}" else ","
            event["body"] = f'{event["body"][:-1]}{comma}"{detail["field"]}":"added"}}'

    def cut(text: str, name: str) -> str:
        if detail.get("text") != name:
            return text
        return text[: 1 + (len(text) - 1) * detail["kept_permille"] // 1000]

    if form == "columns":
        return {**event, "body": cut(event["body"], "body")}
    return {"line": cut(line_of(event)[:-1], "line") + "\n"}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_does_what_it_says(
    kind: str, tmp_path: Path, event_row: Callable[..., Row], write_rows: WriteRows
) -> None:
    rows = [event_row(event_type_id=8, customer_lat=1.5, order_id=f"{n}") for n in range(40)]
    dataset = write_rows(tmp_path / "events.parquet", rows)
    window = Window(None, float(EPOCH + DAY / 2))
    chaos = Chaos(**{kind: 1.0})  # type: ignore[arg-type]
    clean = rows_of(event_batches(dataset, window, 0, form="columns"))
    dirty = rows_of(event_batches(dataset, window, 0, form="columns", chaos=chaos))
    lines = lines_of(event_batches(dataset, window, 0, chaos=chaos))
    assert len(lines) == len(dirty) == {"dropped": 0, "duplicate": 80}.get(kind, 40)
    changed = {
        name
        for before in clean
        for after in dirty
        for name in before
        if before["event_id"] == after["event_id"] and before[name] != after[name]
    }
    assert changed == {
        "corrupt_json": {"body"},
        "unknown_event_type": {"event_type"},
        "new_field": {"body"},
        "wrong_type": {"body"},
        "clock_skew": {"ts"},
    }.get(kind, set())
    if kind == "corrupt_json":
        for text in (*lines, *(event["body"] for event in dirty)):
            with pytest.raises(json.JSONDecodeError):
                json.loads(text)
        assert all(line.strip() for line in lines)
    elif kind == "new_field":
        events = [json.loads(line) for line in lines]
        assert {("new_field" in e, "new_field" in json.loads(e["body"])) for e in events} == {
            (True, False),
            (False, True),
        }
    elif kind == "wrong_type":
        events = [json.loads(line) for line in lines]
        assert {(type(e["sequence"]), type(json.loads(e["body"]))) for e in events} == {
            (str, dict),
            (int, str),
        }
    elif kind == "unknown_event_type":
        names = {event.name for event in GHOST_KITCHEN.event_types}
        assert not names & {event["event_type"] for event in dirty}
    elif kind in ("late", "out_of_order"):
        order = [event["event_id"] for event in clean]
        assert [event["event_id"] for event in dirty] != order


def test_every_delivery_has_a_file_stem_of_its_own(small: EventsFile) -> None:
    window = Window(None, float(small.last_ts + small.cycle_seconds))
    chaos = Chaos(duplicate=0.5)
    found = rows_of(event_batches(small, window, 0, form="named_lines", chaos=chaos))
    names = [row["name"] for row in found]
    assert len(set(names)) == len(names)
    stems = Counter(name.removesuffix("-1") if len(name) == 38 else name for name in names)
    lines = Counter(row["line"] for row in found)
    assert sorted(stems.values()) == sorted(lines.values())
    assert {json.loads(row["line"])["event_id"] for row in found} == set(stems)


def test_the_columns_keep_their_types_whatever_goes_wrong(small: EventsFile) -> None:
    window = Window(None, float(small.last_ts))
    for batch in event_batches(small, window, 0, form="columns", chaos=EVERY_KIND):
        assert batch.schema == event_arrow_schema()


def test_rates_hold_within_sampling_error(small: EventsFile) -> None:
    rates = {kind: 0.01 * number for number, kind in enumerate(KINDS, start=1)}
    chaos = Chaos(**rates, seed=5)  # type: ignore[arg-type]
    window = Window(None, float(small.first_ts + 40 * small.cycle_seconds))
    events = sum(batch.num_rows for batch in event_batches(small, window, 0, form="columns"))
    touched = Counter(
        json.loads(line)["kind"] for line in lines_of(manifest_batches(small, window, chaos))
    )
    assert events > 15_000
    for kind, rate in rates.items():
        error = math.sqrt(events * rate * (1 - rate))
        assert abs(touched[kind] - events * rate) < 4 * error, kind


def test_rates_that_add_up_to_one_leave_no_event_alone(small: EventsFile) -> None:
    chaos = Chaos(**dict.fromkeys(KINDS, 1 / 9))  # type: ignore[arg-type]
    window = Window(None, float(small.last_ts))
    events = rows_of(event_batches(small, window, 0, form="columns"))
    assert len(lines_of(manifest_batches(small, window, chaos))) >= len(events) - 1


def test_the_same_seed_gives_the_same_bytes_and_another_one_other_events(
    small: EventsFile,
) -> None:
    window = Window(None, float(small.last_ts))

    def touched(seed: int) -> tuple[list[str], set[str]]:
        chaos = replace(EVERY_KIND, seed=seed)
        manifest = lines_of(manifest_batches(small, window, chaos))
        lines = lines_of(event_batches(small, window, 0, chaos=chaos))
        return [*manifest, *lines], {json.loads(line)["event_id"] for line in manifest}

    first, again, other = touched(1), touched(1), touched(2)
    assert first == again
    assert len(first[1] ^ other[1]) > 100


def test_the_bounds_are_kept_and_reached(small: EventsFile) -> None:
    chaos = replace(
        EVERY_KIND,
        late_minutes=2,
        out_of_order_seconds=3,
        duplicate_minutes=1,
        clock_skew_seconds=2,
    )
    window = Window(None, float(small.first_ts + 20 * small.cycle_seconds))
    found: dict[str, set[int]] = {}
    for line in lines_of(manifest_batches(small, window, chaos)):
        record = json.loads(line)
        for value in record["detail"].values():
            if isinstance(value, int):
                found.setdefault(record["kind"], set()).add(value)
    assert found["late"] == set(range(60, 121))
    assert found["out_of_order"] == {1, 2, 3}
    assert found["duplicate"] == set(range(1, 61))
    assert found["clock_skew"] == {-2, -1, 1, 2}
    assert chaos.max_delay_seconds == 120


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"late": 1.5}, r"rate late is 1\.5; it must be a number from 0 to 1"),
        ({"dropped": -0.1}, r"rate dropped is -0\.1"),
        ({"duplicate": math.nan}, "rate duplicate is nan"),
        ({"duplicate": math.inf}, "rate duplicate is inf"),
        ({"new_field": True}, "rate new_field is True"),
        ({"new_field": "0.1"}, r"rate new_field is '0\.1'"),
        ({"late": 0.6, "dropped": 0.6}, r"rates add up to 1\.2; .* must be 1 or less"),
        ({"seed": 1.5}, r"seed is 1\.5; it must be a whole number"),
        ({"late_minutes": 0}, "late_minutes is 0; it must be a whole number from 1 to 10080"),
        ({"out_of_order_seconds": 3_601}, "from 1 to 3600"),
        ({"duplicate_minutes": 1.5}, "duplicate_minutes is 1.5"),
        ({"clock_skew_seconds": 86_401}, "from 1 to 86400"),
    ],
)
def test_a_bad_value_is_refused_with_what_is_allowed(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Chaos(**values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lost=0.1", "no chaos kind or bound 'lost'; allowed are late, .*, clock_skew_seconds"),
        ("late", "late is ''; it must be a number from 0 to 1"),
        ("late=often", "late is 'often'; it must be a number from 0 to 1"),
        ("late=2", r"late is 2\.0; it must be a number from 0 to 1"),
        ("late=nan", "late is nan"),
        ("seed=x", "seed is 'x'; it must be a whole number"),
        ("late_minutes=1.5", r"late_minutes is '1\.5'; it must be a whole number"),
        ("late=0.1,late=0.2", "late is given twice"),
        ("0.1", r"no chaos kind or bound '0\.1'"),
    ],
)
def test_a_text_that_is_no_chaos_is_refused(text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as raised:
        Chaos.parse(text)
    assert "late=0.02" in raised.value.hint


def test_a_text_is_read_with_spaces_or_without() -> None:
    chaos = Chaos.parse(" late = 0.02, duplicate=1e-2,seed=-7,late_minutes=30 ")
    assert chaos == Chaos(late=0.02, duplicate=0.01, seed=-7, late_minutes=30)
    assert chaos.text == "late=0.02,duplicate=0.01,seed=-7,late_minutes=30"
    assert Chaos.parse("") == NO_CHAOS
    assert NO_CHAOS.text == ""


@given(chaoses())
def test_the_text_of_a_chaos_gives_it_again(chaos: Chaos) -> None:
    assert Chaos.parse(chaos.text) == chaos


def test_the_account_knows_every_kind() -> None:
    assert tuple(NO_CHAOS.rates) == KINDS
