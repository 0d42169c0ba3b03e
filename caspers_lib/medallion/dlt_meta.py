"""The pipeline as metadata for dlt-meta (sdp-meta 0.1.0), and the gold tables as SQL beside it.

Everything follows from the domain, and nothing here needs Spark or sdp-meta. Where the tables
differ from the native pipeline's is in docs/decisions/dlt-meta.md; in short:

- Gold: sdp-meta has no such layer. `gold.sql` declares the tables for the same pipeline.
- `_corrupt_record` holds an unreadable line, not `_rescued_data`: sdp-meta reads bronze as Auto
  Loader gives it.
- `ingest_ts` is the time of the row's file.
- The quarantine has bronze's columns; `quality.quarantined_events` adds the reasons.
- sdp-meta can't recognize a repeated event by `event_id`. Its AUTO CDC keeps one row for each order
  and line (`DltMetaSettings.deduplicate`).
- A row that a rule drops is missing from bronze too, and a rule that fails stops bronze.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caspers_lib.domain import GHOST_KITCHEN, AggregateTable, Column, Domain, event_rules
from caspers_lib.domain.model import Action
from caspers_lib.domain.rules import READABLE, RESCUED, accepted_condition, on_bronze
from caspers_lib.domain.tables import (
    Table,
    aggregate_table,
    bronze_table,
    lifecycle_table,
    line_items_table,
    quarantine_table,
)
from caspers_lib.errors import PipelineError, SettingsError
from caspers_lib.medallion.lifecycle import lifecycle_columns
from caspers_lib.spark_sql import event_time, quote_name, quote_text, utc_day

__all__ = [
    "CORRUPT",
    "DltMetaSettings",
    "dlt_meta_files",
    "onboarding_arguments",
    "pipeline_configuration",
    "with_names",
    "write_dlt_meta",
]

CORRUPT = "_corrupt_record"
"""Bronze's column with a line that is no JSON object."""

_ONBOARDING, _GOLD = "onboarding.json", "gold.sql"
_EXPECTATIONS, _TRANSFORMATIONS = "bronze_expectations.json", "silver_transformations.json"
_BRONZE_SPECS, _SILVER_SPECS = "bronze_dataflowspec", "silver_dataflowspec"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
_GLOB = frozenset("*?[]{}\n\r")

# The groups of an expectations file whose conditions describe valid rows.
_GROUPS: tuple[tuple[Action, str], ...] = (
    ("warn", "expect"), ("drop", "expect_or_drop"), ("fail", "expect_or_fail")
)  # fmt: skip

# A text, a quoted name, or a word.
_TOKEN = re.compile(r"'(?:\\.|''|[^'\\])*'|\"(?:\\.|\"\"|[^\"\\])*\"|`(?:``|[^`])*`|\w+", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class DltMetaSettings:
    """Where the pipeline's events, tables and metadata are.

    Args:
        events: folder of landed event files, absolute or a URI.
        folder: folder in which sdp-meta finds the files, absolute or a URI.
        database: schema of the tables.
        catalog: their catalog; None for the session's.
        env: suffix of the keys that differ between environments.
        deduplicate: whether AUTO CDC maintains silver, one row for each order and line, so that a
            repeated event counts once. Otherwise rows are only appended.
        domain: the business.

    Raises:
        SettingsError: sdp-meta doesn't accept a name or path.
    """

    events: str
    folder: str
    database: str = "lakeflow"
    catalog: str | None = None
    env: str = "dev"
    deduplicate: bool = True
    domain: Domain = GHOST_KITCHEN

    def __post_init__(self) -> None:
        """Refuse what would only fail in the workspace."""
        for what, path in (("events", self.events), ("folder", self.folder)):
            if not path.startswith("/") and "://" not in path and not path.startswith("dbfs:/"):
                raise SettingsError(
                    f"{what} is {path!r}; it must be an absolute path or a URI",
                    hint="sdp-meta opens it from another machine; take /Volumes/...",
                )
        if _GLOB & set(self.folder):
            raise SettingsError(
                f"folder is {self.folder!r}; *, ?, brackets, braces and line ends are not allowed",
                hint="Spark reads them as a pattern; choose another folder",
            )
        tables = [of(self.domain) for of in (bronze_table, quarantine_table, line_items_table)]
        names = [("database", self.database), ("env", self.env)]
        names += [] if self.catalog is None else [("catalog", self.catalog)]
        names += [("a table", table.name) for table in tables]
        names += [("a column", column.name) for table in tables for column in table.columns]
        for what, name in names:
            if not _NAME.fullmatch(name):
                raise SettingsError(
                    f"{what} is {name!r}; letters, digits and _ are allowed, no digit first",
                    hint="sdp-meta puts names into SQL unquoted; choose another name",
                )

    def path(self, file: str) -> str:
        """Where sdp-meta finds the file."""
        return f"{self.folder.rstrip('/')}/{file}"

    def table(self, name: str) -> str:
        """SQL of a table's full name."""
        return quote_name(*([self.catalog] if self.catalog else []), self.database, name)


def dlt_meta_files(settings: DltMetaSettings) -> dict[str, str]:
    """The files' texts by their names, the onboarding first.

    Args:
        settings: where everything is.
    """
    domain = settings.domain
    corrupt = Column(CORRUPT, "STRING", comment="the line, if it is no JSON object")
    schema = ",\n".join(
        f"{quote_name(c.name)} {c.type} COMMENT {quote_text(c.comment)}"
        for c in (*domain.event_columns, corrupt)
    )
    return {
        _ONBOARDING: _json([_data_flow(settings)]),
        _schema_file(domain): f"{schema}\n",
        _EXPECTATIONS: _json(_expectations(domain)),
        _TRANSFORMATIONS: _json([_transformation(domain)]),
        _GOLD: _gold(settings),
    }


def write_dlt_meta(settings: DltMetaSettings, into: Path | None = None) -> list[Path]:
    """Write the files; those of an earlier export are replaced.

    Args:
        settings: where everything is.
        into: folder to write, created if missing; `settings.folder` if None.

    Returns:
        The files, the onboarding first.

    Raises:
        PipelineError: the folder holds other files, or a file can't be written.
    """
    files = dlt_meta_files(settings)
    folder = Path(settings.folder) if into is None else into
    try:
        folder.mkdir(parents=True, exist_ok=True)
        others = sorted(path.name for path in folder.iterdir() if path.name not in files)
        if others:
            raise PipelineError(
                f"The folder {folder} holds other files than an export's, such as {others[0]}",
                hint="choose a folder that is new, empty or from an earlier export",
            )
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise PipelineError(
            f"The files for sdp-meta can't be written to {folder}: {error.strerror}",
            hint="choose another folder",
        ) from error
    return [folder / name for name in files]


def onboarding_arguments(
    settings: DltMetaSettings, specs: str, *, author: str = "caspers_lib", version: str = "v1"
) -> dict[str, str]:
    """The arguments of sdp-meta's `OnboardDataflowspec(spark, arguments, uc_enabled=True)`.

    Args:
        settings: where everything is.
        specs: existing schema, or catalog.schema, of sdp-meta's own two tables.
        author: the name recorded in them.
        version: the specs' version, for people: `overwrite` leaves one of each.
    """
    return {
        "onboarding_file_path": settings.path(_ONBOARDING),
        "database": specs,
        "env": settings.env,
        "bronze_dataflowspec_table": _BRONZE_SPECS,
        "silver_dataflowspec_table": _SILVER_SPECS,
        "import_author": author,
        "version": version,
        # A merge would keep flows that the onboarding no longer has, and sort v10 before v9.
        "overwrite": "True",
    }


def pipeline_configuration(settings: DltMetaSettings, specs: str) -> dict[str, str]:
    """The `configuration` of a pipeline whose source calls sdp-meta's `invoke_dlt_pipeline`.

    Args:
        settings: where everything is.
        specs: schema, or catalog.schema, of sdp-meta's own two tables.
    """
    return {
        "layer": "bronze_silver",
        "bronze.dataflowspecTable": f"{specs}.{_BRONZE_SPECS}",
        "bronze.group": settings.domain.name,
        "silver.dataflowspecTable": f"{specs}.{_SILVER_SPECS}",
        "silver.group": settings.domain.name,
    }


def _data_flow(settings: DltMetaSettings) -> dict[str, Any]:
    """The onboarding's row: how events become bronze, and bronze silver."""
    domain, env = settings.domain, settings.env
    bronze, quarantine = bronze_table(domain), quarantine_table(domain)
    silver = line_items_table(domain)
    row: dict[str, Any] = {
        "data_flow_id": "100",
        "data_flow_group": domain.name,
        "source_system": domain.name,
        "source_format": "cloudFiles",
        "source_details": {
            f"source_path_{env}": settings.events,
            "source_schema_path": settings.path(_schema_file(domain)),
            "source_metadata": {
                "select_metadata_cols": {
                    "source_file": "_metadata.file_path",
                    "ingest_ts": "_metadata.file_modification_time",
                }
            },
        },
        f"bronze_database_{env}": settings.database,
        "bronze_table": bronze.name,
        "bronze_table_comment": bronze.comment,
        "bronze_reader_options": {
            "cloudFiles.format": "json",
            "cloudFiles.schemaEvolutionMode": "none",
            "rescuedDataColumn": RESCUED,
            "columnNameOfCorruptRecord": CORRUPT,
        },
        "bronze_table_properties": bronze.properties,
        f"bronze_data_quality_expectations_json_{env}": settings.path(_EXPECTATIONS),
        f"bronze_database_quarantine_{env}": settings.database,
        "bronze_quarantine_table": quarantine.name,
        "bronze_quarantine_table_comment": "Rows of bronze that violate a rule",
        f"silver_database_{env}": settings.database,
        "silver_table": silver.name,
        "silver_table_comment": silver.comment,
        "silver_table_properties": silver.properties,
        "silver_partition_columns": ",".join(silver.partition_by),
        f"silver_transformation_json_{env}": settings.path(_TRANSFORMATIONS),
    }
    if settings.catalog is not None:
        for key in ("bronze_catalog", "bronze_catalog_quarantine", "silver_catalog"):
            row[f"{key}_{env}"] = settings.catalog
    if settings.deduplicate:
        row["silver_cdc_apply_changes"] = {
            "keys": list(silver.key),
            "sequence_by": "order_ts",
            "scd_type": "1",
        }
    return row


def _expectations(domain: Domain) -> dict[str, dict[str, str]]:
    """Rules as expectations on bronze, whose conditions are never null."""
    conditions: dict[Action, dict[str, str]] = {}
    for rule in event_rules(domain):
        condition = f"coalesce({on_bronze(rule, domain).condition}, false)"
        if rule.name == READABLE:
            condition = f"{CORRUPT} IS NULL AND {condition}"
        elif rule.action == "fail":
            # A row that is set aside or dropped anyway stops nothing.
            condition = f"{condition} OR NOT ({_accepted(domain)})"
        conditions.setdefault(rule.action, {})[rule.name] = condition
    groups = {group: conditions[action] for action, group in _GROUPS if action in conditions}
    # One predicate: of several, sdp-meta sets aside the rows for which all are true.
    every_rule = " AND ".join(conditions["quarantine"].values())
    return {**groups, "expect_or_quarantine": {"violates_a_rule": f"NOT ({every_rule})"}}


def _transformation(domain: Domain) -> dict[str, Any]:
    """How a row of bronze becomes the line items of silver."""
    items, time = domain.line_items, event_time()
    day = utc_day(time)
    scope = {
        "line": "(position + 1)",
        "order_ts": time,
        domain.day_column.lower(): day,
        **{c.name.lower(): f"item.{c.expression}" for c in items.columns},
    }
    fields = {"line": "position + 1"}
    for column in items.columns:
        fields[column.name] = f"item.{column.expression}"
    for column in items.derived:
        derived = f"try_cast({with_names(column.expression, scope)} AS {column.type})"
        fields[column.name] = scope[column.name.lower()] = derived
    struct = ", ".join(f"{quote_text(name)}, {sql}" for name, sql in fields.items())
    array = f"from_json(body, {quote_text(f'{items.field} {items.element_type}')}).{items.field}"
    return {
        "target_table": items.table,
        "select_exp": [
            domain.entity_key,
            domain.site_key,
            f"{time} AS order_ts",
            f"{day} AS {domain.day_column}",
            # One generator a select: everything of the line is computed before it.
            f"inline(transform({array}, (item, position) -> named_struct({struct})))",
        ],
        "where_clause": [f"event_type = {quote_text(items.event)}", _accepted(domain)],
    }


def with_names(sql: str, names: Mapping[str, str]) -> str:
    """The expression with columns replaced by other expressions.

    Texts, quoted names, fields of structs and functions stay as they are.

    Args:
        sql: an expression.
        names: column names, lower case, to what replaces them.
    """

    def replacement(token: re.Match[str]) -> str:
        word = token[0]
        before, after = sql[: token.start()].rstrip(), sql[token.end() :].lstrip()
        if before.endswith(".") or after.startswith("("):
            return word
        return names.get(word.lower(), word)

    return _TOKEN.sub(replacement, sql)


def _gold(settings: DltMetaSettings) -> str:
    """The tables that are computed whole, as materialized views: lifecycle and aggregates."""
    domain = settings.domain
    sources = {
        "line_items": settings.table(domain.line_items.table),
        "lifecycle": settings.table(domain.lifecycle.table),
    }
    lifecycle = _lifecycle_query(domain, settings.table(domain.bronze))
    views = [(lifecycle_table(domain), lifecycle)]
    views += [(aggregate_table(t), _aggregate_query(t, sources[t.source])) for t in domain.gold]
    return "\n\n".join(_materialized_view(settings, table, query) for table, query in views) + "\n"


def _lifecycle_query(domain: Domain, bronze: str) -> str:
    """One row per entity, as `lifecycle.silver_order_lifecycle` computes it."""
    entity, site = domain.entity_key, domain.site_key
    columns = [
        f"{sql} AS {quote_name(name)}"
        for name, sql in lifecycle_columns(quote_name, domain).items()
    ]
    firsts = [
        f"min(CASE WHEN event_type = {quote_text(t.name)} THEN event_ts END)"
        f" AS {quote_name(t.time_column)}"
        for t in domain.event_types
    ]
    return "\n".join(
        [
            "SELECT",
            ",\n".join(f"  {sql}" for sql in (entity, *columns)),
            "FROM (",
            "  SELECT",
            ",\n".join(f"    {sql}" for sql in (entity, f"min({site}) AS {site}", *firsts)),
            "  FROM (",
            f"    SELECT *, {event_time()} AS event_ts",
            f"    FROM {bronze}",
            f"    WHERE {_accepted(domain)}",
            "  )",
            f"  GROUP BY {entity}",
            ")",
        ]
    )


def _aggregate_query(table: AggregateTable, source: str) -> str:
    """One row per key, as `gold.aggregate` computes it."""
    columns = ",\n  ".join(
        f"CAST({c.expression} AS {c.fixed_type}) AS {quote_name(c.name)}"
        for c in (*table.keys, *table.measures)
    )
    known_day = "\nWHERE order_day IS NOT NULL" if table.source == "lifecycle" else ""
    return f"SELECT\n  {columns}\nFROM {source}{known_day}\nGROUP BY ALL"


def _materialized_view(settings: DltMetaSettings, table: Table, query: str) -> str:
    # Open-source Spark has no OR REFRESH; in a Databricks pipeline it changes nothing.
    columns = ",\n  ".join(
        f"{quote_name(c.name)} {c.fixed_type} COMMENT {quote_text(c.comment)}"
        for c in table.columns
    )
    lines = [f"CREATE MATERIALIZED VIEW {settings.table(table.name)} (\n  {columns}\n)"]
    if table.partition_by:
        lines.append(f"PARTITIONED BY ({', '.join(map(quote_name, table.partition_by))})")
    lines.append(f"COMMENT {quote_text(table.comment)}")
    if table.properties:
        pairs = (f"{quote_text(key)} = {quote_text(v)}" for key, v in table.properties.items())
        lines.append(f"TBLPROPERTIES ({', '.join(pairs)})")
    return "\n".join([*lines, f"AS {query};"])


def _accepted(domain: Domain) -> str:
    """SQL over bronze as sdp-meta makes it: no rule sets the row aside or drops it."""
    return f"{CORRUPT} IS NULL AND {accepted_condition(domain)}"


def _schema_file(domain: Domain) -> str:
    return f"{domain.bronze}.ddl"


def _json(document: list[Mapping[str, Any]] | Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
