"""No setting of the session changes a row: the same events under many of them."""

import json
from typing import Any

import pytest

from caspers_lib.agents.timings import deliveries
from caspers_lib.domain import GHOST_KITCHEN, Domain, domain_tables
from caspers_lib.medallion.bronze import events_of_lines
from caspers_lib.medallion.gold import aggregate
from caspers_lib.medallion.lifecycle import silver_order_lifecycle
from caspers_lib.medallion.quality import accepted_events, quarantined_events
from caspers_lib.medallion.silver import silver_order_items
from caspers_lib.testing import ITEM, event
from caspers_lib.testing import order_created as created
from tests.medallion.business import under
from tests.oracle import rows_of

pytestmark = pytest.mark.spark

ZONES = ("America/Los_Angeles", "Asia/Kolkata", "Pacific/Chatham", "-11:30")
SETTINGS: dict[str, dict[str, str]] = {
    **{zone: {"spark.sql.session.timeZone": zone} for zone in ZONES},
    "no ANSI": {"spark.sql.ansi.enabled": "false"},
    "everything else": {
        "spark.sql.session.timeZone": "Asia/Kolkata",
        "spark.sql.caseSensitive": "true",
        "spark.sql.timestampType": "TIMESTAMP_NTZ",
        "spark.sql.legacy.timeParserPolicy": "LEGACY",
        "spark.sql.storeAssignmentPolicy": "STRICT",
        "spark.sql.decimalOperations.allowPrecisionLoss": "false",
        "spark.sql.mapKeyDedupPolicy": "LAST_WIN",
        "spark.sql.legacy.sizeOfNull": "true",
        "spark.sql.legacy.json.allowEmptyString.enabled": "true",
        "spark.sql.codegen.wholeStage": "true",
    },
}
# Around midnight, the hours that zones leave out or have twice, a leap day, and the ends of time.
TIMES = [
    "2024-03-10 23:59:59.999", "2024-03-11 00:00:00.000", "2024-03-10 02:30:00.000",
    "2024-11-03 01:30:00", "2024-02-29 12:29:59.999999", "1900-01-01 00:00:00.000",
    "2261-12-31 23:59:59.999", "1969-12-31 23:59:59.5", "2024-03-11T00:00:00", "yesterday",
]  # fmt: skip
LINES = [
    json.dumps(line)
    for number, ts in enumerate(TIMES)
    for line in (
        created(f"c{number}", ITEM, ITEM | {"price": 0.1, "qty": 3}, order_id=f"O{number}", ts=ts),
        event(f"d{number}", event_type="delivered", order_id=f"O{number}", ts=TIMES[number - 1]),
        event(f"k{number}", order_id=f"O{number}", ts=ts, location_id=number, Sequence=1),
    )
] + ['{"a":1}{"a":2}', "not json", json.dumps(event("", loyalty=3))]


def tables(spark: Any, domain: Domain = GHOST_KITCHEN) -> dict[str, tuple[Any, Any]]:
    """Types and rows of every table that is made of the lines."""
    bronze = events_of_lines(spark.createDataFrame([(t,) for t in LINES], "value STRING"), "'x'")
    accepted = accepted_events(bronze)
    sources = {
        "line_items": silver_order_items(accepted),
        "lifecycle": silver_order_lifecycle(accepted),
    }
    frames = {
        "quarantine": quarantined_events(bronze).drop("ingest_ts"),
        "deliveries": deliveries(accepted, domain),
        **sources,
        **{t.name: aggregate(sources[t.source], t) for t in domain.gold},
    }
    return {
        name: (frame.dtypes, sorted(map(repr, rows_of(frame)))) for name, frame in frames.items()
    }


@pytest.fixture(scope="module")
def plain(spark: Any) -> dict[str, tuple[Any, Any]]:
    return tables(spark)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_no_setting_of_the_session_changes_a_row(
    spark: Any, plain: dict[str, tuple[Any, Any]], settings: dict[str, str]
) -> None:
    assert len(plain["line_items"][1]) == 16
    with under(spark, settings):
        found = tables(spark)
    assert {name: table for name, table in found.items() if table != plain[name]} == {}


def test_no_setting_changes_the_types_of_a_table(spark: Any, schema: str) -> None:
    with under(spark, SETTINGS["everything else"]):
        for table in domain_tables(GHOST_KITCHEN):
            spark.sql(f"CREATE TABLE {schema}.{table.name} ({table.ddl}) USING delta")
    for table in domain_tables(GHOST_KITCHEN):
        types = {name: kind.upper() for name, kind in spark.table(f"{schema}.{table.name}").dtypes}
        assert types == {c.name: c.type for c in table.columns}
