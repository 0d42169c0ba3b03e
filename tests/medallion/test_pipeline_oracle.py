"""The whole pipeline against an independent recomputation from the dataset's parquet."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from caspers_lib.domain import GHOST_KITCHEN
from caspers_lib.medallion.bronze import bronze_events
from caspers_lib.medallion.gold import aggregate
from caspers_lib.medallion.lifecycle import silver_order_lifecycle
from caspers_lib.medallion.quality import accepted_events
from caspers_lib.medallion.reconciliation import reconciliation
from caspers_lib.medallion.registration import table_names
from caspers_lib.medallion.silver import silver_order_items, unique_events
from caspers_lib.replay.chaos import NO_CHAOS, Chaos
from caspers_lib.replay.generator import generate_dataset
from tests.medallion.business import HOUR, START, Business, under
from tests.oracle import COLUMNS, differences, rows_of

pytestmark = pytest.mark.spark

# Everything that can go wrong, often.
CHAOS = Chaos(
    late=0.06,
    out_of_order=0.05,
    duplicate=0.06,
    dropped=0.02,
    corrupt_json=0.03,
    unknown_event_type=0.02,
    new_field=0.03,
    wrong_type=0.04,
    clock_skew=0.02,
    seed=11,
    late_minutes=600,
    duplicate_minutes=240,
)


@pytest.fixture
def make_business(spark: Any, schema: str, tmp_path: Path) -> Iterator[Callable[..., Business]]:
    def make(*, days: int, scale: float, start_day: int, chaos: Chaos = NO_CHAOS) -> Business:
        dataset = generate_dataset(tmp_path / "dataset", days=days, scale=scale)
        return Business(spark, schema, tmp_path, dataset, days, start_day, chaos)

    yield make


def test_after_every_update_each_layer_is_up_to_date_and_equals_the_oracle(
    make_business: Callable[..., Business],
) -> None:
    business = make_business(days=3, scale=0.05, start_day=2)
    # The last tick crosses the dataset's end and plays most of its second loop.
    for hours in (0, 60):
        now = START + hours * HOUR
        assert business.tick(now) > 0, f"no events after {hours} hours"
        business.update()
        assert business.faults(now) == {}, f"after {hours} hours"
    in_loop_1 = [key for (key,) in business.rows("gold_order_header", "order_id") if "-L1" in key]
    assert in_loop_1
    assert business.table("quarantined_events").count() == 0
    for table, columns in COLUMNS.items():
        assert dict(business.table(table).dtypes) == columns

    before = {table: business.rows(table) for table in table_names()}
    assert business.tick(now) == 0
    done = business.update()
    assert set(done.values()) <= {"nothing new", "0 new events", "0 days"}
    after = {table: business.rows(table) for table in table_names()}
    changed = {table: differences(before[table], after[table]) for table in table_names()}
    assert not any(changed.values()), changed

    assert set(business.update(full_refresh=True).values()) == {"computed whole: full refresh"}
    assert business.faults(now) == {}, "after a full refresh"
    assert in_batch(business, now) == {}


def in_batch(business: Business, now: float) -> dict[str, list[str]]:
    """What differs from the oracle when the same functions are given all files at once."""
    bronze = bronze_events(business.spark, str(business.events), stream=False)
    accepted = accepted_events(bronze)
    items = silver_order_items(unique_events(accepted)).cache()
    frames = {
        "silver_order_items": items,
        "silver_order_lifecycle": silver_order_lifecycle(accepted),
    }
    for table in GHOST_KITCHEN.gold:
        if table.source == "line_items":
            frames[table.name] = aggregate(items, table)
    wanted = business.expected(now).tables
    found = {name: differences(wanted[name], rows_of(frame)) for name, frame in frames.items()}
    return {name: faults for name, faults in found.items() if faults}


@pytest.fixture
def abroad(spark: Any) -> Iterator[None]:
    settings = {
        "spark.sql.session.timeZone": "America/Los_Angeles",
        "spark.sql.ansi.enabled": "false",
    }
    with under(spark, settings):
        yield


@pytest.mark.usefixtures("abroad")
def test_twenty_small_updates_of_a_dirty_stream_with_a_crash_equal_the_oracle(
    make_business: Callable[..., Business],
) -> None:
    business = make_business(days=3, scale=0.03, start_day=1, chaos=CHAOS)
    for number in range(20):
        now = START + number * 1.5 * HOUR
        business.tick(now)
        if number == 5:
            crash(business, at="lifecycle and gold")
        elif number == 11:
            crash(business, at=f"{GHOST_KITCHEN.bronze} has COMPLETED")
        elif number in (0, 6, 13, 19):
            business.update()
        else:
            business.stream()
        if number in (0, 13):
            assert business.faults(now) == {}, f"after {number} updates"
    assert business.faults(now) == {}
    assert_quarantine_is_what_the_manifest_says(business, now)
    assert_every_row_is_accounted_for(business)


def crash(business: Business, *, at: str) -> None:
    """An update that ends in the middle: what comes next is never done."""

    def on_event(message: str) -> None:
        if at in message:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        business.update(on_event=on_event)


def assert_quarantine_is_what_the_manifest_says(business: Business, now: float) -> None:
    """Event by event: the same lines are set aside, each for what chaos did to it."""
    business.tick(START, clean=True)
    business.tick(now, clean=True)
    lines = {
        json.loads(line)["event_id"]: line
        for path in (business.folder / "clean" / "events").glob("*.json")
        for line in path.read_text(encoding="utf-8").splitlines()
    }
    until = business.played(now).until
    wanted: Counter[tuple[str, str]] = Counter()
    for path in (business.folder / "misc" / "chaos").glob("*.json"):
        for touched in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            rule = RULES.get(touched["kind"])
            if rule is None or touched["deliveries"][0] > until:
                continue
            named = touched["event_id"]
            if touched["kind"] == "corrupt_json":
                line = lines[named]
                named = line[: 1 + (len(line) - 1) * touched["detail"]["kept_permille"] // 1000]
            elif touched["kind"] == "wrong_type" and touched["detail"]["field"] == "sequence":
                rule = "field_types"
            wanted[named, rule] += 1
    found: Counter[tuple[str, str]] = Counter()
    for event_id, raw, reasons in business.rows("quarantined_events", "event_id", "raw", "reasons"):
        found[event_id or raw, reasons[0]] += 1
    assert wanted
    assert found == wanted


RULES = {
    "corrupt_json": "json_readable",
    "unknown_event_type": "known_event_type",
    "wrong_type": "body_valid",
}


def assert_every_row_is_accounted_for(business: Business) -> None:
    rows = reconciliation(
        business.table("all_events"), business.table("quarantined_events")
    ).collect()
    for row in rows:
        assert row.rows_in == row.rows_out + row.rows_quarantined + row.rows_dropped, row
    total: Counter[str] = Counter()
    for row in rows:
        total.update(row.by_rule or {})
    assert total["duplicate_event"] > 0
    assert total["no_new_field"] > 0
    assert total["no_new_body_field"] > 0


@pytest.mark.full
def test_the_full_dataset_equals_the_oracle_over_a_loops_end(
    make_business: Callable[..., Business],
) -> None:
    business = make_business(days=90, scale=1.0, start_day=70)
    for virtual_days in (0, 25):
        now = START + virtual_days * 24 * HOUR
        assert business.tick(now) > 0
        business.update()
        assert business.faults(now) == {}, f"after {virtual_days} virtual days"
