"""What is declared to each engine, and that what they are given runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from caspers_lib.domain import GHOST_KITCHEN, domain_tables, event_rules
from caspers_lib.errors import PipelineError
from caspers_lib.medallion.quality import quarantined_events
from caspers_lib.medallion.registration import (
    PipelineSettings,
    register_pipeline,
    table_names,
)
from caspers_lib.runtime.pipeline import run_update
from tests.medallion.engines import Dlt, LakeflowPipelines

BRONZE = GHOST_KITCHEN.bronze
EXAMPLE = Path(__file__).parents[2] / "examples" / "lakeflow" / "order_items.py"


class Recorder:
    """A session that notes how files and tables are read; nothing can be computed with it."""

    def __init__(self, **conf: str) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.values = conf

    @property
    def conf(self) -> Any:
        return self

    def get(self, name: str, default: str | None = None) -> str | None:
        return self.values.get(name.replace(".", "_"), default)

    def __getattr__(self, name: str) -> Any:
        def call(*words: Any, **_options: Any) -> "Recorder":
            self.calls.append((name, words))
            return self

        return self if name in ("readStream", "read") else call


@pytest.fixture(params=[LakeflowPipelines, Dlt])
def engine(request: pytest.FixtureRequest) -> Any:
    return request.param()


def test_both_apis_of_databricks_accept_every_table(engine: Any) -> None:
    register_pipeline(PipelineSettings(events="/Volumes/e"), Recorder(), engine=engine)  # type: ignore[arg-type]
    assert set(engine.declared) == {*table_names(), "accepted_events"}
    assert engine.flows.keys() == {BRONZE}
    for table in domain_tables(GHOST_KITCHEN):
        options = engine.declared[table.name].options
        assert options["comment"] == table.comment
        assert options["schema"] == table.ddl
        assert options.get("partition_cols", []) == list(table.partition_by)


def test_t5_no_table_is_partitioned_by_anything_finer_than_a_day() -> None:
    columns = {c.name: c.type for t in domain_tables(GHOST_KITCHEN) for c in t.columns}
    parts = {name for t in domain_tables(GHOST_KITCHEN) for name in t.partition_by}
    assert parts
    assert {columns[name] for name in parts} == {"DATE"}


def test_rules_are_native_expectations_where_the_engine_has_them(engine: Any) -> None:
    register_pipeline(PipelineSettings(events="/Volumes/e"), Recorder(), engine=engine)  # type: ignore[arg-type]
    found = engine.declared["accepted_events"].expectations
    rules = event_rules(GHOST_KITCHEN)
    assert set(found["expect_all"]) == {r.name for r in rules if r.action == "warn"}
    assert set(found["expect_all_or_drop"]) == {r.name for r in rules if r.action == "quarantine"}
    assert found["expect_all"]["no_new_field"] == "coalesce(_rescued_data IS NULL, false)"


def test_files_come_through_auto_loader_where_the_engine_is_lakeflow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[str] = []
    monkeypatch.setattr(
        "caspers_lib.medallion.registration.auto_loader_events",
        lambda _spark, path, _domain: given.append(path),
    )
    engine = LakeflowPipelines()
    register_pipeline(PipelineSettings(events="/Volumes/e"), Recorder(), engine=engine)  # type: ignore[arg-type]
    engine.flows[BRONZE].rows()  # type: ignore[misc]
    assert given == ["/Volumes/e"]


def test_a_table_of_direct_events_is_one_more_flow_that_leaves_the_first_as_it_was() -> None:
    alone, both = LakeflowPipelines(), LakeflowPipelines()
    register_pipeline(PipelineSettings(events="/Volumes/e"), Recorder(), engine=alone)  # type: ignore[arg-type]
    more = PipelineSettings(events="/Volumes/e", direct_events="lakeflow.direct")
    register_pipeline(more, Recorder(), engine=both)  # type: ignore[arg-type]
    assert both.flows.keys() - alone.flows.keys() == {f"{BRONZE}_direct"}
    assert both.flows[BRONZE].options == alone.flows[BRONZE].options
    assert both.declared[BRONZE].options == alone.declared[BRONZE].options


def test_layers_can_be_declared_one_by_one() -> None:
    names: list[str] = []
    for layer in ("bronze", "silver", "gold"):
        engine = LakeflowPipelines()
        settings = PipelineSettings(events="/Volumes/e", layers=(layer,))
        register_pipeline(settings, Recorder(), engine=engine)  # type: ignore[arg-type]
        names += engine.declared
    assert set(names) == {*table_names(), "accepted_events"}


def test_open_source_spark_refuses_bronze_and_silver_in_one_graph_and_says_what_to_do() -> None:
    with pytest.raises(PipelineError, match="in one graph") as refused:
        register_pipeline(PipelineSettings(events="/e"), Recorder())  # type: ignore[arg-type]
    assert "caspers.layers: bronze" in refused.value.hint


def test_settings_come_from_the_pipelines_configuration() -> None:
    spark: Any = Recorder(
        caspers_events="/Volumes/e",
        caspers_layers="silver, gold",
        caspers_direct_events="a.b",
    )
    assert PipelineSettings.from_conf(spark) == PipelineSettings(
        events="/Volumes/e",
        direct_events="a.b",
        layers=("silver", "gold"),
    )
    assert PipelineSettings.from_conf(Recorder(caspers_events="/e")) == PipelineSettings(  # type: ignore[arg-type]
        events="/e"
    )


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        ({}, "lacks caspers.events"),
        ({"caspers_events": "/e", "caspers_layers": "bronze,copper"}, "allowed are"),
        ({"caspers_events": "/e", "caspers_deduplication_hours": "24"}, "remembered for good"),
    ],
)
def test_a_bad_configuration_is_one_sentence_and_a_hint(conf: dict[str, str], said: str) -> None:
    with pytest.raises(PipelineError, match=said) as refused:
        PipelineSettings.from_conf(Recorder(**conf))  # type: ignore[arg-type]
    assert refused.value.hint


def test_the_example_is_a_whole_pipeline_in_under_15_lines() -> None:
    assert len(EXAMPLE.read_text().splitlines()) < 15


@pytest.mark.spark
def test_direct_events_flow_into_the_same_bronze_and_the_files_are_not_read_again(
    spark: Any, schema: str, tmp_path: Path
) -> None:
    def landed(event_id: str) -> str:
        return json.dumps({"event_id": event_id, "event_type": "gk_ready", "body": "{}"})

    def update(direct: str | None) -> list[tuple[str, str]]:
        settings = PipelineSettings(
            events=str(tmp_path / "events"), direct_events=direct, layers=("bronze",)
        )
        run_update(
            spark,
            lambda session: register_pipeline(settings, session),
            storage=tmp_path / "checkpoints",
            database=schema,
        )
        rows = spark.table(f"{schema}.all_events").select("event_id", "source_file").collect()
        return sorted((row[0], row[1].rpartition("/")[2]) for row in rows)

    (tmp_path / "events").mkdir()
    (tmp_path / "events" / "1.json").write_text(landed("filed") + "\n")
    assert update(None) == [("filed", "1.json")]
    direct = f"{schema}.direct_events"
    columns = ", ".join(f"{c.name} {c.type}" for c in GHOST_KITCHEN.event_columns)
    spark.sql(f"CREATE TABLE {direct} ({columns}) USING delta")
    spark.sql(f"INSERT INTO {direct} (event_id, body) VALUES ('direct', '{{}}')")
    (tmp_path / "events" / "2.json").write_text(landed("filed later") + "\n")
    assert update(direct) == [
        ("direct", direct), ("filed", "1.json"), ("filed later", "2.json"),
    ]  # fmt: skip
    # The quarantine knows what is wrong with it as with any other row.
    aside = quarantined_events(spark.table(f"{schema}.all_events")).where("event_id = 'direct'")
    assert "known_event_type" in aside.first().reasons
