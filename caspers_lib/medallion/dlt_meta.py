"""The pipeline as metadata for dlt-meta (sdp-meta 0.1.0): what it onboards, expects, transforms.

Everything follows from the domain, and nothing here needs Spark or
sdp-meta. What sdp-meta makes of it, and where it can't do what the native pipeline does, is in
docs/decisions/dlt-meta.md; in short:

- Gold: sdp-meta has none. `registration.register_pipeline` with layer `gold` reads the same tables.
- `_corrupt_record`: an unreadable line stands there and not in `_rescued_data`, for sdp-meta reads
  bronze as Auto Loader gives it.
- `ingest_ts` is the time of the row's file.
- The quarantine has bronze's columns; `quality.quarantined_events` adds the reasons.
- An event that is delivered again: sdp-meta can't tell by `event_id`. Its AUTO CDC keeps one row
  for each order and line (`DltMetaSettings.deduplicate`).
- A row that a rule drops is missing from bronze too, and a rule that fails stops bronze.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caspers_lib.domain import GHOST_KITCHEN, Column, Domain, Rule, event_rules
from caspers_lib.domain.model import Action
from caspers_lib.domain.rules import READABLE, RESCUED, on_bronze
from caspers_lib.domain.tables import bronze_table, line_items_table, quarantine_table
from caspers_lib.errors import PipelineError, SettingsError
from caspers_lib.medallion.dlt_meta_check import check_dlt_meta
from caspers_lib.medallion.dlt_meta_sql import with_names
from caspers_lib.spark_sql import event_time, quote_name, quote_text, utc_day

__all__ = [
    "CORRUPT",
    "DltMetaSettings",
    "dlt_meta_files",
    "onboarding_arguments",
    "pipeline_configuration",
    "write_dlt_meta",
]

CORRUPT = "_corrupt_record"
"""Bronze's column with a line that is no JSON object."""

_BRONZE_SPECS, _SILVER_SPECS = "bronze_dataflowspec", "silver_dataflowspec"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
_GLOB = frozenset("*?[]{}\n\r")

# The groups of an expectations file whose conditions describe the rows that are right.
_GROUPS: tuple[tuple[Action, str], ...] = (
    ("warn", "expect"), ("drop", "expect_or_drop"), ("fail", "expect_or_fail")
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class DltMetaSettings:
    """Where the pipeline's events, tables and metadata are.

    Args:
        events: folder of landed event files, absolute or a URI.
        folder: folder in which sdp-meta finds the files, absolute or a URI.
        database: schema of the tables.
        catalog: their catalog; None for the session's.
        env: suffix of the keys that differ between environments.
        deduplicate: whether silver is kept by AUTO CDC, one row for each order and line, so that
            an event which is delivered again counts once. Else rows are only appended.
        domain: the business.

    Raises:
        SettingsError: a name or path that sdp-meta doesn't take.
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


def dlt_meta_files(settings: DltMetaSettings) -> dict[str, str]:
    """The files' texts by their names, the onboarding first.

    Args:
        settings: where everything is.
    """
    names = _file_names(settings.domain)
    ddl = ",\n".join(
        f"{quote_name(c.name)} {c.type} COMMENT {quote_text(c.comment)}"
        for c in (
            *settings.domain.event_columns,
            Column(CORRUPT, "STRING", comment="the line, if it is no JSON object"),
        )
    )
    return {
        names["onboarding"]: _json([_data_flow(settings)]),
        names["schema"]: ddl + "\n",
        names["expectations"]: _json(_expectations(settings.domain)),
        names["transformations"]: _json([_transformation(settings.domain)]),
    }


def write_dlt_meta(settings: DltMetaSettings, into: Path | None = None) -> list[Path]:
    """Write the files, if the pre-flight check finds nothing.

    Args:
        settings: where everything is.
        into: folder that is written, made if it isn't there; `settings.folder` if None.

    Returns:
        The files, the onboarding first.

    Raises:
        PipelineError: the check finds a problem, or a file can't be written.
    """
    files = dlt_meta_files(settings)
    problems = check_dlt_meta(files, env=settings.env, domain=settings.domain)
    if problems:
        raise PipelineError(
            f"sdp-meta would not take these files: {problems[0].file}, {problems[0].where}: "
            f"{problems[0].what}" + (f" (and {len(problems) - 1} more)" if problems[1:] else ""),
            hint=problems[0].fix,
        )
    folder = Path(settings.folder) if into is None else into
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise PipelineError(
            f"The files for sdp-meta can't be written to {folder}: {error.strerror}",
            hint="choose another folder with `into`",
        ) from error
    return [folder / name for name in files]


def onboarding_arguments(
    settings: DltMetaSettings, specs: str, *, author: str = "caspers_lib", version: str = "v1"
) -> dict[str, str]:
    """What sdp-meta's `OnboardDataflowspec(spark, arguments, uc_enabled=True)` is given.

    Args:
        settings: where everything is.
        specs: schema, or catalog.schema, of sdp-meta's own two tables; it exists.
        author: who is named in them.
        version: the specs' version, for people: `overwrite` leaves one of each.
    """
    return {
        "onboarding_file_path": settings.path(_file_names(settings.domain)["onboarding"]),
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


def _file_names(domain: Domain) -> dict[str, str]:
    return {
        "onboarding": "onboarding.json",
        "schema": f"{domain.bronze}.ddl",
        "expectations": "bronze_expectations.json",
        "transformations": "silver_transformations.json",
    }


def _data_flow(settings: DltMetaSettings) -> dict[str, Any]:
    """The onboarding's row: how events become bronze, and bronze silver."""
    domain, env = settings.domain, settings.env
    names = _file_names(domain)
    bronze, aside = bronze_table(domain), quarantine_table(domain)
    silver = line_items_table(domain)
    row: dict[str, Any] = {
        "data_flow_id": "100",
        "data_flow_group": domain.name,
        "source_system": domain.name,
        "source_format": "cloudFiles",
        "source_details": {
            f"source_path_{env}": settings.events,
            "source_schema_path": settings.path(names["schema"]),
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
        f"bronze_data_quality_expectations_json_{env}": settings.path(names["expectations"]),
        f"bronze_database_quarantine_{env}": settings.database,
        "bronze_quarantine_table": aside.name,
        "bronze_quarantine_table_comment": "Rows of bronze that violate a rule",
        f"silver_database_{env}": settings.database,
        "silver_table": silver.name,
        "silver_table_comment": silver.comment,
        "silver_table_properties": silver.properties,
        "silver_partition_columns": ",".join(silver.partition_by),
        f"silver_transformation_json_{env}": settings.path(names["transformations"]),
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
    """Rules as expectations on bronze."""
    rules = _rules(domain)
    accepted = _all_hold(rules, "quarantine", "drop")
    groups: dict[str, dict[str, str]] = {}
    for action, group in _GROUPS:
        conditions = {r.name: r.condition for r in rules if r.action == action}
        if action == "fail":
            # A row that is set aside or dropped anyway stops nothing.
            conditions = {
                name: f"{condition} OR NOT ({accepted})" for name, condition in conditions.items()
            }
        if conditions:
            groups[group] = conditions
    if any(rule.action == "quarantine" for rule in rules):
        # One predicate: of several, sdp-meta sets aside the rows for which all are true.
        groups["expect_or_quarantine"] = {
            "violates_a_rule": f"NOT ({_all_hold(rules, 'quarantine')})"
        }
    return groups


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
        "where_clause": [
            f"event_type = {quote_text(items.event)}",
            *(r.condition for r in _rules(domain) if r.action in ("quarantine", "drop")),
        ],
    }


def _rules(domain: Domain) -> tuple[Rule, ...]:
    """The rules over the columns of bronze as sdp-meta makes it, never null."""
    rules = []
    for rule in event_rules(domain):
        condition = f"coalesce({on_bronze(rule, domain).condition}, false)"
        if rule.name == READABLE:
            condition = f"{CORRUPT} IS NULL AND {condition}"
        rules.append(Rule(rule.name, condition, rule.action, rule.comment))
    return tuple(rules)


def _all_hold(rules: tuple[Rule, ...], *actions: Action) -> str:
    return " AND ".join(r.condition for r in rules if r.action in actions) or "true"


def _json(document: list[Mapping[str, Any]] | Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
