"""sdp-meta's own onboarding and its specs, run by the real declarative engine on Delta.

These tests run in an environment of their own (`make test-dlt-meta`).
"""

import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from databricks.labs.sdp_meta import dataflow_pipeline
from databricks.labs.sdp_meta.dataflow_pipeline import DataflowPipeline
from databricks.labs.sdp_meta.dataflow_spec import DataflowSpecUtils
from databricks.labs.sdp_meta.onboard_dataflowspec import OnboardDataflowspec
from pyspark.pipelines.graph_element_registry import get_active_graph_element_registry

from caspers_lib.domain import GHOST_KITCHEN, Rule
from caspers_lib.domain.rules import RESCUED
from caspers_lib.domain.tables import (
    aggregate_table,
    bronze_table,
    lifecycle_table,
    line_items_table,
    quarantine_table,
)
from caspers_lib.errors import PipelineError
from caspers_lib.medallion.bronze import bronze_events
from caspers_lib.medallion.dlt_meta import (
    CORRUPT,
    DltMetaSettings,
    onboarding_arguments,
    pipeline_configuration,
    write_dlt_meta,
)
from caspers_lib.medallion.gold import aggregate
from caspers_lib.medallion.lifecycle import silver_order_lifecycle
from caspers_lib.medallion.quality import accepted_events, quarantined_events
from caspers_lib.medallion.silver import silver_order_items, unique_events
from caspers_lib.replay import EventsFile, Replay, StateStore, VolumeSink, sample_dataset
from caspers_lib.runtime.pipeline import run_update
from tests.dlt_meta.stand_ins import Engine, Session

pytestmark = pytest.mark.spark

EXAMPLE = Path(__file__).parents[2] / "examples" / "dlt_meta"
NOW = 1_750_000_000.0
EVENTS = 2_000
HOSTILE = "o'\"\\\n\u2028<script>alert(1)</script>'); DROP TABLE all_events; -- é😀"
CLOCK = {"ingest_ts"}

# Its own level is INFO: whole specs, over and over.
for name in ("databricks.labs.sdp_meta", "sdp-meta"):
    logging.getLogger(name).setLevel(logging.WARNING)


def order(event_id: str, *items: dict[str, Any], **fields: object) -> str:
    body = {"items": list(items), "customer_addr": HOSTILE}
    event = {
        "event_id": event_id,
        "event_type": "order_created",
        "ts": "2025-06-15 12:00:00.000",
        "location_id": 1,
        "order_id": f"order of {event_id}",
        "sequence": 0,
        "body": json.dumps(body),
    }
    return json.dumps(event | fields)


def item(**fields: object) -> dict[str, Any]:
    whole = {"id": 1, "category_id": 2, "menu_id": 3, "brand_id": 4, "name": HOSTILE}
    return whole | {"price": 9.99, "qty": 2} | fields


AGAIN = order("again", item(), item(price=0.1, qty=3))
ODD_LINES = [
    "not json",
    '{"event_id":"cut","sequence":1',
    "[1, 2]",
    "",
    order("a word for a number", item(), location_id="first"),
    order("a new field", item(), new="kept"),
    order("unknown type", item(), event_type="teleported"),
    order("no time", item(), ts="noon"),
    order("negative", item(), sequence=-1),
    order("no items"),
    order("no quantity", item(qty=0)),
    order("a bad line", item(), item(price=-0.01)),
    order("no body", body="{"),
    order("", item(), order_id="without id"),
    order("hostile", item(), order_id=HOSTILE),
    AGAIN,
    AGAIN,
]


@dataclass
class Onboarded:
    """An onboarding, and what runs it."""

    spark: Any
    settings: DltMetaSettings
    specs: str
    storage: Path

    def session(self) -> Session:
        return Session(self.spark, pipeline_configuration(self.settings, self.specs))

    def update(self) -> None:
        """One update of bronze, then one of silver: Spark can't hold both in one graph."""
        for layer in ("bronze", "silver"):

            def define(spark: Any, layer: str = layer) -> None:
                with engine(Session(spark, pipeline_configuration(self.settings, self.specs))) as e:
                    DataflowPipeline.invoke_dlt_pipeline(e.session, layer)
                    e.declare()

            self.run(define, layer)

    def run(self, define: Callable[[Any], None], name: str) -> None:
        storage, database = self.storage / name, self.settings.database
        run_update(self.spark, define, storage=storage, database=database)

    def table(self, name: str) -> Any:
        return self.spark.table(f"{self.settings.database}.{name}")


@contextmanager
def engine(session: Session) -> Iterator[Engine]:
    """Inside, sdp-meta declares on the stand-in."""
    stand_in, real = Engine(session), dataflow_pipeline.dp
    dataflow_pipeline.dp = stand_in
    try:
        yield stand_in
    finally:
        dataflow_pipeline.dp = real


def onboard(spark: Any, folder: Path, **settings: Any) -> Onboarded:
    name = f"dlt_meta_{uuid4().hex[:8]}"
    for schema in (name, f"{name}_specs"):
        spark.sql(f"CREATE SCHEMA {schema} LOCATION '{folder / schema}'")
    chosen = DltMetaSettings(
        events=str(folder / "events"), folder=str(folder / "conf"), database=name, **settings
    )
    write_dlt_meta(chosen)
    arguments = onboarding_arguments(chosen, f"{name}_specs")
    OnboardDataflowspec(spark, arguments, uc_enabled=True).onboard_dataflow_specs()
    return Onboarded(spark, chosen, f"{name}_specs", folder / "storage")


def rows(frame: Any, columns: list[str] | None = None) -> Counter[str]:
    chosen = columns or [c for c in frame.columns if c not in CLOCK]
    return Counter(repr(row) for row in frame.select(*chosen).collect())


@pytest.fixture(scope="module")
def landed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Event files of the sample's first orders and of the odd lines."""
    folder = tmp_path_factory.mktemp("landed")
    replay = Replay(
        dataset=EventsFile.open(sample_dataset()),
        sink=VolumeSink(folder / "whole"),
        store=StateStore(folder / "misc"),
        start_day=0,
        speed=60.0,
    )
    replay.tick(NOW)
    whole = [
        line
        for path in sorted((folder / "whole").rglob("*.json"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    write(folder / "events" / "sample.json", whole[:EVENTS])
    write(folder / "events" / "odd.json", ODD_LINES)
    return folder


def write(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


@pytest.fixture(scope="module")
def onboarded(spark: Any, landed: Path) -> Onboarded:
    """Tables after two updates: the second one reads new events, and one that came before."""
    pipeline = onboard(spark, landed)
    pipeline.update()
    lines = [AGAIN, order("later", item(), item(), item()), "not json either"]
    write(landed / "events" / "more.json", lines)
    pipeline.update()
    return pipeline


@pytest.fixture(scope="module")
def events(spark: Any, onboarded: Onboarded) -> Any:
    """Bronze by the library's own functions."""
    return bronze_events(spark, onboarded.settings.events, stream=False)


def test_bronze_equals_ours(onboarded: Onboarded, events: Any) -> None:
    table = onboarded.table(GHOST_KITCHEN.bronze)
    theirs = table.selectExpr(
        *(c.name for c in GHOST_KITCHEN.event_columns),
        f"coalesce({CORRUPT}, {RESCUED}) AS {RESCUED}",
        "source_file",
    )
    found, expected = rows(theirs), rows(events)
    assert found == expected
    assert found.total() == EVENTS + len(ODD_LINES) - 1 + 3  # an empty line is no row


def test_bronze_has_our_columns_with_their_types_and_one_more(onboarded: Onboarded) -> None:
    types = dict(onboarded.table(GHOST_KITCHEN.bronze).dtypes)
    ours = {c.name: c.type.lower() for c in bronze_table(GHOST_KITCHEN).columns}
    assert types == {**ours, CORRUPT: "string"}


def test_the_quarantine_equals_ours_and_gets_the_same_reasons(
    onboarded: Onboarded, events: Any
) -> None:
    table = onboarded.table(quarantine_table(GHOST_KITCHEN).name)
    merged = table.selectExpr(
        *(c.name for c in GHOST_KITCHEN.event_columns),
        f"coalesce({CORRUPT}, {RESCUED}) AS {RESCUED}",
        "source_file",
        "ingest_ts",
    )
    ours = rows(quarantined_events(events))
    assert rows(quarantined_events(merged)) == ours
    assert table.count() == ours.total() == 13


def test_silver_equals_ours_and_an_event_that_comes_again_counts_once(
    onboarded: Onboarded, events: Any
) -> None:
    orders = accepted_events(events, events_of=GHOST_KITCHEN.line_items.event)
    ours = silver_order_items(unique_events(orders))
    table = onboarded.table(line_items_table(GHOST_KITCHEN).name)
    found = rows(table, ours.columns)
    assert found == rows(ours)
    assert found.total() > EVENTS / 10
    assert table.where("order_id = 'order of again'").count() == 2


def test_silver_has_our_columns_with_their_types_and_layout(onboarded: Onboarded) -> None:
    table = line_items_table(GHOST_KITCHEN)
    types = dict(onboarded.table(table.name).dtypes)
    assert types == {c.name: c.type.lower() for c in table.columns}
    detail = onboarded.spark.sql(f"DESCRIBE DETAIL {onboarded.settings.database}.{table.name}")
    row = detail.select("partitionColumns", "properties").collect()[0]
    assert row["partitionColumns"] == list(table.partition_by)
    assert row["properties"]["delta.enableChangeDataFeed"] == "true"


def test_gold_sql_makes_the_native_tables_of_what_sdp_meta_wrote(
    onboarded: Onboarded, events: Any
) -> None:
    def define(_: Any) -> None:
        text = (Path(onboarded.settings.folder) / "gold.sql").read_text(encoding="utf-8")
        get_active_graph_element_registry().register_sql(text, Path("gold.sql"))

    onboarded.run(define, "gold")
    orders = accepted_events(events, events_of=GHOST_KITCHEN.line_items.event)
    sources = {
        "line_items": silver_order_items(unique_events(orders)).persist(),
        "lifecycle": silver_order_lifecycle(accepted_events(events)).persist(),
    }
    native = {lifecycle_table(GHOST_KITCHEN): sources["lifecycle"]}
    native |= {aggregate_table(t): aggregate(sources[t.source], t) for t in GHOST_KITCHEN.gold}
    for table, ours in native.items():
        theirs, expected = onboarded.table(table.name), rows(ours)
        assert dict(theirs.dtypes) == {c.name: c.type.lower() for c in table.columns}
        assert rows(theirs, ours.columns) == expected, table.name
        assert expected


def test_the_example_is_what_runs_here_but_for_its_places(onboarded: Onboarded) -> None:
    here = onboarded.settings
    for path in write_dlt_meta(here):
        text = (EXAMPLE / path.name).read_text(encoding="utf-8")
        text = re.sub(r'\n *"\w*catalog\w*": "caspersdev",', "", text).replace("`caspersdev`.", "")
        text = text.replace("/Volumes/caspersdev/simulator/misc/dlt_meta", here.folder)
        text = text.replace("/Volumes/caspersdev/simulator/events", here.events)
        assert path.read_text(encoding="utf-8") == text.replace("lakeflow", here.database)


@pytest.fixture(scope="module")
def stricter(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Onboarded:
    """Tables of a domain with a rule that drops and one that fails, without deduplication."""
    folder = tmp_path_factory.mktemp("stricter")
    rules = (
        Rule("not_unwanted", "order_id <> 'unwanted'", "drop", ""),
        Rule("possible", "location_id < 100", "fail", ""),
    )
    lines = [
        AGAIN,
        AGAIN,
        order("unwanted", item(), order_id="unwanted"),
        order("set aside", item(qty=0), location_id=100),
    ]
    write(folder / "events" / "a.json", lines)
    domain = replace(GHOST_KITCHEN, rules=(*GHOST_KITCHEN.rules, *rules))
    pipeline = onboard(spark, folder, domain=domain, deduplicate=False)
    pipeline.update()
    return pipeline


def test_without_deduplication_an_event_that_comes_again_counts_again(stricter: Onboarded) -> None:
    assert stricter.table("silver_order_items").count() == 4


def test_a_row_that_a_rule_drops_is_in_no_table(stricter: Onboarded) -> None:
    for name in ("all_events", "quarantined_events"):
        assert stricter.table(name).where("event_id = 'unwanted'").count() == 0
    assert stricter.table("silver_order_items").where("order_id = 'unwanted'").count() == 0


def test_a_row_that_is_set_aside_fails_nothing_and_another_one_stops_the_update(
    stricter: Onboarded,
) -> None:
    aside = stricter.table("quarantined_events").select("event_id").collect()
    assert [row["event_id"] for row in aside] == ["set aside"]
    bad = order("bad", item(), location_id=100)
    write(Path(stricter.settings.events) / "b.json", [bad])
    with pytest.raises(PipelineError, match="expectation possible is violated"):
        stricter.update()


@pytest.fixture(scope="module")
def spec(onboarded: Onboarded) -> Any:
    """Bronze as sdp-meta stored it."""
    (found,) = DataflowSpecUtils.get_bronze_dataflow_spec(onboarded.session())
    return found


def test_sdp_meta_reads_the_schema_with_its_types_and_comments(spec: Any) -> None:
    fields = json.loads(spec.schema)["fields"]
    names = {"STRING": "string", "INT": "integer"}
    ours = [(c.name, names[c.type], c.comment) for c in GHOST_KITCHEN.event_columns]
    found = [(f["name"], f["type"], f["metadata"]["comment"]) for f in fields]
    assert found[:-1] == ours
    assert found[-1][0] == CORRUPT


def declared(onboarded: Onboarded, spec: Any, expectations: dict[str, Any]) -> Engine:
    """What sdp-meta declares for bronze with these expectations."""
    changed = replace(spec, dataQualityExpectations=json.dumps(expectations))
    with engine(onboarded.session()) as stand_in:
        DataflowPipeline(stand_in.session, changed, "view").write()
    return stand_in


def test_of_several_quarantine_predicates_sdp_meta_wants_all_at_once(
    onboarded: Onboarded, spec: Any
) -> None:
    aside = {"one": "a = 1", "two": "b = 2"}
    tables = declared(onboarded, spec, {"expect": {"any": "true"}, "expect_or_quarantine": aside})
    assert tables.tables["quarantined_events"].drop == aside


def test_with_quarantine_predicates_alone_sdp_meta_declares_no_bronze(
    onboarded: Onboarded, spec: Any
) -> None:
    tables = declared(onboarded, spec, {"expect_or_quarantine": {"one": "a = 1"}}).tables
    assert list(tables) == ["quarantined_events"]


def test_of_two_groups_that_mean_the_same_sdp_meta_leaves_one_out(
    onboarded: Onboarded, spec: Any
) -> None:
    groups = {"expect_all": {"one": "a = 1"}, "expect": {"two": "b = 2"}}
    assert declared(onboarded, spec, groups).tables["all_events"].warn == {"two": "b = 2"}
