"""The canonical dataset, made small."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caspers_lib.domain import GHOST_KITCHEN
from caspers_lib.errors import DatasetError, SettingsError
from caspers_lib.replay.dataset import EVENTS_SCHEMA, EventsFile
from caspers_lib.replay.dataset_check import check_dataset
from caspers_lib.replay.dataset_targets import TARGETS
from caspers_lib.replay.generator import generate_dataset
from caspers_lib.replay.generator.dimensions import DIMENSION_SCHEMAS
from caspers_lib.replay.generator.story import kitchen_days, rows_in_file_order

EPOCH = GHOST_KITCHEN.epoch
DAY = 86_400
NAMES = {t.id: t.name for t in GHOST_KITCHEN.event_types}
FILES = sorted([*(f"{name}.parquet" for name in DIMENSION_SCHEMAS), "events.parquet"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three days at a tenth of the size: about 190 orders."""
    path = tmp_path_factory.mktemp("dataset")
    generate_dataset(path, days=3, scale=0.1)
    return path


@pytest.fixture(scope="module")
def rows(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(folder / "events.parquet").to_pylist()
    return found


@pytest.fixture(scope="module")
def orders(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Each order's events in the file's order."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row["order_id"]].append(row)
    return found


def dimension(folder: Path, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(folder / f"{name}.parquet").to_pylist()
    return found


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def value_digest(folder: Path) -> str:
    """A hash of what the files say, whoever wrote the parquet."""
    digest = hashlib.sha256()
    for name in FILES:
        for row in pq.read_table(folder / name).to_pylist():
            digest.update(json.dumps(row, default=str).encode() + b"\n")
    return digest.hexdigest()


# --- the same bytes everywhere ------------------------------------------------------------------


def test_the_same_arguments_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    generate_dataset(tmp_path, days=3, scale=0.1)
    assert digests(tmp_path) == digests(folder)
    assert list(digests(folder)) == FILES


@pytest.mark.parametrize(
    "environment",
    [
        {"TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "1", "LC_ALL": "C"},
        {"TZ": "America/St_Johns", "PYTHONHASHSEED": "77", "LC_ALL": "tr_TR.UTF-8"},
        # As on processors without these instructions; unknown names only warn.
        {"NPY_DISABLE_CPU_FEATURES": "AVX2,FMA3,AVX512F,AVX512_SKX,X86_V3,X86_V4,ASIMDHP"},
    ],
)
def test_time_zone_locale_hash_seed_and_processor_leave_no_trace(
    folder: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    code = (
        "import sys, pathlib; from caspers_lib.replay.generator import generate_dataset; "
        "generate_dataset(pathlib.Path(sys.argv[1]), days=3, scale=0.1)"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env={**os.environ, **environment}, check=True
    )
    assert digests(tmp_path) == digests(folder)


def test_the_values_are_the_ones_that_were_published(folder: Path) -> None:
    # A change here means that every dataset changes: note it in the changelog.
    assert value_digest(folder) == (
        "db0a9a3a21a5be7812e827d0ce3bcbf22eb941973f02003c6bc1191a3993cd2d"
    )


def test_another_seed_gives_another_dataset(folder: Path, tmp_path: Path) -> None:
    generate_dataset(tmp_path, seed=43, days=3, scale=0.1)
    mine, other = digests(folder), digests(tmp_path)
    assert mine.pop("events.parquet") != other.pop("events.parquet")
    assert mine == other, "the catalogue doesn't depend on the seed"
    only_created = [("event_type_id", "=", 1)]
    times, other_times = (
        set(pq.read_table(f / "events.parquet", filters=only_created)["ts_seconds"].to_pylist())
        for f in (folder, tmp_path)
    )
    assert len(times & other_times) < 0.1 * len(times)


def test_a_longer_dataset_begins_with_the_orders_of_a_shorter_one(
    rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    longer = pq.read_table(generate_dataset(tmp_path, days=5, scale=0.1)).to_pylist()
    known = {row["order_id"] for row in rows}
    assert [row for row in longer if row["order_id"] in known] == rows


def test_a_dataset_can_begin_on_a_later_day_of_the_story(
    rows: list[dict[str, Any]], folder: Path, tmp_path: Path
) -> None:
    path = generate_dataset(tmp_path, days=2, first_day=1, scale=0.1)
    later = pq.read_table(path).to_pylist()
    opened = {row["order_id"]: row["ts_seconds"] for row in rows if row["event_type_id"] == 1}
    assert later == [row for row in rows if opened[row["order_id"]] >= EPOCH + DAY]
    found = EventsFile.open(path)
    assert (found.epoch, found.cycle_days) == (EPOCH + DAY, 2)
    listed, before = (dimension(f, "brand_locations") for f in (tmp_path, folder))
    for new, old in zip(listed, before, strict=True):
        end = None if old["end_day"] is None else old["end_day"] - 1
        assert new == {**old, "start_day": old["start_day"] - 1, "end_day": end}


def test_a_large_day_is_made_in_parts_and_comes_out_in_order(tmp_path: Path) -> None:
    tables = []
    days = kitchen_days(42, start=date(2024, 1, 1), first_day=0, days=2, scale=12.0)
    shares = []
    for done, rows in rows_in_file_order(days, EPOCH, GHOST_KITCHEN):
        shares.append(done)
        tables.append(rows)
    assert len(tables) > 6
    assert shares == sorted(shares)
    assert max(rows.num_rows for rows in tables) < 80_000
    table = pq.read_table(generate_dataset(tmp_path, days=2, scale=12.0))
    assert table.equals(pa.concat_tables(tables).cast(table.schema))
    keys = [table[name].to_numpy() for name in ("ts_seconds", "order_id", "sequence")]
    later = [column[1:] > column[:-1] for column in keys]
    same = [column[1:] == column[:-1] for column in keys]
    assert (later[0] | (same[0] & (later[1] | (same[1] & later[2])))).all()
    assert len(set(table["order_id"].to_pylist())) == sum(table["event_type_id"].to_numpy() == 1)


# --- the file ---------------------------------------------------------------------------------


def test_the_events_file_is_sorted_and_says_so(tmp_path: Path) -> None:
    path = generate_dataset(tmp_path, days=2, scale=2.0)
    parquet = pq.ParquetFile(path)
    sizes = [parquet.metadata.row_group(n).num_rows for n in range(parquet.metadata.num_row_groups)]
    assert len(sizes) > 1
    assert sizes[:-1] == [20_000] * (len(sizes) - 1)
    assert 0 < sizes[-1] <= 20_000
    assert parquet.schema_arrow.equals(EVENTS_SCHEMA)
    assert parquet.metadata.row_group(0).column(0).compression == "ZSTD"
    table = parquet.read(["ts_seconds", "order_id", "sequence"])
    keys = list(zip(*(column.to_pylist() for column in table.columns), strict=True))
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)

    events = EventsFile.open(path)
    assert events.is_sorted
    assert (events.epoch, events.cycle_seconds) == (EPOCH, 2 * DAY)


def test_the_start_moves_the_epoch_and_every_event(
    rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    # 2024-01-08 is a Monday as well, so nothing else changes.
    path = generate_dataset(tmp_path, days=3, scale=0.1, start=date(2024, 1, 8))
    moved = pq.read_table(path).to_pylist()
    assert EventsFile.open(path).epoch == EPOCH + 7 * DAY
    assert moved == [{**row, "ts_seconds": row["ts_seconds"] + 7 * DAY} for row in rows]


def test_progress_rises_to_one(tmp_path: Path) -> None:
    seen: list[float] = []
    generate_dataset(tmp_path, days=3, scale=0.01, progress=seen.append)
    assert seen == sorted(seen)
    assert 0 < seen[0] < seen[-1] == 1.0


# --- lives of orders --------------------------------------------------------------------------


def test_every_order_is_complete_and_numbered_in_time_order(
    orders: dict[str, list[dict[str, Any]]],
) -> None:
    once = sorted(t.name for t in GHOST_KITCHEN.event_types if t.name != "driver_ping")
    for events in orders.values():
        assert [e["sequence"] for e in events] == list(range(len(events)))
        assert [e["ts_seconds"] for e in events] == sorted(e["ts_seconds"] for e in events)
        names = [NAMES[e["event_type_id"]] for e in events]
        assert (names[0], names[-1]) == ("order_created", "delivered")
        assert sorted(n for n in names if n != "driver_ping") == once
        assert len({e["location_id"] for e in events}) == 1


def test_an_order_is_cooked_before_it_is_driven(
    orders: dict[str, list[dict[str, Any]]],
) -> None:
    for events in orders.values():
        at = {NAMES[e["event_type_id"]]: e["ts_seconds"] for e in events}
        assert at["order_created"] < at["gk_started"] < at["gk_finished"] < at["gk_ready"]
        assert max(at["gk_ready"], at["driver_arrived"]) < at["driver_picked_up"] < at["delivered"]


def test_drivers_report_every_minute_on_their_route(
    orders: dict[str, list[dict[str, Any]]],
) -> None:
    pinged = 0
    for events in orders.values():
        (left,) = (e for e in events if NAMES[e["event_type_id"]] == "driver_picked_up")
        pings = [e for e in events if NAMES[e["event_type_id"]] == "driver_ping"]
        pinged += len(pings)
        seconds = [e["ts_seconds"] - left["ts_seconds"] for e in pings]
        assert seconds == [60 * (n + 1) for n in range(len(pings))]
        progress = [e["ping_progress"] for e in pings]
        assert progress == sorted(progress)
        assert all(0 < p < 100 for p in progress)
        route = np.asarray(json.loads(left["route_json"]))
        assert events[-1]["customer_lat"] == pytest.approx(route[-1][0], abs=1e-5)
        assert events[-1]["customer_lon"] == pytest.approx(route[-1][1], abs=1e-5)
        for e in pings:
            assert distance_to_line(route, (e["ping_lat"], e["ping_lon"])) < 2e-5
    assert pinged > 3 * len(orders)


def distance_to_line(route: Any, point: tuple[float, float]) -> float:
    """Smallest distance of a point to a polyline, in degrees."""
    start, step = route[:-1], np.diff(route, axis=0)
    part = np.sum((np.asarray(point) - start) * step, axis=1) / np.sum(step * step, axis=1)
    nearest = start + step * np.clip(part, 0, 1)[:, None]
    return float(np.min(np.sqrt(np.sum((nearest - point) ** 2, axis=1))))


def test_columns_are_null_where_they_do_not_apply(rows: list[dict[str, Any]]) -> None:
    filled = {
        "customer_lat": {"order_created", "delivered"},
        "customer_lon": {"order_created", "delivered"},
        "customer_addr": {"order_created"},
        "items_json": {"order_created"},
        "route_json": {"driver_picked_up"},
        "ping_lat": {"driver_ping"},
        "ping_lon": {"driver_ping"},
        "ping_progress": {"driver_ping"},
    }
    for row in rows:
        for column, where in filled.items():
            assert (row[column] is not None) == (NAMES[row["event_type_id"]] in where)


def test_orders_come_in_within_the_cycle_and_only_their_tail_runs_past_it(tmp_path: Path) -> None:
    # One day ends in Chicago's dinner, so that some orders are still on their way.
    path = generate_dataset(tmp_path, days=1)
    table = duckdb.sql(
        f"SELECT max(ts_seconds) FILTER (event_type_id = 1), max(ts_seconds) FROM '{path}'"
    ).fetchall()
    ((last_created, last),) = table
    assert last_created < EPOCH + DAY < last


# --- the catalogue ----------------------------------------------------------------------------


def test_dimensions_refer_to_each_other(folder: Path) -> None:
    tables = {name: dimension(folder, name) for name in DIMENSION_SCHEMAS}
    brands = {b["brand_id"] for b in tables["brands"]}
    menus = {m["id"]: m["brand_id"] for m in tables["menus"]}
    categories = {c["id"]: (c["menu_id"], c["brand_id"]) for c in tables["categories"]}
    locations = {x["location_id"] for x in tables["locations"]}
    assert len(brands) == 24
    assert locations == {1, 2, 3, 4}
    assert set(menus.values()) == brands
    assert all(menus[menu] == brand for menu, brand in categories.values())
    for item in tables["items"]:
        assert categories[item["category_id"]] == (item["menu_id"], item["brand_id"])
        assert 2 < item["price"] < 40
    for listing in tables["brand_locations"]:
        assert listing["brand_id"] in brands
        assert listing["location_id"] in locations
        assert listing["end_day"] is None or listing["start_day"] < listing["end_day"]
    for name, table in tables.items():
        key = next(iter(DIMENSION_SCHEMAS[name].names))
        assert len({row[key] for row in table}) == len(table)
    assert {x["trajectory"] for x in tables["brand_locations"]} >= {"launch", "exit"}


def test_menus_have_ten_to_sixteen_dishes_with_names_of_their_own(folder: Path) -> None:
    items = dimension(folder, "items")
    per_brand = defaultdict(int)
    for item in items:
        per_brand[item["brand_id"]] += 1
    assert all(10 <= count <= 16 for count in per_brand.values())
    assert len({item["name"] for item in items}) == len(items)


def test_baskets_hold_dishes_of_brands_that_sell_there_on_that_day(tmp_path: Path) -> None:
    path = generate_dataset(tmp_path, days=60, scale=0.02)
    items = {i["id"]: i for i in dimension(tmp_path, "items")}
    selling = defaultdict(list)
    for x in dimension(tmp_path, "brand_locations"):
        end = 10**6 if x["end_day"] is None else x["end_day"]
        selling[x["brand_id"], x["location_id"]].append((x["start_day"], end))
    sold_by_newcomers = 0
    for row in pq.read_table(path, filters=[("event_type_id", "=", 1)]).to_pylist():
        day = (row["ts_seconds"] - EPOCH) // DAY
        basket = json.loads(row["items_json"])
        assert 1 <= len(basket) <= 5
        assert len({line["id"] for line in basket}) == len(basket)
        assert len({line["brand_id"] for line in basket}) <= 2
        for line in basket:
            item = items[line["id"]]
            assert list(line) == [
                *("id", "category_id", "menu_id", "brand_id", "name", "price", "qty")
            ]
            assert {k: line[k] for k in ("category_id", "menu_id", "brand_id", "name")} == {
                k: item[k] for k in ("category_id", "menu_id", "brand_id", "name")
            }
            assert line["price"] == float(item["price"])
            assert line["qty"] in (1, 2, 3)
            spans = selling[line["brand_id"], row["location_id"]]
            assert any(start <= day <= end for start, end in spans)
            sold_by_newcomers += spans[0][0] > 0
    assert sold_by_newcomers


# --- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"days": 0}, "days is 0; it must be 1 or more"),
        ({"scale": 0.0}, "scale is 0.0; it must be a number above 0, at most 100"),
        ({"scale": 1e9}, "it must be a number above 0, at most 100"),
        ({"days": 10_000_000}, "days is 10000000, .* must be at most 3,660"),
        ({"start": date(1969, 12, 31)}, "start is 1969-12-31; .* in the years 1970 to 9999"),
        ({"start": date(9999, 12, 1)}, "start is 9999-12-01; .* in the years 1970 to 9999"),
        ({"scale": float("nan")}, "scale is nan"),
        ({"scale": float("inf")}, "scale is inf"),
        ({"seed": -1}, "seed is -1; it must be 0 or more"),
        ({"first_day": -1}, "first_day is -1; it must be 0 or more"),
        ({"days": 1, "scale": 1e-9}, "over 1 days that is not a single order"),
    ],
)
def test_a_bad_value_is_refused_by_name_and_leaves_nothing(
    arguments: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=message):
        generate_dataset(tmp_path, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_domain_without_deliveries_is_refused(tmp_path: Path) -> None:
    clinic = replace(GHOST_KITCHEN, name="clinic", event_types=GHOST_KITCHEN.event_types[:6])
    with pytest.raises(SettingsError, match="clinic has no event type delivered, driver_ping"):
        generate_dataset(tmp_path, domain=clinic)


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(DatasetError, match=r"taken can't be written: File exists"):
        generate_dataset(tmp_path / "taken", days=1, scale=0.01)
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_failure_half_way_leaves_the_earlier_dataset_whole(tmp_path: Path) -> None:
    generate_dataset(tmp_path, days=1, scale=0.02)
    before = digests(tmp_path)

    def stop(share: float) -> None:
        if share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_dataset(tmp_path, seed=7, days=3, scale=0.02, progress=stop)
    assert digests(tmp_path) == before


def test_what_a_killed_generation_leaves_behind_is_removed_by_the_next(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, signal, sys; "
        "from caspers_lib.replay.generator import generate_dataset; "
        "generate_dataset(pathlib.Path(sys.argv[1]), days=2, scale=0.01, "
        "progress=lambda _: os.kill(os.getpid(), signal.SIGKILL))"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    left = sorted(path.name for path in tmp_path.iterdir())
    assert len(left) == len(FILES)
    assert all(name.startswith(".") and name.endswith(".tmp") for name in left)
    others = [".events.parquet.mine.tmp", ".events.parquet.tmp", ".other.parquet.99.tmp"]
    others += [f".events.parquet.{os.getppid()}.tmp", "events.parquet.99.tmp"]
    for name in others:
        (tmp_path / name).write_text("not a leftover")
    generate_dataset(tmp_path, days=1, scale=0.01)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*FILES, *others])


def test_events_get_their_name_after_the_dimensions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renamed: list[str] = []
    rename = Path.replace

    def record(self: Path, target: Path) -> Path:
        assert self.name.startswith(".")
        assert self.parent == target.parent
        renamed.append(target.name)
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", record)
    generate_dataset(tmp_path, days=1, scale=0.01)
    assert sorted(renamed) == FILES
    assert renamed[-1] == "events.parquet"


# --- the whole dataset ------------------------------------------------------------------------


@pytest.mark.full
@pytest.mark.parametrize(("seed", "scale"), [(42, 1.0), (7, 1.0), (5, 0.1), (9, 2.5)])
def test_the_whole_dataset_meets_every_target(seed: int, scale: float, tmp_path: Path) -> None:
    path = generate_dataset(tmp_path, seed=seed, scale=scale)
    report = check_dataset(path)
    assert {verdict.name: verdict.met for verdict in report.verdicts} == {
        target.name: True for target in TARGETS
    }
    assert report.facts.delivered == report.facts.orders
    assert report.facts.last_ts > EPOCH + 90 * DAY
    assert path.stat().st_size < 25_000_000 * scale + 1_000_000


@pytest.mark.full
def test_late_orders_follow_load(tmp_path: Path) -> None:
    path = generate_dataset(tmp_path)
    ((correlation, late_alone, late_queued),) = duckdb.sql(
        f"""
        SELECT corr(wait, minutes), avg((minutes > 60)::INT) FILTER (wait < 10),
               avg((minutes > 60)::INT) FILTER (wait > 20)
        FROM (
          SELECT (min(ts_seconds) FILTER (event_type_id = 2) - min(ts_seconds)) / 60 AS wait,
                 (max(ts_seconds) - min(ts_seconds)) / 60 AS minutes
          FROM '{path}' GROUP BY order_id
        )
        """
    ).fetchall()
    assert correlation > 0.75
    assert late_alone < 0.005
    assert late_queued > 0.3
