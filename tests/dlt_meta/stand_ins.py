"""What open-source Spark lacks and sdp-meta asks for, as thinly as it can be told.

- Expectations: `pyspark.pipelines` has none, so a table is declared only once its rules are known,
  and they filter its rows. (Declared at once it would lose them: sdp-meta attaches them later.)
- Auto Loader: Spark's text source and this library's reading of lines give the columns that
  `cloudFiles` would.
- AUTO CDC into Delta, of which Spark 4.2 says that the table can't merge: each key's first row.
  That is the same where all rows of a key are equal.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pyspark import pipelines
from pyspark.sql import functions as F

from caspers_lib.domain import GHOST_KITCHEN
from caspers_lib.domain.rules import RESCUED
from caspers_lib.medallion.bronze import events_of_lines
from caspers_lib.medallion.dlt_meta import CORRUPT

Rows = Callable[[], Any]
_KNOWN = {"name", "comment", "table_properties", "partition_cols", "cluster_by"}


@dataclass
class Table:
    """A table that waits for its rules."""

    rows: Rows | None
    options: dict[str, Any]
    warn: dict[str, str] = field(default_factory=dict)
    drop: dict[str, str] = field(default_factory=dict)
    fail: dict[str, str] = field(default_factory=dict)

    def checked(self) -> Any:
        assert self.rows is not None
        rows = self.rows()
        for name, condition in self.fail.items():
            refused = F.raise_error(F.lit(f"expectation {name} is violated"))
            rows = rows.where(F.when(F.expr(condition), F.lit(True)).otherwise(refused))
        for condition in self.drop.values():
            rows = rows.where(condition)
        return rows


class Engine:
    """Stands in for the module `pyspark.pipelines` inside of sdp-meta."""

    def __init__(self, session: "Session") -> None:
        self.session = session
        self.tables: dict[str, Table] = {}
        self.views: dict[str, Rows] = {}

    def temporary_view(self, rows: Rows, *, name: str, comment: str) -> None:
        self.views[name] = rows
        pipelines.temporary_view(rows, name=name, comment=comment)

    def read_stream(self, name: str) -> Any:
        return self.session.readStream.table(name)

    def table(self, rows: Rows | None, **options: Any) -> Table:
        declared = Table(rows, known_options(options))
        assert options["name"] not in self.tables
        self.tables[options["name"]] = declared
        return declared

    def expect_all(self, conditions: dict[str, str]) -> Callable[[Table], Table]:
        return lambda table: attach(table, table.warn, conditions)

    def expect_all_or_drop(self, conditions: dict[str, str]) -> Callable[[Table], Table]:
        return lambda table: attach(table, table.drop, conditions)

    def expect_all_or_fail(self, conditions: dict[str, str]) -> Callable[[Table], Table]:
        return lambda table: attach(table, table.fail, conditions)

    def create_streaming_table(self, *, name: str, **options: Any) -> None:
        self.table(None, name=name, **options)

    def create_auto_cdc_flow(
        self,
        *,
        target: str,
        source: str,
        keys: list[str],
        sequence_by: str,
        stored_as_scd_type: str,
        **options: Any,
    ) -> None:
        assert stored_as_scd_type == "1"
        assert sequence_by
        assert not any(options.values()), options
        # Not by the view's name: Spark asks for the columns before the graph has the view.
        view = self.views[source]
        self.tables[target].rows = lambda: view().dropDuplicates(keys)

    def declare(self) -> None:
        """Hand the tables with their rules to the real engine."""
        for table in self.tables.values():
            pipelines.table(table.checked, **table.options)


class Session:
    """A session with the pipeline's configuration, and with `cloudFiles`."""

    def __init__(self, spark: Any, configuration: Mapping[str, str]) -> None:
        self._spark = spark
        self.conf = Configuration(configuration)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._spark, name)

    @property
    def readStream(self) -> Any:
        return StreamReader(self._spark)


class Configuration:
    """Settings that stand in the pipeline; what is set while a graph is defined is left out."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._settings = {"spark.databricks.unityCatalog.enabled": "true", **settings}

    def get(self, key: str, default: str | None = None) -> str | None:
        return self._settings.get(key, default)

    def set(self, key: str, value: str) -> None:
        assert key == "databrickslab.sdp-meta.version", (key, value)


class StreamReader:
    def __init__(self, spark: Any) -> None:
        self._spark = spark

    def __getattr__(self, name: str) -> Any:
        return getattr(self._spark.readStream, name)

    def format(self, name: str) -> Any:
        return AutoLoader(self._spark) if name == "cloudFiles" else self._spark.readStream

    def table(self, name: str) -> Any:
        return self._spark.readStream.table(name)


class AutoLoader:
    def __init__(self, spark: Any) -> None:
        self._spark = spark

    def options(self, **options: str) -> "AutoLoader":
        assert options == {
            "cloudFiles.format": "json",
            "cloudFiles.schemaEvolutionMode": "none",
            "rescuedDataColumn": RESCUED,
            "columnNameOfCorruptRecord": CORRUPT,
        }
        return self

    def schema(self, schema: Any) -> "AutoLoader":
        assert [(f.name, f.dataType.simpleString()) for f in schema.fields] == [
            *((c.name, c.type.lower()) for c in GHOST_KITCHEN.event_columns),
            (CORRUPT, "string"),
        ]
        return self

    def load(self, path: str) -> Any:
        lines = self._spark.readStream.format("text").option("lineSep", "\n").load(path)
        unreadable = f"{RESCUED} IS NOT NULL AND json_object_keys({RESCUED}) IS NULL"
        return events_of_lines(lines, "''").selectExpr(
            *(c.name for c in GHOST_KITCHEN.event_columns),
            f"if({unreadable}, {RESCUED}, NULL) AS {CORRUPT}",
            f"if({unreadable}, NULL, {RESCUED}) AS {RESCUED}",
        )


def known_options(options: dict[str, Any]) -> dict[str, Any]:
    """What open-source Spark takes; the rest must ask for nothing."""
    asked = {name: value for name, value in options.items() if value}
    assert set(asked) <= _KNOWN, set(asked) - _KNOWN
    return asked


def attach(table: Table, rules: dict[str, str], conditions: dict[str, str]) -> Table:
    rules.update(conditions)
    return table
