"""What a managed synced table is asked for, and how it differs from our own sync: no I/O.

Contract: DESIGN section 8. Why: docs/decisions/managed-synced-tables.md.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from caspers_lib.errors import CaspersError, SettingsError, SyncError
from caspers_lib.lakebase.identifiers import MAX_IDENTIFIER_BYTES, qualified, quote_identifier
from caspers_lib.lakebase.sync_spec import SyncSpec
from caspers_lib.service_names import (
    LAKEBASE_CATALOG,
    MAX_DISPLAY_NAME_CHARS,
    PROJECT_ID,
    UNITY_CATALOG_NAME,
    project_id,
)

if TYPE_CHECKING:
    from databricks.sdk.service.postgres import SyncedTable

__all__ = [
    "MAX_DISPLAY_NAME_CHARS",
    "ManagedPlace",
    "checked_branch",
    "checked_catalog",
    "checked_database",
    "checked_project",
    "checked_table_id",
    "differences",
    "production_branch",
    "project_id",
    "source_name",
    "spec_mismatches",
    "synced_table_id",
    "synced_table_request",
]

_BRANCH = re.compile(rf"projects/{PROJECT_ID.pattern}/branches/{PROJECT_ID.pattern}")
# It ends up in the path of a request, which the SDK doesn't quote; so does LAKEBASE_CATALOG.
_PLAIN = re.compile(rf"[A-Za-z0-9_]{{1,{MAX_IDENTIFIER_BYTES}}}")

_LETTERS = "It has 1 to {} ASCII letters, digits and underscores."
# What says how a table is made, not what it is.
_ONLY_AT_CREATION = {
    "accelerated_sync",
    "create_database_objects_if_missing",
    "existing_pipeline_id",
    "new_pipeline_spec",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedPlace:
    """Where in a workspace a synced table lives and what it uses there.

    Args:
        branch: the branch of the Lakebase project, `projects/x/branches/y`.
        catalog: the Lakebase catalog that the synced table is listed in.
        source_catalog: the catalog of a source that is named by schema and table alone.
        storage_catalog: an ordinary catalog, where the pipeline keeps its checkpoints.
        storage_schema: the schema there.

    Raises:
        SettingsError: a name that the service would not take.
    """

    branch: str
    catalog: str
    source_catalog: str
    storage_catalog: str
    storage_schema: str

    def __post_init__(self) -> None:
        """Refuse names before anything is created."""
        checked_branch(self.branch)
        checked_catalog(self.catalog)
        for what in ("source_catalog", "storage_catalog", "storage_schema"):
            _checked_unity_name(what, getattr(self, what), SettingsError)
        if self.storage_catalog.lower() == self.catalog.lower():
            raise SettingsError(
                f"storage_catalog is {self.storage_catalog!a}, which is the Lakebase catalog.",
                hint="A pipeline keeps its checkpoints in an ordinary catalog.",
            )


def production_branch(project: str) -> str:
    """The branch that every project is created with.

    Args:
        project: the project's id.

    Raises:
        SettingsError: it is no id of a project.
    """
    return f"projects/{checked_project(project)}/branches/production"


def source_name(spec: SyncSpec, source_catalog: str) -> str:
    """The source as `catalog.schema.table`.

    Args:
        spec: what is synced.
        source_catalog: the catalog of a source with two parts.

    Raises:
        SyncError: a part of the name is none of Unity Catalog's.
    """
    parts = spec.source.split(".")
    if len(parts) == 2:
        parts = [source_catalog, *parts]
    for part in parts:  # a fourth one would be empty, or the spec had been refused
        _checked_unity_name(f"A part of the source of {spec.name!a}", part, SyncError)
    return ".".join(parts)


def synced_table_id(spec: SyncSpec, place: ManagedPlace) -> str:
    """The name of a managed synced table in Unity Catalog, `catalog.schema.table`.

    Args:
        spec: what is synced.
        place: where.

    Raises:
        SyncError: the service takes no such schema or table.
    """
    _checked(f"The schema of {spec.name!a}", spec.schema, _PLAIN, SyncError)
    _checked(f"The table of {spec.name!a}", spec.table, _PLAIN, SyncError)
    return f"{place.catalog}.{spec.schema}.{spec.table}"


def synced_table_request(spec: SyncSpec, place: ManagedPlace) -> tuple[str, "SyncedTable"]:
    """What `w.postgres.create_synced_table` is asked for.

    JSON text stays text, dead letters and indexes are not made: `differences` names all of it.

    Args:
        spec: what is synced.
        place: where.

    Returns:
        The synced table's id, `catalog.schema.table`, and the request's body.

    Raises:
        SyncError: the spec asks for what a managed synced table can't do, or has a name that the
            service doesn't take.
    """
    from databricks.sdk.service import postgres

    _refuse_columns(spec)
    newest = () if spec.newest_by is None else (spec.newest_by,)
    for column in (*spec.keys, *newest):
        quote_identifier(column)
    _checked(f"The database of {spec.name!a}", spec.database, _PLAIN, SyncError)
    policy = postgres.SyncedTableSyncedTableSpecSyncedTableSchedulingPolicy[spec.mode.upper()]
    body = postgres.SyncedTableSyncedTableSpec(
        branch=place.branch,
        postgres_database=spec.database,
        source_table_full_name=source_name(spec, place.source_catalog),
        primary_key_columns=list(spec.keys),
        timeseries_key=spec.newest_by,
        scheduling_policy=policy,
        create_database_objects_if_missing=True,
        new_pipeline_spec=postgres.NewPipelineSpec(
            storage_catalog=place.storage_catalog, storage_schema=place.storage_schema
        ),
    )
    return synced_table_id(spec, place), postgres.SyncedTable(spec=body)


def differences(spec: SyncSpec) -> tuple[str, ...]:
    """What of a spec a managed synced table does otherwise than our own sync.

    Args:
        spec: what is synced.

    Returns:
        One sentence for each difference.

    Raises:
        SyncError: a name is too long for PostgreSQL or holds NUL.
    """
    target = qualified(spec.schema, spec.table)
    found = [
        f"{column} stays text: read it as {quote_identifier(column)}::jsonb."
        for column in spec.jsonb
    ]
    found += [
        f"An index is missing: CREATE INDEX ON {target} ({', '.join(map(quote_identifier, group))})"
        for group in spec.indexes
    ]
    if spec.newest_by is not None:
        found.append(
            f"Of all rows with one key the one with the greatest {spec.newest_by} counts,"
            " whatever commit it came with."
        )
    if target != target.lower():
        found.append(f"Unity Catalog keeps {spec.schema}.{spec.table} in lower case.")
    return (
        *found,
        "There are no dead letters: a row that PostgreSQL refuses may stop the whole sync.",
        "There is no row of positions: ask for synced_table_status.",
    )


def spec_mismatches(found: "SyncedTable", wanted: "SyncedTable") -> list[str]:
    """In what a synced table that exists is another one than the one that is wanted.

    What the service doesn't tell can't differ, and how the table was created doesn't matter.

    Args:
        found: what the service says; its documentation promises the status only.
        wanted: what it would be asked for.

    Returns:
        Texts such as `scheduling_policy is SNAPSHOT, not TRIGGERED`; empty if it is the same.
    """
    there, here = _told(found), _told(wanted)
    return [
        f"{field} is {there[field]}, not {here.get(field)}"
        for field in sorted(there)
        if there[field] != here.get(field)
    ]


def checked_project(project: str) -> str:
    """The same id, if a project can have it.

    Args:
        project: what is or should become a project's id.

    Raises:
        SettingsError: no project can have this id.
    """
    if not PROJECT_ID.fullmatch(project):
        raise SettingsError(
            f"project is {project!a}, which is no id of a project.",
            hint="project_id(name) makes one of any name.",
        )
    return project


def checked_branch(branch: str) -> str:
    """The same path, if a branch can have it.

    Args:
        branch: `projects/x/branches/y`.

    Raises:
        SettingsError: no branch can have this path.
    """
    if not _BRANCH.fullmatch(branch):
        raise SettingsError(
            f"branch is {branch!a}, which is no path of a branch.",
            hint="Write it as projects/<id>/branches/<id>.",
        )
    return branch


def checked_catalog(catalog: str) -> str:
    """The same name, if a Lakebase catalog can have it.

    Args:
        catalog: the catalog's name.

    Raises:
        SettingsError: no Lakebase catalog can have this name.
    """
    return _checked("catalog", catalog, LAKEBASE_CATALOG, SettingsError)


def checked_database(database: str) -> str:
    """The same name, if a database of a Lakebase catalog can have it.

    Args:
        database: the name of a PostgreSQL database.

    Raises:
        SettingsError: the service takes no such name.
    """
    return _checked("database", database, _PLAIN, SettingsError)


def checked_table_id(table: str) -> str:
    """The same id, if a managed synced table can have it.

    Args:
        table: `catalog.schema.table`.

    Raises:
        SettingsError: no managed synced table can have this id.
    """
    parts = table.split(".")
    patterns = (LAKEBASE_CATALOG, _PLAIN, _PLAIN)
    if len(parts) != 3 or not all(p.fullmatch(x) for p, x in zip(patterns, parts, strict=True)):
        raise SettingsError(
            f"{table!a} is no synced table.", hint="Write it as catalog.schema.table."
        )
    return table


def _refuse_columns(spec: SyncSpec) -> None:
    if spec.columns:
        raise SyncError(
            f"The synced table {spec.name!a} selects columns: {', '.join(spec.columns)!a}; a"
            " managed synced table has all of its source.",
            hint="Sync a source that has these columns alone.",
        )


def _told(table: "SyncedTable") -> dict[str, object]:
    """What is known of a synced table, by the names of the specification's fields."""
    spec = table.spec.as_dict() if table.spec else {}
    told = {field: value for field, value in spec.items() if field not in _ONLY_AT_CREATION}
    if isinstance(source := told.get("source_table_full_name"), str):
        told["source_table_full_name"] = source.lower()  # as Unity Catalog keeps names
    if isinstance(branch := told.get("branch"), str):
        told["project"] = branch.partition("/branches/")[0]
    if table.status and table.status.project:
        told["project"] = table.status.project
    return told


def _checked_unity_name(what: str, name: str, error: type[CaspersError]) -> None:
    if not UNITY_CATALOG_NAME.fullmatch(name):
        raise error(
            f"{what} is {name[:80]!a}, which Unity Catalog doesn't take.",
            hint="A name has 1 to 255 characters and no dot, slash, space or control character.",
        )


def _checked(what: str, name: str, pattern: re.Pattern[str], error: type[CaspersError]) -> str:
    if not pattern.fullmatch(name):
        hint = (
            "It has 1 to 255 ASCII letters, digits, underscores and hyphens."
            if pattern is LAKEBASE_CATALOG
            else _LETTERS.format(MAX_IDENTIFIER_BYTES)
        )
        raise error(f"{what} is {name[:80]!a}, which Lakebase doesn't take.", hint=hint)
    return name
